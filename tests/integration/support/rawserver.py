"""A server whose answers are written byte by byte by the test: serve(connection) runs in a thread for each connection."""

import socket
import threading


class Connection:
    def __init__(self, sock, number):
        self.sock, self.number, self.data = sock, number, b""

    def request(self):
        """The next request: (first line, headers as a dictionary, body). None: the peer has closed."""
        while b"\r\n\r\n" not in self.data:
            if not self.more():
                return None
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self.data) < length:
            if not self.more():
                return None
        body, self.data = self.data[:length], self.data[length:]
        return first, headers, body

    def more(self):
        piece = self.sock.recv(65536)
        self.data += piece
        return piece

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, body=b"ok", extra=b""):
        self.send(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (extra, len(body), body))

    def closed(self):
        """Whether the peer closes without another word."""
        return self.sock.recv(1) == b""

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class RawServer:
    def __init__(self, serve, family=socket.AF_INET, address="127.0.0.1", tls=None):
        self.serve, self.tls = serve, tls
        self.listener = socket.socket(family)
        self.listener.bind((address, 0))
        self.listener.listen(256)
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        self.errors = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.one, args=(sock, self.connections), daemon=True).start()

    def one(self, sock, number):
        try:
            sock.settimeout(30)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            self.serve(Connection(sock, number))
        except OSError:
            pass  # the peer has gone, or the test has ended
        except Exception as e:  # noqa: BLE001
            self.errors.append(e)
        finally:
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        assert not self.errors, self.errors
