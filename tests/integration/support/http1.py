"""A small HTTP/1.1 client over a socket that shows what really came."""

import socket
import time


class Response:
    def __init__(self, status, reason, headers, body=b"", trailers=(), complete=True, reset=False):
        self.status = status
        self.reason = reason
        self.headers = headers  # list of (lower-case name, value)
        self.body = body
        self.trailers = list(trailers)
        self.complete = complete  # the message ended as its framing says
        self.reset = reset

    def get(self, name):
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def trailer(self, name):
        for key, value in self.trailers:
            if key == name:
                return value
        return None

    @property
    def text(self):
        return self.body.decode()

    def __repr__(self):
        return f"<{self.status} {self.headers} {len(self.body)} bytes complete={self.complete}>"


class Closed(Exception):
    """The connection was closed before a whole response head came."""


class Connection:
    def __init__(self, port, host="127.0.0.1", timeout=20, tls=None, server_name="localhost"):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def send_request(self, method="GET", path="/", headers=(), body=None, chunks=None, host="localhost", length=None):
        names = {name.lower() for name, _ in headers}
        lines = [f"{method} {path} HTTP/1.1"]
        if "host" not in names:
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in headers]
        if chunks is not None:
            lines.append("Transfer-Encoding: chunked")
        elif body is not None or length is not None:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        self.send("\r\n".join(lines) + "\r\n\r\n")
        if chunks is not None:
            for chunk in chunks:
                self.send_chunk(chunk)
            self.send_chunk(b"")
        elif body:
            self.send(body)

    def send_chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            self.was_reset = True
            return False
        self.buffer += data
        return bool(data)

    was_reset = False

    def _line(self):
        while b"\r\n" not in self.buffer:
            if not self._more():
                return None
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def _headers(self):
        headers = []
        while True:
            line = self._line()
            if line is None:
                return None
            if line == "":
                return headers
            name, _, value = line.partition(":")
            headers.append((name.strip().lower(), value.strip()))

    def _exactly(self, n):
        while len(self.buffer) < n:
            if not self._more():
                data, self.buffer = self.buffer, b""
                return data, False
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data, True

    def _chunked(self):
        body = b""
        while True:
            line = self._line()
            if line is None:
                return body, [], False
            size = int(line.split(";")[0], 16)
            if size == 0:
                trailers = self._headers()
                return body, trailers or [], trailers is not None
            data, whole = self._exactly(size)
            body += data
            if not whole or self._line() is None:
                return body, [], False

    def read_head(self):
        while True:
            line = self._line()
            if line is None:
                raise Closed()
            _, status, reason = (line.split(" ", 2) + [""])[:3]
            headers = self._headers()
            if headers is None:
                raise Closed()
            if int(status) != 100:
                return Response(int(status), reason, headers)

    def read_body(self, response, method="GET"):
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return response
        if (response.get("transfer-encoding") or "").lower() == "chunked":
            response.body, response.trailers, response.complete = self._chunked()
        elif response.get("content-length") is not None:
            response.body, response.complete = self._exactly(int(response.get("content-length")))
        else:
            while self._more():
                pass
            response.body, self.buffer = self.buffer, b""
            response.complete = not self.was_reset
        response.reset = self.was_reset
        return response

    def read_response(self, method="GET"):
        return self.read_body(self.read_head(), method)

    def read_some(self, at_least, deadline=10):
        """Raw bytes, until there are so many."""
        end = time.monotonic() + deadline
        while len(self.buffer) < at_least and time.monotonic() < end and self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def at_end(self):
        """Whether the server closes without sending more."""
        return not self.buffer and not self._more()


def request(port, method="GET", path="/", headers=(), body=None, chunks=None, host="localhost", timeout=20):
    with Connection(port, timeout=timeout) as c:
        c.send_request(method, path, list(headers) + [("Connection", "close")], body, chunks, host)
        return c.read_response(method)


def get(port, path="/", headers=(), **more):
    return request(port, "GET", path, headers, **more)
