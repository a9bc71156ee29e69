#!/usr/bin/env python3
"""An upstream that answers every request with what it received, as JSON.

Usage: echo_upstream.py [PORT]    (127.0.0.1; 0: the kernel chooses; the first line of output names the address)
"""
import http.server
import json
import socketserver
import sys

BODY_MAX = 16 * 1024 * 1024


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "echo"
    sys_version = ""

    def read_chunked(self):
        body = b""
        while True:
            size = int(self.rfile.readline(1024).split(b";")[0], 16)
            if size > BODY_MAX - len(body):
                raise ValueError("body too large")
            body += self.rfile.read(size)
            line = self.rfile.readline(1024)
            if size == 0:
                while line.strip():
                    line = self.rfile.readline(8192)
                return body

    def read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self.read_chunked()
        length = int(self.headers.get("Content-Length", 0))
        if not 0 <= length <= BODY_MAX:
            raise ValueError("body too large")
        return self.rfile.read(length)

    def answer(self):
        try:
            body = self.read_body()
        except ValueError as e:
            self.close_connection = True
            self.send_error(400, str(e))
            return
        text = json.dumps(
            {
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode("utf-8", "replace"),
            },
            indent=2,
        )
        data = (text + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    try:
        server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Echo)
    except OSError as e:
        sys.exit(f"echo upstream: cannot listen: {e}")
    print("http://127.0.0.1:%d" % server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
