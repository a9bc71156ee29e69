"""Expressions in CEL over what nginx knows of a request. Language and statuses are in tests/unit/base and tests/conformance."""

import struct

import pytest
from support.nginx import filter_path, quote
from support import http1

EXPRESSIONS = {
    "q-method": "request.method",
    "q-path": "request.path",
    "q-rule": "request.method == 'GET' && request.url_path.startsWith('/a/') && request.headers['x-user'] in ['ann', 'bob']",
    "q-absent": "has(request.headers.nope) || has(response.code)",
    "q-code": "response.code",
    "q-joined": "request.headers['x-many']",
    "q-size": "size(request.headers.filter(h, h.startsWith('x-')))",
    "q-tls": "connection.mtls || source.address.startsWith('127.0.0.1:') && source.port > 0 && connection.id > 0u",
    "q-time": "request.time > timestamp('2020-01-01T00:00:00Z') && request.time.getFullYear() < 9999",
    "q-ngx": "ngx.request_uri == request.path && ngx['server_port'].matches('^[0-9]+$')",
    "q-plugin": "plugin_name",
    "code": "response.code",
    "headers": "response.headers['x-up'] == 'u' && request.protocol == 'HTTP/1.1'",
    "pairs": "{'a': request.query, 'b': ['c']}.filter(k, k == 'a')",
    "d-once": "1",
    "wrong": "request.nope",
    "absorbed": "request.nope == 1 || true",
    "refused": "1 +",
}
ALL = EXPRESSIONS.keys() - {"refused"}


def use(name="rules"):
    return f"proxy_wasm {name} {quote(chr(10).join(f'{k} {v}' for k, v in EXPRESSIONS.items()))};"


@pytest.fixture
def server(nginx):
    nginx.workers = 1
    nginx.start(
        f"""
        server {{
            listen 127.0.0.1:@PORT@;
            location / {{ {use()} proxy_pass http://127.0.0.1:@PORTbackend@; }}
            location /isolated/ {{ proxy_wasm_isolation request; {use()} proxy_pass http://127.0.0.1:@PORTbackend@; }}
            location /small/ {{ proxy_wasm_grants log headers-write foreign properties-read:request.method properties-read:response.*; {use()} proxy_pass http://127.0.0.1:@PORTbackend@; }}
        }}
        server {{ listen 127.0.0.1:@PORTbackend@; location / {{ add_header x-up u; return 200 ok; }} }}
        """,
        wasm=f"module rules {filter_path('expressions')};",
    )
    return nginx


def ask(nginx, path):
    response = http1.get(nginx.port(), path, [("x-user", "ann"), ("x-many", "1"), ("x-many", "2")])
    assert response.status == 200
    values = {}
    for name in ALL:
        status, _, value = response.get(f"x-{name}").partition(":")
        values[name] = bytes.fromhex(value) if status == "0" else int(status)
    return values, response


def test_expressions_see_the_request_and_its_response(server):
    values, response = ask(server, "/a/b?c=d")
    assert response.get("x-created") == str(len(ALL))
    assert values == {
        "q-method": b"GET",
        "q-path": b"/a/b?c=d",
        "q-rule": b"\x01",
        "q-absent": b"\x00",
        "q-code": 10,
        "q-joined": b"1,2",
        "q-size": struct.pack("<q", 2),
        "q-tls": b"\x01",
        "q-time": b"\x01",
        "q-ngx": b"\x01",
        "q-plugin": b"rules",
        "code": struct.pack("<q", 200),
        "headers": b"\x01",
        "pairs": struct.pack("<III", 1, 1, 0) + b"a\0\0",
        "d-once": struct.pack("<q", 1),
        "wrong": 10,
        "absorbed": b"\x01",
    }
    server.wait_log("expr_create: byte 3: expected a value")


def test_a_deleted_expression_is_unknown_to_later_requests(server):
    assert [ask(server, "/a/")[0]["d-once"] for _ in range(3)] == [struct.pack("<q", 1), 1, 1]


def test_isolated_requests_know_the_expressions_of_configure(server):
    for _ in range(3):
        values, _ = ask(server, "/isolated/x")
        assert (values["q-method"], values["d-once"], values["q-rule"]) == (b"GET", struct.pack("<q", 1), b"\x00")


def test_properties_that_are_not_granted_are_absent(server):
    values, _ = ask(server, "/small/x")
    assert (values["q-method"], values["code"]) == (b"GET", struct.pack("<q", 200))
    assert (values["q-path"], values["q-joined"], values["q-ngx"], values["headers"]) == (10, 10, 10, 10)
    assert (values["q-absent"], values["absorbed"]) == (b"\x00", b"\x01")
