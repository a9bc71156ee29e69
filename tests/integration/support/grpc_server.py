"""A gRPC server (grpcio) whose messages are plain bytes. Service test.Service; what its methods do is written at each."""

import json
import os
import threading
import time
from concurrent import futures

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402

SERVICE = "test.Service"


class Server(grpc.GenericRpcHandler):
    def __init__(self, credentials=None, port=0, options=()):
        self.forget()
        self.server = grpc.server(futures.ThreadPoolExecutor(32), handlers=(self,), options=[("grpc.max_receive_message_length", -1), *options])
        address = f"127.0.0.1:{port}"
        self.port = self.server.add_secure_port(address, credentials) if credentials else self.server.add_insecure_port(address)
        self.server.start()

    def forget(self):
        self.seen = []  # (method, metadata as pairs, first message)
        self.entered = threading.Semaphore(0)  # one for each call of Hang and Tick
        self.left = threading.Semaphore(0)  # and for each end of one

    def stop(self, grace=None):
        self.server.stop(grace).wait()

    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        kinds = {
            "one_one": (grpc.unary_unary_rpc_method_handler, ("Echo", "Metadata", "Fail", "Big", "Slow", "Hang", "Deadline", "Peer", "Length")),
            "one_many": (grpc.unary_stream_rpc_method_handler, ("Count", "CountFail", "Tick")),
            "many_one": (grpc.stream_unary_rpc_method_handler, ("Join",)),
            "many_many": (grpc.stream_stream_rpc_method_handler, ("Chat",)),
        }
        for make, names in kinds.values():
            if name in names:
                return make(getattr(self, name))
        return None

    def note(self, context, name, message=b""):
        self.seen.append((name, [(k, v) for k, v in context.invocation_metadata()], message))

    def metadata(self, name):
        return dict(next(metadata for method, metadata, _ in self.seen if method == name))

    # ---- one message each way ----

    def Echo(self, message, context):
        """The message."""
        self.note(context, "Echo", message)
        return message

    def Length(self, message, context):
        """How many bytes came, as text."""
        return str(len(message)).encode()

    def Metadata(self, message, context):
        """What came, as JSON; sends some of its own before and after."""
        self.note(context, "Metadata", message)
        context.send_initial_metadata((("x-initial", "i1"), ("x-raw-bin", b"\x00\x01")))
        context.set_trailing_metadata((("x-trailing", "t1"),))
        return json.dumps([[k, v.hex() if isinstance(v, bytes) else v] for k, v in context.invocation_metadata()]).encode()

    def Fail(self, message, context):
        """The status and the text of the message, `7 some text`."""
        code, text = message.decode().split(" ", 1)
        context.abort(next(c for c in grpc.StatusCode if c.value[0] == int(code)), text)

    def Big(self, message, context):
        """As many bytes as the message says."""
        return b"b" * int(message)

    def Slow(self, message, context):
        """The message, after as many ms."""
        time.sleep(int(message) / 1000)
        return message

    def Hang(self, message, context):
        """Never anything, until the client gives up."""
        gone = threading.Event()
        left = self.left
        context.add_callback(lambda: (gone.set(), left.release()))
        self.entered.release()
        gone.wait(30)
        return b""

    def Deadline(self, message, context):
        """The seconds that are left; -1: no end."""
        left = context.time_remaining()
        return str(round(left) if left is not None and left < 1e6 else -1).encode()

    def Peer(self, message, context):
        """The client's address: the same for calls that share a connection."""
        return context.peer().encode()

    # ---- streams ----

    def Count(self, message, context):
        """1, 2, 3 up to the message."""
        self.note(context, "Count", message)
        context.set_trailing_metadata((("x-trailing", "t1"),))
        for i in range(int(message)):
            yield str(i + 1).encode()

    def CountFail(self, message, context):
        """One message, then status 9."""
        yield b"first"
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no more: 100% é")

    def Tick(self, message, context):
        """A message each 20 ms, until the client or the server has gone."""
        gone = threading.Event()
        left = self.left
        context.add_callback(lambda: (gone.set(), left.release()))
        self.entered.release()
        while not gone.wait(0.02):
            yield b"tick"

    def Join(self, messages, context):
        """All messages with + between them."""
        return b"+".join(messages)

    def Chat(self, messages, context):
        """Each message back, in upper case; the word `fail` ends it with status 9."""
        for message in messages:
            if message == b"fail":
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wished")
            yield message.upper()
