"""Bodies that filters give to messages without one: requests towards HTTP/1.0, 1.1 and FastCGI, responses to both protocols."""

import gzip
import hashlib
import json

import pytest

from support import http1, http2, probe
from support.upstream import payload

MAKE = "request_headers: set_buffer@req 0 0 MADE"
MAKE_RESPONSE = "response_headers: set_buffer@res 0 0 MADE"


@pytest.fixture
def proxy(nginx, upstream):
    def start(*filters, extra="", location=""):
        lines = "".join(filters)
        servers = f"""
        server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {lines}
                  location / {{ {location} proxy_pass http://127.0.0.1:{upstream.port}; }}
                  location /return {{ return 200; }}
                  location /static/ {{ alias html/; }} }}
        """
        (nginx.folder / "html/empty.txt").write_bytes(b"")
        nginx.start(servers, wasm=probe.module())
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def echo(nginx, client, method="GET", headers=(), **more):
    response = client.request(port(nginx, client), method, "/echo", headers, **more)
    assert response.complete and response.status == 200
    return json.loads(response.body)


def lengths(doc):
    return [value for name, value in doc["headers"] if name.lower() == "content-length"]


# ---- requests ----

WAYS = {"1.0": "", "1.1": "proxy_http_version 1.1;", "unbuffered": "proxy_http_version 1.1; proxy_request_buffering off;"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_request_without_a_body_gets_one(proxy, client, way, method):
    nginx = proxy(probe.use(MAKE), location=WAYS[way])
    doc = echo(nginx, client, method)
    assert (doc["method"], doc["body"], lengths(doc), doc["chunked"]) == (method, "MADE", ["4"], False)
    assert nginx.log_lines("on_request_body") == []


@pytest.mark.parametrize("hold", ["request_headers: pause", "request_headers: return 3", "request_headers: return 4"])
def test_a_made_body_waits_with_its_headers(proxy, client, hold):
    nginx = proxy(probe.use(*probe.TICKS, MAKE, hold))
    doc = echo(nginx, client)
    assert (doc["body"], lengths(doc)) == ("MADE", ["4"])


def test_a_body_can_be_made_when_a_call_has_answered(proxy, client, upstream):
    call = f"request_headers: http_call 127.0.0.1:{upstream.port} a /bytes/3 2000"
    nginx = proxy(probe.use(call, "request_headers: pause", "call_response: set_buffer@req 0 0 FETCHED", "call_response: resume"))
    doc = echo(nginx, client)
    assert (doc["body"], lengths(doc)) == ("FETCHED", ["7"])


def test_a_large_body_can_be_made_within_the_limit(proxy, client):
    nginx = proxy(probe.use("request_headers: set_buffer@req 0 0 abc", "request_headers: fill@req 700000 abc"), extra="proxy_wasm_request_body_limit 1m;")
    doc = echo(nginx, client)
    assert doc["sha256"] == hashlib.sha256((b"abc" * 300000)[:700000]).hexdigest()
    assert lengths(doc) == ["700000"]


def test_a_body_over_the_limit_is_not_made(proxy, client):
    nginx = proxy(probe.use("request_headers: fill@req 700000 abc", "request_headers: add@req x-status $status"), extra="proxy_wasm_request_body_limit 100k;")
    doc = echo(nginx, client)
    assert (doc["length"], lengths(doc)) == (0, [])
    assert ["x-status", "2"] in doc["headers"]


@pytest.mark.parametrize("hold", ["", "request_headers: pause", "request_body: pause", "request_body: return 2"])
def test_filters_behind_see_a_made_body_and_may_hold_and_change_it(proxy, client, hold):
    second = probe.use("request_headers: add@req x-eos $eos", "request_body: append !", hold, *probe.TICKS)
    third = probe.use("request_body: upper", "request_body: prepend >")
    nginx = proxy(probe.use(MAKE.replace("MADE", "made")), second, third)
    doc = echo(nginx, client)
    assert (doc["body"], lengths(doc)) == (">MADE!", ["6"])
    assert ["x-eos", "0"] in doc["headers"]


def test_a_filter_behind_may_answer_instead(proxy, client):
    nginx = proxy(probe.use(MAKE), probe.use("request_body: reply 403 no"))
    response = client.get(port(nginx, client), "/echo")
    assert (response.status, response.body) == (403, b"no")


def test_a_connection_is_used_again_after_made_bodies(proxy):
    nginx = proxy(probe.use(MAKE))
    with http1.Connection(nginx.port()) as c:
        for _ in range(3):
            c.send_request("GET", "/echo")
            assert json.loads(c.read_response().body)["body"] == "MADE"


def test_a_client_that_leaves_while_a_made_body_is_held_does_no_harm(proxy, client):
    nginx = proxy(probe.use(MAKE), probe.use("request_body: return 2"))
    with client.Connection(port(nginx, client)) as c:
        c.send_headers("GET", "/echo") if client is http2 else c.send_request("GET", "/echo")
        nginx.wait_log("on_request_body")
    nginx.wait_log("on_delete", 2)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_in_wasmx_a_made_body_takes_the_clients_place(proxy, client, way, chunked):
    nginx = proxy(probe.use(MAKE), probe.use("quiet"), extra="proxy_wasm_dialect wasmx;", location=WAYS[way])
    body = payload(50000)
    more = {"chunks": [body]} if chunked else {"body": body}
    doc = echo(nginx, client, "POST", **more)
    assert (doc["body"], lengths(doc), doc["chunked"]) == ("MADE", ["4"], False)
    assert len(nginx.log_lines("on_request_body size=4 eos=1")) == 1


def test_in_wasmx_the_filter_sees_the_body_that_it_made(proxy, client):
    nginx = proxy(probe.use(MAKE, "request_body: append !"), extra="proxy_wasm_dialect wasmx;")
    assert echo(nginx, client)["body"] == "MADE!"


# ---- responses ----

PATHS = {"upstream": "/bytes/0", "return": "/return", "static": "/static/empty.txt"}


@pytest.mark.parametrize("extra", ["", "proxy_buffering off;"])
@pytest.mark.parametrize("path", PATHS)
def test_a_response_without_a_body_gets_one(proxy, client, path, extra):
    nginx = proxy(probe.use(MAKE_RESPONSE), extra=extra)
    for _ in range(2):
        response = client.get(port(nginx, client), PATHS[path])
        assert response.complete
        assert (response.status, response.body, response.get("content-length")) == (200, b"MADE", "4")


@pytest.mark.parametrize("hold", ["response_headers: pause", "response_headers: return 3"])
@pytest.mark.parametrize("path", PATHS)
def test_a_made_response_body_waits_with_its_headers(proxy, client, path, hold):
    nginx = proxy(probe.use(*probe.TICKS, MAKE_RESPONSE, hold))
    response = client.get(port(nginx, client), PATHS[path])
    assert (response.complete, response.body, response.get("content-length")) == (True, b"MADE", "4")


@pytest.mark.parametrize("hold", ["", "response_headers: pause", "response_body: pause", "response_body: return 2"])
@pytest.mark.parametrize("path", PATHS)
def test_filters_behind_see_a_made_response_body_and_may_hold_it(proxy, client, path, hold):
    second = probe.use("response_headers: note x-eos $eos", "response_body: append !", hold, *probe.TICKS)
    nginx = proxy(probe.use(MAKE_RESPONSE.replace("MADE", "made")), second, probe.use("response_body: upper"))
    response = client.get(port(nginx, client), PATHS[path])
    assert (response.complete, response.body, response.get("content-length"), response.get("x-eos")) == (True, b"MADE!", "5", "0")


def test_a_made_response_body_is_compressed_like_others(proxy, client):
    nginx = proxy(probe.use(MAKE_RESPONSE, "response_headers: fill@res 50000 abc"), extra="gzip on; gzip_types text/plain; gzip_proxied any;")
    response = client.get(port(nginx, client), "/bytes/0", [("Accept-Encoding", "gzip")])
    assert response.get("content-encoding") == "gzip"
    assert gzip.decompress(response.body) == (b"abc" * 20000)[:50000]


@pytest.mark.parametrize("method,path", [("HEAD", "/bytes/0"), ("GET", "/status/204"), ("GET", "/status/304"), ("HEAD", "/return")])
def test_a_response_that_cannot_have_a_body_gets_none(proxy, client, method, path):
    nginx = proxy(probe.use(MAKE_RESPONSE, "response_headers: note x-status $status"))
    response = client.request(port(nginx, client), method, path)
    assert (response.complete, response.body, response.get("x-status")) == (True, b"", "2")


def test_a_local_reply_without_a_body_can_be_given_one_on_its_way_back(proxy, client):
    nginx = proxy(probe.use("request_headers: reply 403", MAKE_RESPONSE))
    response = client.get(port(nginx, client), "/echo")
    assert (response.complete, response.status, response.body, response.get("content-length")) == (True, 403, b"MADE", "4")
