"""Other ways to an origin than proxy_pass: gRPC over HTTP/2 with trailers, FastCGI with its CONTENT_LENGTH."""

import socketserver
import struct
import threading

import pytest

from support import http1, http2, probe
from support.upstream import payload


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


@pytest.fixture
def grpc(nginx):
    def start(*lines):
        servers = f"""
        server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use(*lines, probe.EXEC)}
                  location / {{ grpc_pass grpc://127.0.0.1:@PORTorigin@; }} }}
        server {{ listen 127.0.0.1:@PORTorigin@ http2; add_trailer grpc-status 0 always; add_trailer x-origin yes always;
                  location / {{ return 200 "$request_method $uri $http_x_seen"; }}
                  location /big {{ alias html/big.txt; }} }}
        """
        (nginx.folder / "html/big.txt").write_bytes(payload(300000))
        nginx.start(servers, wasm=probe.module())
        return nginx

    return start


def test_grpc_passes_through_filters(grpc, client):
    nginx = grpc("request_headers: add x-seen yes", "response_headers: add x-f yes")
    response = client.request(port(nginx, client), "POST", "/svc/Method", [("Content-Type", "application/grpc"), ("TE", "trailers")], payload(1000))
    assert (response.status, response.body, response.get("x-f")) == (200, b"POST /svc/Method yes", "yes")


@pytest.mark.parametrize("hold", [(), ("response_headers: pause",), ("response_body: return 2",), ("response_trailers: return 1",), ("response_body: pause_until_eos", "response_trailers: pause")])
def test_grpc_trailers_are_shown_changed_and_held(grpc, hold):
    nginx = grpc(*probe.TICKS, "response_trailers: get grpc-status", "response_trailers: set x-origin changed", "response_trailers: add x-added new")
    response = http2.request(nginx.port("2"), "GET", "/big", [("te", "trailers"), *probe.do(*hold)])
    assert response.complete and response.body == payload(300000)
    assert sorted(response.trailers) == [("grpc-status", "0"), ("x-added", "new"), ("x-origin", "changed")]
    assert nginx.log_lines("get grpc-status = 0 value=0")


def test_the_grpc_status_is_a_property(grpc):
    nginx = grpc("log: prop response.grpc_status", "log: log grpc=$hex")
    http2.request(nginx.port("2"), "POST", "/x", [("te", "trailers")], b"x")
    nginx.wait_log("grpc=0000000000000000")


@pytest.mark.parametrize("hold", ["", "request_headers: pause"])
def test_a_body_made_for_a_request_without_one_reaches_a_grpc_origin(nginx, client, hold):
    servers = f"""
    server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2;
              {probe.use(*probe.TICKS, "request_headers: set_buffer@req 0 0 MADE", hold)}
              location / {{ grpc_pass grpc://127.0.0.1:@PORTorigin@; }} }}
    server {{ listen 127.0.0.1:@PORTorigin@ http2; add_header x-length $content_length always; add_header x-got $request_body always;
              location / {{ proxy_pass http://127.0.0.1:@PORTempty@; }} }}
    server {{ listen 127.0.0.1:@PORTempty@; location / {{ return 204; }} }}
    """
    nginx.start(servers, wasm=probe.module())
    response = client.get(port(nginx, client), "/", [("TE", "trailers")])
    assert (response.get("x-length"), response.get("x-got")) == ("4", "MADE")


# ---- FastCGI ----


class FastCgi(socketserver.StreamRequestHandler):
    """Answers with the method, the length that it was told, and the body."""

    def record(self, kind, content):
        self.wfile.write(struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content)

    def handle(self):
        params, body = b"", b""
        while True:
            head = self.rfile.read(8)
            if len(head) < 8:
                return
            _, kind, _, length, padding = struct.unpack("!BBHHBx", head)
            content = self.rfile.read(length)
            self.rfile.read(padding)
            if kind == 4:
                params += content
            elif kind == 5 and length:
                body += content
            elif kind == 5:
                break
        told = self.param(params, b"CONTENT_LENGTH")
        answer = b"Status: 200\r\nContent-Type: text/plain\r\n\r\n" + told + b"|" + body
        for i in range(0, len(answer), 30000):
            self.record(6, answer[i : i + 30000])
        self.record(6, b"")
        self.record(3, b"\0" * 8)

    @staticmethod
    def param(data, name):
        at = 0
        while at < len(data):
            lengths = []
            for _ in range(2):
                n = data[at]
                if n & 0x80:
                    n = struct.unpack("!I", data[at : at + 4])[0] & 0x7FFFFFFF
                    at += 3
                at += 1
                lengths.append(n)
            key, value = data[at : at + lengths[0]], data[at + lengths[0] : at + sum(lengths)]
            at += sum(lengths)
            if key == name:
                return value
        return b""


@pytest.fixture
def fastcgi(nginx):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), FastCgi)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def start(*lines):
        location = f"location / {{ fastcgi_pass 127.0.0.1:{server.server_address[1]}; fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param REQUEST_METHOD $request_method; }}"
        nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use(*lines, probe.EXEC)} {location} }}", wasm=probe.module())
        return nginx

    yield start
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("body", [b"hello", payload(50000)])
def test_fastcgi_is_told_the_length_that_filters_made(fastcgi, client, body):
    nginx = fastcgi()
    assert client.request(port(nginx, client), "POST", "/", body=body).body == b"%d|" % len(body) + body
    lines = ("request_body: pause_until_eos", "request_body@eos: append !!")
    assert client.request(port(nginx, client), "POST", "/", probe.do(*lines), body).body == b"%d|" % (len(body) + 2) + body + b"!!"


def test_fastcgi_is_told_the_length_though_a_filter_removed_the_header(fastcgi, client):
    nginx = fastcgi()
    lines = ("request_headers: remove content-length", "request_body: pause_until_eos", "request_body@eos: replace new")
    assert client.request(port(nginx, client), "POST", "/", probe.do(*lines), b"hello").body == b"3|new"


def test_a_fastcgi_response_is_held_and_changed(fastcgi, client):
    nginx = fastcgi(*probe.TICKS)
    lines = ("response_headers: pause", "response_body: pause_until_eos", "response_body@eos: prepend >")
    assert client.request(port(nginx, client), "POST", "/", probe.do(*lines), b"hello").body == b">5|hello"
