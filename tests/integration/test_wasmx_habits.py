"""What filters that were written for WasmX count on from nginx, in its dialect."""

import json
import socket

import pytest

from support import http1, http2, probe


@pytest.fixture
def wasmx(nginx, upstream):
    def start(*lines, location=None, wasm="", http=""):
        place = location or f"proxy_pass http://127.0.0.1:{upstream.port};"
        server = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use(*lines)} location / {{ {place} }} }}"
        return nginx.start(server, http=http, wasm=f"proxy_wasm_dialect wasmx; {probe.module()} {wasm}")

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


WAYS = {"buffered": "", "unbuffered": "proxy_request_buffering off; proxy_http_version 1.1;", "small buffers": "client_body_buffer_size 1k;"}


@pytest.mark.parametrize("way", WAYS)
def test_a_request_body_comes_whole_and_at_once(wasmx, upstream, client, way):
    nginx = wasmx("request_body: replace $size", location=f"{WAYS[way]} proxy_pass http://127.0.0.1:{upstream.port};")
    assert json.loads(client.request(port(nginx, client), "POST", "/echo", [], b"x" * 100000).body)["body"] == "100000"
    chunks = [b"x" * 1000, b"y" * 30000]
    assert json.loads(client.request(port(nginx, client), "POST", "/echo", [], chunks=chunks).body)["body"] == "31000"


def test_a_body_that_is_larger_than_may_be_held_comes_in_pieces(wasmx, upstream, client):
    nginx = wasmx("request_body: add@req x-piece $eos", location=f"proxy_wasm_request_body_limit 20k; proxy_pass http://127.0.0.1:{upstream.port};")
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", [], b"x" * 90000).body)
    assert doc["body"] == "x" * 90000
    pieces = [value for name, value in doc["headers"] if name == "x-piece"]
    assert len(pieces) > 1 and pieces == ["0"] * (len(pieces) - 1) + ["1"]


def test_a_call_from_the_bodys_callback_decides_about_large_bodies_as_well(wasmx, upstream, client):
    call = f"http_call 127.0.0.1:{upstream.port} up /bytes/3 0"
    nginx = wasmx(f"request_body: {call}", "request_body: pause", "call_response: add@req x-answer yes", location=f"proxy_wasm_request_body_limit 20k; proxy_pass http://127.0.0.1:{upstream.port};")
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", [], b"x" * 15000).body)
    assert ["x-answer", "yes"] in doc["headers"] and doc["length"] == 15000
    assert client.request(port(nginx, client), "POST", "/echo", [], b"x" * 90000).status == 413


def test_request_headers_can_be_changed_while_the_body_is_read(wasmx, client):
    nginx = wasmx("request_body: add@req x-late yes", "request_body: set@req :path /echo/late")
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", [], b"x").body)
    assert ["x-late", "yes"] in doc["headers"] and doc["path"] == "/echo/late"


def test_a_response_of_no_bytes_has_its_body_callback(wasmx, client):
    nginx = wasmx("response_body: append filled", location="if ($arg_s) { return 204; } return 200;")
    response = client.get(port(nginx, client), "/")
    assert (response.status, response.body) == (200, b"filled") and response.complete
    assert client.get(port(nginx, client), "/?s=1").status == 204
    head = client.request(port(nginx, client), "HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    nginx.wait_log("on_log", 3)
    assert len(nginx.log_lines("on_response_body")) == 1


def test_the_request_body_can_be_read_from_the_log(wasmx):
    nginx = wasmx("log: buffer@req 0 99")
    http1.request(nginx.port(), "POST", "/echo", [], b"what was sent")
    nginx.wait_log("value=what was sent")


def test_a_query_that_was_set_is_read_back(wasmx, client):
    nginx = wasmx("request_headers: set_prop request.query z=1", "request_headers: prop request.query x-query")
    response = client.get(port(nginx, client), "/echo?q=1")
    assert response.get("x-query") == "z=1" and json.loads(response.body)["path"] == "/echo?z=1"


def test_the_status_of_a_call_that_failed_is_absent(wasmx, client):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{closed.getsockname()[1]}"
        nginx = wasmx(f"request_headers: http_call {place} up / 0", "request_headers: pause", "call_response: get :status", "call_response: note x-read $status", "call_response: get :dispatch_status x-why")
        response = client.get(port(nginx, client), "/bytes/1")
    assert (response.status, response.get("x-read"), response.get("x-why")) == (200, "1", "broken connection")


PLACES = {"\\e": "no host", "127.0.0.1:99999": "invalid port", "unix:": "no path in the unix domain socket"}


@pytest.mark.parametrize("place", PLACES)
def test_a_call_to_no_place_traps(wasmx, place):
    nginx = wasmx(f"request_headers: http_call {place} up / 0")
    assert http1.get(nginx.port(), "/bytes/1").status == 500
    nginx.wait_log(f"dispatch failed: tcp socket - {PLACES[place]}")


def test_hosts_can_be_added_where_no_resolver_is_named(wasmx, upstream, client):
    lines = f"request_headers: http_call added.test:{upstream.port} up /bytes/3 0", "request_headers: pause", "call_response: get :status x-status"
    nginx = wasmx(*lines, http="resolver_add 127.0.0.1 added.test;")
    assert client.get(port(nginx, client), "/bytes/1").get("x-status") == "200"
