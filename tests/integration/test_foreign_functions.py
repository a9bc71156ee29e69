"""Foreign functions through nginx: names, and what needs the proxy. The rest is in tests/conformance."""

import socket

import pytest

from support import http1, http2, probe
from support.upstream import payload
from test_http_calls import dns_server

ANSWER = ("foreign_function: note x-hex $ctx", "foreign_function: body", "foreign_function: note x-answer $hex", "foreign_function: resume")


@pytest.fixture
def server(nginx, upstream):
    def start(*lines, wasm="", extra=""):
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {probe.use(*lines, probe.EXEC)} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
        nginx.start(servers, wasm=probe.module() + wasm)
        return nginx

    return start


@pytest.fixture
def dns():
    sock = dns_server({"some.name": "10.1.2.3"})
    yield f"resolver 127.0.0.1:{sock.getsockname()[1]} ipv6=off;"
    sock.close()


def ask(nginx, client, *lines):
    return client.get(nginx.port("2" if client is http2 else "main"), "/bytes/5", probe.do(*lines))


@pytest.mark.parametrize("function", ["resolve_host", "resolve_lua"])
def test_a_name_is_resolved_while_the_request_waits(server, client, dns, function):
    nginx = server(*ANSWER, wasm=dns)
    for _ in range(2):  # the second time, the resolver knows it
        response = ask(nginx, client, f"request_headers: foreign {function} some.name x-now", "request_headers: pause")
        assert (response.status, response.body) == (200, payload(5))
        assert response.get("x-answer") == (b"\x04\x0a\x01\x02\x03some.name").hex()


def test_a_name_that_does_not_exist_has_no_address(server, client, dns):
    nginx = server(*ANSWER, wasm=dns)
    response = ask(nginx, client, "request_headers: foreign resolve_host other.name", "request_headers: pause")
    assert response.get("x-answer") == (b"\0other.name").hex()


def test_wasmx_filters_go_on_by_themselves(server, client, dns):
    nginx = server("foreign_function: log resolved", wasm=dns, extra="proxy_wasm_dialect wasmx;")
    response = ask(nginx, client, "request_headers: foreign resolve_lua some.name", "request_headers: pause")
    assert response.body == payload(5)
    assert nginx.log_lines("resolved")


def test_a_client_that_leaves_drops_its_answer(server, nginx):
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    try:
        nginx = server(*ANSWER, "foreign_function: log resolved", wasm=f"resolver 127.0.0.1:{silent.getsockname()[1]} ipv6=off; resolver_timeout 1s;")
        with socket.create_connection(("127.0.0.1", nginx.port())) as sock:
            sock.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: a\r\nx-do: request_headers: foreign resolve_host some.name;request_headers: pause\r\n\r\n")
            silent.recvfrom(512)
        assert ask(nginx, http1).body == payload(5)
        nginx.wait_log("on_delete")
        assert not nginx.log_lines("on_foreign_function")
    finally:
        silent.close()


def test_root_contexts_resolve_at_start(server, dns):
    nginx = server("configure: foreign resolve_host some.name", "foreign_function: body", "foreign_function: log resolved $hex", wasm=dns)
    nginx.wait_log("resolved 040a010203")


def test_without_a_resolver_it_is_a_status(server, client):
    nginx = server()
    response = ask(nginx, client, "request_headers: foreign resolve_host some.name", "request_headers: status x-status")
    assert response.get("x-status") == "10"


def test_compressed_text_comes_back(server, client):
    nginx = server()
    lines = ("request_headers: foreign compress aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "request_headers: foreign uncompress $value x-text")
    assert ask(nginx, client, *lines).get("x-text") == "a" * 32
