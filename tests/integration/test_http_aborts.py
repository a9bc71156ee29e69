"""Clients that leave at any point, many at once, in every phase: nothing may leak, hang or disturb the others."""

import random
import signal
import socket
import threading
import time

import pytest

from support import http1, http2, probe
from support.nginx import Nginx
from support.upstream import payload

HOLDS = [
    (),
    ("request_headers: pause",),
    ("request_headers: return 3",),
    ("request_body: pause_until_eos", "request_body@eos: append !"),
    ("request_body: return 2",),
    ("response_headers: pause",),
    ("response_headers: return 3",),
    ("response_body: pause_until_eos", "response_body@eos: prepend >"),
    ("response_body: return 2",),
    ("request_headers: http_call named a /slow/3/10 2000", "request_headers: pause"),
    ("response_headers: http_call named a /slow/3/10 2000", "response_headers: pause"),
    ("response_headers: reply 403 no",),
    ("request_body@eos: reply 403 no",),
    ("response_headers: close",),
    ("response_body@eos: close",),
    ("response_trailers: pause",),
    ("response_body@eos: add@rest x-t 1", "response_body@eos: pause"),
]
PATHS = ["/bytes/100", "/bytes/200000", "/chunked/50000/333", "/slow/5/10", "/nolength/5000", "/trailers/100", "/abort/100", "/u/bytes/100000", "/u/slow/5/10", "/static/big.txt", "/return"]


@pytest.fixture
def server(tmp_path, upstream):
    nginx = Nginx(tmp_path, level="warn")
    (nginx.folder / "html/big.txt").write_bytes(payload(400000))
    up = f"http://127.0.0.1:{upstream.port}"
    locations = f"""
    location / {{ proxy_pass {up}; }}
    location /u/ {{ proxy_pass {up}/; proxy_buffering off; proxy_request_buffering off; proxy_http_version 1.1; }}
    location /static/ {{ alias html/; }}
    location /return {{ return 200 returned; }}
    """
    filters = probe.use("quiet", "configure: tick 20", "tick: resume", "call_response: resume", probe.EXEC)
    http = f"client_max_body_size 10m; upstream named {{ server 127.0.0.1:{upstream.port}; }}"
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; proxy_wasm_headers_stop_iteration on; proxy_wasm_request_body_limit 8m; proxy_wasm_response_body_limit 8m; {filters} {locations} }}"
    nginx.start(servers, http=http, wasm=probe.module())
    yield nginx
    nginx.allow("prematurely closed", "upstream")
    nginx.stop()


def one_http1(port, rng):
    with http1.Connection(port) as c:
        body = payload(rng.choice([0, 10, 5000, 300000])) if rng.random() < 0.5 else None
        cut = rng.random() < 0.3
        c.send_request("POST" if body is not None else "GET", rng.choice(PATHS), probe.do(*rng.choice(HOLDS)), None, length=len(body) if body is not None else None)
        if body:
            c.send(body[: len(body) // 2] if cut else body)
        time.sleep(rng.random() * 0.05)
        if rng.random() < 0.5:
            if rng.random() < 0.5:
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # resets
            return
        if not cut:
            c.read_response("POST" if body is not None else "GET")


def one_http2(port, rng):
    with http2.Connection(port) as c:
        streams = []
        for _ in range(rng.randrange(1, 8)):
            body = payload(rng.choice([10, 5000, 60000])) if rng.random() < 0.4 else None
            stream = c.send_headers("POST" if body else "GET", rng.choice(PATHS), probe.do(*rng.choice(HOLDS)), end=body is None)
            streams.append(stream)
            if body:
                c.send_data(stream, body[: rng.randrange(len(body))], end=rng.random() < 0.7)
            if rng.random() < 0.2:
                c.reset(stream)
                streams.remove(stream)
        time.sleep(rng.random() * 0.05)
        if rng.random() < 0.5:
            return
        c.sock.settimeout(1)
        for stream in streams:
            c.finish(stream)


def hammer(port, one, seed, end):
    rng = random.Random(seed)
    while time.monotonic() < end:
        try:
            one(port, rng)
        except Exception:  # noqa: BLE001 - whatever happens to such a client is its own fault
            pass


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_clients_that_leave_anywhere_do_no_harm(server, upstream, seconds):
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=hammer, args=(server.port(), one_http1, i, end)) for i in range(6)]
    threads += [threading.Thread(target=hammer, args=(server.port("2"), one_http2, i, end)) for i in range(6)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        assert http1.get(server.port(), "/bytes/1000", probe.do("response_headers: pause")).body == payload(1000)
        assert http2.get(server.port("2"), "/bytes/1000", probe.do("request_headers: pause")).body == payload(1000)
    for thread in threads:
        thread.join(30)
    assert http1.get(server.port(), "/bytes/10").body == payload(10)


@pytest.mark.parametrize("phase", ["request_headers: pause", "request_body: return 2", "response_headers: pause", "response_body: return 2"])
def test_an_upstream_that_leaves_while_the_stream_waits(server, upstream, client, phase):
    port = server.port("2" if client is http2 else "main")
    for path in ("/abort/100", "/u/abort/100"):
        try:
            response = client.request(port, "POST", path, probe.do(phase), b"hello")
            assert response.status in (200, 502) and not response.complete or response.status == 502
        except http1.Closed:
            pass
    assert client.get(port, "/bytes/10").body == payload(10)


def test_a_pipelined_request_waits_for_the_one_before_it(server):
    with http1.Connection(server.port()) as c:
        c.send_request("GET", "/bytes/10", probe.do("request_headers: pause"))
        c.send_request("GET", "/bytes/20", probe.do("response_headers: pause"))
        assert c.read_response().body == payload(10)
        assert c.read_response().body == payload(20)


@pytest.mark.parametrize("phase", ["request_headers: pause", "request_body: return 2", "response_headers: pause", "response_body: return 2"])
def test_a_worker_that_must_end_at_once_ends_with_streams_that_wait(tmp_path, upstream, client, phase):
    nginx = Nginx(tmp_path)
    nginx.leaks = False  # nginx itself leaves its connections then
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use(probe.EXEC)} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
    nginx.start(servers, wasm=probe.module())
    with client.Connection(nginx.port("2" if client is http2 else "main")) as c:
        if client is http2:
            stream = c.send_headers("POST", "/bytes/1000", probe.do(phase), end=False)
            c.send_data(stream, b"hello", end=True)
        else:
            c.send_request("POST", "/bytes/1000", probe.do(phase), b"hello")
        nginx.wait_log("on_" + phase.split(":")[0])
        nginx.stop(signal.SIGTERM)
