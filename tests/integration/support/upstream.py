"""
An origin server whose behaviour is in the path. Answers `Connection: close`.

    /echo...            JSON: method, path, headers (list of pairs), body (latin-1), sha256, chunked
    /bytes/N            N bytes with Content-Length
    /chunked/N/M        N bytes in chunks of M
    /nolength/N         N bytes until the connection ends
    /slow/N/MS          N pieces "piece-i\n" with a pause of MS milliseconds between, chunked
    /slowlength/N/MS    the same with Content-Length
    /abort/N            says 100000 bytes, sends N and closes
    /gzip/N             N bytes, compressed, Content-Encoding: gzip
    /trailers/N         N bytes chunked, then x-trailer: t1, x-second: t2
    /status/CODE        that status with a short body (none for 204 and 304)
    /etag/N             N bytes with ETag, Last-Modified, Accept-Ranges and Set-Cookie twice
    /sse                events without end, each 50 ms, until the client goes
    /hang               reads the request and never answers
    /early              answers 200 as soon as the headers are there, and closes
    /headers?a=b&c=d    these response headers
"""

import gzip
import hashlib
import json
import socket
import socketserver
import threading
import time
from urllib.parse import parse_qsl, urlsplit


def payload(n):
    """n bytes that differ along the way."""
    line = b"%015d\n"
    return b"".join(line % i for i in range(n // 16 + 1))[:n]


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        try:
            self.serve()
        except (ConnectionError, socket.timeout, ValueError):
            pass

    def read_head(self):
        line = self.rfile.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return False
        self.method, self.target, self.version = line.split(" ")
        self.headers = []
        while True:
            line = self.rfile.readline().decode("latin-1").rstrip("\r\n")
            if not line:
                return True
            name, _, value = line.partition(":")
            self.headers.append((name.lower(), value.strip()))

    def header(self, name):
        return next((v for n, v in self.headers if n == name), None)

    def read_body(self):
        self.chunked = (self.header("transfer-encoding") or "").lower() == "chunked"
        if not self.chunked:
            return self.rfile.read(int(self.header("content-length") or 0))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body
            body += data

    def send(self, status, headers, body=b"", length=True):
        head = [f"HTTP/1.1 {status} X", "Connection: close"] + [f"{n}: {v}" for n, v in headers]
        if length:
            head.append(f"Content-Length: {len(body)}")
        self.wfile.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        if self.method != "HEAD":
            self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def serve(self):
        if not self.read_head():
            return
        url = urlsplit(self.target)
        name, *args = url.path.strip("/").split("/")
        server = self.server
        with server.lock:
            server.seen.append((self.method, self.target, self.headers))
        if name == "early":
            self.send(200, [("Content-Type", "text/plain")], b"early")
            return
        body = self.read_body()
        with server.lock:
            server.bodies.append(body)
        getattr(self, "do_" + name, self.do_echo)(url, body, *args)

    TEXT = ("Content-Type", "text/plain")

    def do_echo(self, url, body, *args):
        doc = {
            "method": self.method,
            "path": self.target,
            "headers": self.headers,
            "body": body.decode("latin-1") if len(body) < 100000 else None,
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "chunked": self.chunked,
        }
        self.send(200, [("Content-Type", "application/json")], json.dumps(doc).encode())

    def do_bytes(self, url, body, n):
        self.send(200, [self.TEXT], payload(int(n)))

    def do_etag(self, url, body, n):
        extra = [("ETag", '"abc"'), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"), ("Accept-Ranges", "bytes")]
        self.send(200, [self.TEXT, *extra, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], payload(int(n)))

    def do_chunked(self, url, body, n, size):
        self.send(200, [self.TEXT, ("Transfer-Encoding", "chunked")], length=False)
        data = payload(int(n))
        for i in range(0, len(data), int(size)):
            self.chunk(data[i : i + int(size)])
        self.chunk(b"")

    def do_nolength(self, url, body, n):
        self.send(200, [self.TEXT], payload(int(n)), length=False)

    def do_slow(self, url, body, n, ms):
        self.send(200, [self.TEXT, ("Transfer-Encoding", "chunked")], length=False)
        for i in range(int(n)):
            self.chunk(b"piece-%d\n" % i)
            time.sleep(int(ms) / 1000)
        self.chunk(b"")

    def do_slowlength(self, url, body, n, ms):
        pieces = [b"piece-%d\n" % i for i in range(int(n))]
        self.send(200, [self.TEXT, ("Content-Length", len(b"".join(pieces)))], length=False)
        for piece in pieces:
            self.wfile.write(piece)
            time.sleep(int(ms) / 1000)

    def do_abort(self, url, body, n):
        self.send(200, [self.TEXT, ("Content-Length", "100000")], payload(int(n)), length=False)

    def do_gzip(self, url, body, n):
        self.send(200, [self.TEXT, ("Content-Encoding", "gzip")], gzip.compress(payload(int(n)), mtime=0))

    def do_trailers(self, url, body, n):
        extra = [self.TEXT, ("Transfer-Encoding", "chunked"), ("Trailer", "x-trailer, x-second")]
        self.send(200, extra, length=False)
        self.chunk(payload(int(n)))
        self.wfile.write(b"0\r\nx-trailer: t1\r\nx-second: t2\r\n\r\n")

    def do_status(self, url, body, code):
        bodiless = code in ("204", "304")
        text = b"" if bodiless else f"status {code}\n".encode()
        self.send(int(code), [] if bodiless else [self.TEXT], text, length=not bodiless)

    def do_headers(self, url, body):
        self.send(200, [self.TEXT] + parse_qsl(url.query), b"headers\n")

    def do_sse(self, url, body):
        self.send(200, [("Content-Type", "text/event-stream")], length=False)
        for i in range(10000):
            self.wfile.write(b"data: %d\n\n" % i)
            time.sleep(0.05)

    def do_hang(self, url, body):
        self.server.hanging.set()
        self.connection.settimeout(60)
        if self.connection.recv(1) == b"":
            self.server.gone.set()


class Upstream(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.lock = threading.Lock()
        self.seen, self.bodies = [], []
        self.hanging, self.gone = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass

    def forget(self):
        with self.lock:
            self.seen.clear()
            self.bodies.clear()
        self.hanging.clear()
        self.gone.clear()

    def stop(self):
        self.shutdown()
        self.server_close()
