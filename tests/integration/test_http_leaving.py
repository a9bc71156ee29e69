"""A client that leaves in one certain phase: each context is logged and deleted, the request does not stay, nothing is left at the end."""

import socket
import struct

import pytest

from support import http1, http2, probe
from support.nginx import stopped, version
from support.upstream import payload

@pytest.fixture
def server(nginx, upstream):
    def start(*lines):
        nginx.workers = 1
        up = f"http://127.0.0.1:{upstream.port}"
        locations = f"""
        location / {{ proxy_pass {up}; }}
        location /made {{ return 200 "made here"; }}
        location /u/ {{ proxy_pass {up}/; proxy_buffering off; proxy_request_buffering off; proxy_http_version 1.1; }}
        """
        nginx.start(
            f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; client_max_body_size 10m; {probe.use(*lines)} {locations} }}",
            wasm=probe.module(),
        )
        return nginx

    return start


class Client:
    """One request, and ways to leave."""

    def __init__(self, nginx, protocol):
        self.h2 = protocol in ("http2", "rst_stream")
        self.protocol = protocol
        self.c = (http2 if self.h2 else http1).Connection(nginx.port("2" if self.h2 else "main"))

    def send(self, method, path, length=None, body=b""):
        headers = [("TE", "trailers")]
        if self.h2:
            extra = [("content-length", str(length))] if length is not None else []
            self.stream = self.c.send_headers(method, path, headers + extra, end=length is None)
            if body:
                self.c.send_data(self.stream, body)
        else:
            self.c.send_request(method, path, headers, length=length)
            if body:
                self.c.send(body)

    def read_some(self):
        """Until the beginning of the response is there."""
        if not self.h2:
            self.c.read_some(1)
            return
        while self.c.streams[self.stream].status is None:
            assert self.c.pump()

    def leave(self):
        if self.protocol == "rst_stream":
            self.c.reset(self.stream)
            return
        if self.protocol == "tcp_reset":
            self.c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.c.close()


LEAVES = ["http1", "tcp_reset", "http2", "rst_stream"]

# name: lines of the filter, method, path, announced length, bytes sent, what the log shows when it is time to leave
PHASES = {
    "request headers paused": (("request_headers: pause",), "GET", "/bytes/10", None, b"", "on_request_headers"),
    "request headers paused, body unread": (("request_headers: pause",), "POST", "/echo", 1000, b"half", "on_request_headers"),
    "request headers paused, body read": (("request_headers: return 3",), "POST", "/echo", 1000, b"half", "on_request_headers"),
    "request body partly": (("request_body: log seen",), "POST", "/u/echo", 1000, b"half", "on_request_body"),
    "request body partly, buffered": (("request_body: pause_until_eos",), "POST", "/u/echo", 1000, b"half", "on_request_body"),
    "request body paused": (("request_body: return 2",), "POST", "/echo", 4, b"full", "on_request_body"),
    "waiting for the upstream": (("quiet",), "GET", "/hang", None, b"", None),
    "response headers paused": (("response_headers: pause",), "GET", "/bytes/3000", None, b"", "on_response_headers"),
    "response headers paused, unbuffered": (("response_headers: pause",), "GET", "/u/bytes/300000", None, b"", "on_response_headers"),
    "response headers paused, body read": (("response_headers: return 3",), "GET", "/u/slow/100/20", None, b"", "on_response_headers"),
    "response body partly sent": (("response_body: upper",), "GET", "/u/sse", None, b"", "read"),
    "response body paused": (("response_body: return 2",), "GET", "/bytes/3000", None, b"", "on_response_body"),
    "trailers paused": (("response_body@eos: add@rest x-t 1", "response_body@eos: pause"), "GET", "/bytes/30", None, b"", "on_response_body"),
    "call in flight": (("request_headers: http_call @UP@ a /hang 1500", "request_headers: pause"), "GET", "/bytes/3", None, b"", "http_call"),
}


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("phase", PHASES)
def test_a_client_leaves(server, upstream, phase, leave):
    lines, method, path, length, body, sign = PHASES[phase]
    nginx = server(*(line.replace("@UP@", f"127.0.0.1:{upstream.port}") for line in lines), *([] if "quiet" in lines else ["delete: log gone"]))
    client = Client(nginx, leave)
    client.send(method, path, length, body)
    if sign is None:
        assert upstream.hanging.wait(20)
    elif sign == "read":
        client.read_some()
    else:
        nginx.wait_log(sign)
    client.leave()
    if "quiet" in lines:
        assert upstream.gone.wait(20)
    else:
        nginx.wait_log("log gone")
        nginx.wait_log("on_delete")
        assert [len(nginx.log_lines(name)) for name in ("on_log", "on_done", "on_delete")] == [1, 1, 1]
    client.c.close()


# Of those, and one where nginx has nothing else to wait for: the client's end is there when the request is read.
AT_ONCE = {
    **{name: PHASES[name] for name in ("request headers paused", "request body paused", "response headers paused", "response body paused", "call in flight")},
    "response headers paused, no upstream": (("response_headers: pause",), "GET", "/made", None, b"", None),
    "response body paused, no upstream": (("response_body: return 2",), "GET", "/made", None, b"", None),
}


@pytest.mark.parametrize("leave", ["http1", "http2"])
@pytest.mark.parametrize("phase", AT_ONCE)
def test_a_client_has_left_before_his_request_is_read(server, upstream, phase, leave):
    lines, method, path, length, body, _ = AT_ONCE[phase]
    nginx = server(*(line.replace("@UP@", f"127.0.0.1:{upstream.port}") for line in lines), "delete: log gone")
    with stopped(nginx.one_worker()):
        client = Client(nginx, leave)
        client.send(method, path, length, body)
        client.leave()
    nginx.wait_log("log gone")
    assert [len(nginx.log_lines(name)) for name in ("on_log", "on_done", "on_delete")] == [1, 1, 1]


@pytest.mark.parametrize("leave", LEAVES)
def test_a_client_leaves_while_response_trailers_are_held(server, leave):
    if leave in ("http1", "tcp_reset") and version() < (1, 27, 2):
        pytest.skip("nginx before 1.27.2 does not pass trailers of an HTTP/1.1 upstream")
    nginx = server("response_body@eos: add@rest x-t 1", "response_trailers: pause", "delete: log gone")
    client = Client(nginx, leave)
    client.send("GET", "/bytes/30")
    nginx.wait_log("on_response_body")
    client.leave()
    nginx.wait_log("log gone")
    client.c.close()


@pytest.mark.parametrize("leave", LEAVES)
def test_others_on_the_same_connection_or_worker_go_on(server, leave):
    nginx = server("request_headers?x-hold: pause", "delete: log gone")
    client = Client(nginx, leave)
    client.send("GET", "/bytes/10")
    if leave == "rst_stream":
        held = client.c.send_headers("GET", "/bytes/10", [("x-hold", "1")])
        nginx.wait_log("on_request_headers", 2)
        client.c.reset(held)
        assert client.c.finish(client.stream).body == payload(10)
        again = client.c.send_headers("GET", "/bytes/20", [])
        assert client.c.finish(again).body == payload(20)
    else:
        nginx.wait_log("on_request_headers")
        client.leave()
    client.c.close()
    assert http1.get(nginx.port(), "/bytes/2000").body == payload(2000)
    assert http2.get(nginx.port("2"), "/bytes/2000").body == payload(2000)
