"""An HTTP/2 client over plain TCP (prior knowledge), one request for each connection unless asked otherwise."""

import socket

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .http1 import Closed, Response


class Connection:
    def __init__(self, port, host="127.0.0.1", timeout=20, tls=None, server_name="localhost"):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        self.streams = {}
        self.corked = False  # what is sent waits for the next flush without it
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def flush(self):
        data = b"" if self.corked else self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def send_headers(self, method="GET", path="/", headers=(), host="localhost", end=True):
        stream = self.h2.get_next_available_stream_id()
        names = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]
        self.h2.send_headers(stream, names + [(n.lower(), v) for n, v in headers], end_stream=end)
        self.streams[stream] = Response(None, "", [], complete=False)
        self.flush()
        return stream

    def send_data(self, stream, data, end=False):
        view = memoryview(data)
        while len(view):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(view))
            if room == 0:
                if not self.pump() or self.streams[stream].reset:
                    return
                continue
            self.h2.send_data(stream, bytes(view[:room]))
            self.flush()
            view = view[room:]
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def reset(self, stream):
        self.h2.reset_stream(stream)
        self.flush()

    def pump(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            for response in self.streams.values():
                if not response.complete:
                    response.reset = True
            return False
        for event in self.h2.receive_data(data):
            self.handle(event)
        self.flush()
        return True

    def handle(self, event):
        response = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ResponseReceived):
            response.headers = [(n, v) for n, v in event.headers if not n.startswith(":")]
            response.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            response.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            response.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            response.complete = True
        elif isinstance(event, h2.events.StreamReset):
            response.reset = True

    def finish(self, stream):
        response = self.streams[stream]
        while not response.complete and not response.reset:
            if not self.pump():
                break
        if response.status is None:
            raise Closed()
        return response


def request(port, method="GET", path="/", headers=(), body=None, chunks=None, host="localhost", timeout=20, together=False):
    """together: headers and a small body leave at once, so that the body is there before anybody can have answered."""
    with Connection(port, timeout=timeout) as c:
        c.corked = together
        pieces = list(chunks) if chunks is not None else ([body] if body else [])
        extra = [("content-length", str(len(body)))] if body is not None and chunks is None else []
        stream = c.send_headers(method, path, list(headers) + extra, host, end=not pieces and chunks is None)
        try:
            for piece in pieces:
                c.send_data(stream, piece)
            if pieces or chunks is not None:
                c.send_data(stream, b"", end=True)
            c.corked = False
            c.flush()
        except (h2.exceptions.StreamClosedError, BrokenPipeError, ConnectionResetError):
            pass
        return c.finish(stream)


def get(port, path="/", headers=(), **more):
    return request(port, "GET", path, headers, **more)
