"""What goes through the gateway besides plain requests: gRPC, gRPC-web, websockets, streams in both directions; with filters on the way."""

import contextlib
import json
import os
import socket
import threading

import pytest
from gateway_helpers import (  # noqa: F401
    Gateway,
    TlsHttp2,
    chain,
    document,
    echoed,
    folder,
    free_port,
    home,
    install,
    one_service,
    origin,
    origin_server,
    payload,
    wait_for,
)
from gateway_tls import authority, certificate
from support import http1, http2

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402
from support.grpc_server import SERVICE, Server  # noqa: E402

ON_THE_WAY = ("probe", "request_headers: add x-seen yes\nresponse_headers: add x-filter yes\nresponse_trailers: add x-trailer yes")


@pytest.fixture(scope="module", params=[1, 3], ids=["one worker", "three workers"])
def gateway(request, origin_server):
    with folder() as path:
        install(path / "filters", "probe", "my-c-filter")
        gateway = Gateway(path, one_service(origin_server.url), workers=request.param)
        gateway.tls, gateway.h2 = free_port(), free_port()
        gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{gateway.tls} ssl http2, 127.0.0.1:{gateway.h2} http2"
        with gateway.start():
            yield gateway


# ---- gRPC ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secure_server():
    pair = certificate("grpc.test", issuer=authority("root"), alt="DNS:grpc.test,DNS:localhost")
    server = Server(grpc.ssl_server_credentials([(pair[1].encode(), pair[0].encode())]))
    yield server
    server.stop()


def grpc_service(port, *filters, protocol="grpc", host="127.0.0.1", **route):
    route = {"name": "r", "protocols": ["grpc", "grpcs"], "paths": ["/"], **route}
    if filters:
        route["filter_chains"] = [chain(*filters)]
    return {"name": "g", "protocol": protocol, "host": host, "port": port, "retries": 1, "routes": [route]}


@contextlib.contextmanager
def channel(gateway, tls=False):
    if not tls:
        with grpc.insecure_channel(f"127.0.0.1:{gateway.h2}") as c:
            yield c
        return
    pair = certificate("gateway.test", issuer=authority("root"))
    credentials = grpc.ssl_channel_credentials(authority("root")[0].encode())
    assert pair
    with grpc.secure_channel(f"127.0.0.1:{gateway.tls}", credentials, [("grpc.ssl_target_name_override", "gateway.test")]) as c:
        yield c


def configure(gateway, service, **more):
    pair = certificate("gateway.test", issuer=authority("root"))
    gateway.configure(document(service, certificates=[{"cert": pair[0], "key": pair[1], "snis": [{"name": "gateway.test"}]}], **more))


def call(c, method, kind="unary_unary"):
    return getattr(c, kind)(f"/{SERVICE}/{method}")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("filters", [(), (ON_THE_WAY,)], ids=["alone", "filter"])
def test_calls_of_all_kinds_pass(gateway, server, tls, filters):
    configure(gateway, grpc_service(server.port, *filters))
    server.forget()
    with channel(gateway, tls) as c:
        for size in (0, 1, 100, 300000):
            assert call(c, "Echo")(payload(size), timeout=20) == payload(size)
        reply, rpc = call(c, "Metadata").with_call(b"x", timeout=20, metadata=[("x-mine", "m1"), ("x-raw-bin", b"\x00\xff")])
        sent = dict(json.loads(reply))
        assert sent["x-mine"] == "m1" and sent["x-raw-bin"] == b"\x00\xff".hex() and "x-kong-request-id" in sent
        assert dict(rpc.initial_metadata())["x-initial"] == "i1" and dict(rpc.initial_metadata())["x-raw-bin"] == b"\x00\x01"
        assert dict(rpc.trailing_metadata())["x-trailing"] == "t1"
        assert "sluice/" in dict(rpc.initial_metadata())["via"] and dict(rpc.initial_metadata())["via"].startswith("2 ")
        if filters:
            assert sent["x-seen"] == "yes"
            assert dict(rpc.initial_metadata())["x-filter"] == "yes" and dict(rpc.trailing_metadata())["x-trailer"] == "yes"
        with pytest.raises(grpc.RpcError) as failed:
            call(c, "Fail")(b"7 not for you", timeout=20)
        assert failed.value.code() == grpc.StatusCode.PERMISSION_DENIED and failed.value.details() == "not for you"
        assert len(list(call(c, "Count", "unary_stream")(b"5", timeout=20))) == 5
        assert call(c, "Join", "stream_unary")(iter([b"a", b"b", payload(100000)]), timeout=20).startswith(b"a")


@pytest.mark.parametrize("filters", [(), (ON_THE_WAY,)], ids=["alone", "filter"])
def test_a_conversation_goes_to_and_fro(gateway, server, filters):
    configure(gateway, grpc_service(server.port, *filters))
    with channel(gateway) as c:
        turn, said = threading.Semaphore(1), []

        def talk():
            for i in range(10):
                assert turn.acquire(timeout=20)
                yield b"m%d" % i

        for answer in call(c, "Chat", "stream_stream")(talk(), timeout=30):
            said.append(answer)
            turn.release()
        assert len(said) == 10  # each answer came before the next question was asked


def test_a_secure_service_is_verified_and_reached_by_its_name(home, secure_server):
    (home / "hosts").write_text("127.0.0.1 grpc.test other.test\n")
    gateway = Gateway(home, document(), dns_hostsfile=home / "hosts")
    gateway.h2 = free_port()
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{gateway.h2} http2"
    with gateway.start():
        configure(gateway, grpc_service(secure_server.port, protocol="grpcs", host="grpc.test"))
        with channel(gateway) as c:
            assert call(c, "Echo")(b"secret", timeout=20) == b"secret"
        configure(gateway, grpc_service(1, protocol="grpcs", host="pool.test"), upstreams=[{"name": "pool.test", "host_header": "grpc.test", "targets": [{"target": f"127.0.0.1:{secure_server.port}"}]}])
        with channel(gateway) as c:
            assert call(c, "Echo")(b"secret", timeout=20) == b"secret"


def test_calls_are_balanced_and_tried_again(gateway, server):
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        bad = refusing.getsockname()[1]
    targets = [{"target": f"127.0.0.1:{bad}", "weight": 100}, {"target": f"127.0.0.1:{server.port}", "weight": 100}]
    configure(gateway, grpc_service(1, host="pool.test"), upstreams=[{"name": "pool.test", "targets": targets}])
    with channel(gateway) as c:
        for _ in range(8):
            assert call(c, "Echo")(b"x", timeout=20) == b"x"


def test_failures_are_a_status_of_grpc(gateway):
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        bad = refusing.getsockname()[1]
    configure(gateway, grpc_service(bad))
    with channel(gateway) as c, pytest.raises(grpc.RpcError) as failed:
        call(c, "Echo")(b"x", timeout=20)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    configure(gateway, grpc_service(1, host="pool.test"), upstreams=[{"name": "pool.test"}])
    with channel(gateway) as c, pytest.raises(grpc.RpcError) as failed:
        call(c, "Echo")(b"x", timeout=20)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_route_of_grpcs_alone_wants_tls(gateway, server):
    configure(gateway, grpc_service(server.port, protocols=["grpcs"]))
    with channel(gateway) as c, pytest.raises(grpc.RpcError) as failed:
        call(c, "Echo")(b"x", timeout=20)
    assert failed.value.code() == grpc.StatusCode.CANCELLED and failed.value.details() == "gRPC request matched gRPCs route"
    with channel(gateway, tls=True) as c:
        assert call(c, "Echo")(b"x", timeout=20) == b"x"


def test_a_client_that_cancels_leaves_nothing_behind(gateway, server):
    configure(gateway, grpc_service(server.port, ON_THE_WAY))
    server.forget()
    with channel(gateway) as c:
        future = call(c, "Hang").future(b"x", timeout=30)
        assert server.entered.acquire(timeout=20)
        future.cancel()
        assert server.left.acquire(timeout=20)
        assert call(c, "Echo")(b"y", timeout=20) == b"y"


def test_a_route_of_http_may_lead_to_a_service_of_grpc_with_another_path(gateway, server):
    service = grpc_service(server.port, name="r", protocols=["http", "https"], paths=["/in"], strip_path=True)
    configure(gateway, service)
    frame = b"\x00\x00\x00\x00\x03abc"
    with http2.Connection(gateway.h2) as c:
        stream = c.send_headers("POST", f"/in/{SERVICE}/Echo", [("content-type", "application/grpc"), ("te", "trailers")], end=False)
        c.send_data(stream, frame, end=True)
        response = c.finish(stream)
    assert response.body == frame and ("grpc-status", "0") in response.trailers


def test_connections_of_both_protocols_are_kept_apart(gateway, server):
    """One address as a service of gRPC and of HTTP: a kept connection of one is of no use to the other."""
    plain = {"name": "p", "url": f"http://127.0.0.1:{server.port}", "retries": 0, "routes": [{"name": "p", "paths": ["/plain"]}]}
    service = grpc_service(server.port, hosts=["grpc.test"], paths=None)
    gateway.configure(document(plain, service))
    for _ in range(3):
        with http2.Connection(gateway.h2) as c:
            stream = c.send_headers("POST", f"/{SERVICE}/Echo", [("content-type", "application/grpc"), ("te", "trailers")], "grpc.test", end=False)
            c.send_data(stream, b"\x00\x00\x00\x00\x01x", end=True)
            assert ("grpc-status", "0") in c.finish(stream).trailers
        assert gateway.get("/plain").status == 502


# ---- gRPC-web -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"])
@pytest.mark.parametrize("client", [http1, http2], ids=["http1", "http2"])
def test_grpc_web_passes_as_it_is(gateway, origin, client, content_type):
    gateway.configure(one_service(origin.url, ON_THE_WAY))
    body = b"\x00\x00\x00\x00\x05hello\x80\x00\x00\x00\x0fgrpc-status:0\r\n"
    port = gateway.proxy if client is http1 else gateway.h2
    response = client.request(port, "POST", "/test.Service/Echo", [("Content-Type", content_type), ("X-Grpc-Web", "1")], body)
    doc = echoed(response)
    assert doc["body"].encode("latin-1") == body and doc["headers"]["content-type"] == content_type
    assert doc["headers"]["x-grpc-web"] == "1" and response.get("x-filter") == "yes"


# ---- websockets ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filters", [(), (ON_THE_WAY,), (("probe", "configure: tick 30\ntick: resume\nrequest_headers: pause\nresponse_headers: add x-filter yes"),)], ids=["alone", "filter", "pausing"])
def test_websockets_pass_filters(gateway, origin, filters):
    gateway.configure(one_service(origin.url, *filters))
    with http1.Connection(gateway.proxy) as c:
        c.send_request("GET", "/websocket", [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "eA==")])
        head = c.read_head()
        assert head.status == 101 and head.get("upgrade").lower() == "websocket"
        assert not filters or head.get("x-filter") == "yes"
        for message in (b"ping", payload(200000)):
            sender = threading.Thread(target=c.send, args=(message,))
            sender.start()
            got = b""
            while len(got) < len(message):
                got += c._exactly(1)[0] + c.buffer
                c.buffer = b""
            sender.join()
            assert sorted(got) == sorted(message)
    assert gateway.get("/x").status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_websocket_that_one_side_leaves_ends_on_both(gateway, origin, how):
    gateway.configure(one_service(origin.url, ON_THE_WAY))
    for _ in range(5):
        with http1.Connection(gateway.proxy) as c:
            c.send_request("GET", "/websocket", [("Connection", "Upgrade"), ("Upgrade", "websocket")])
            assert c.read_head().status == 101
            c.send(b"x")
            assert c._exactly(1) == (b"x", True)
            if how == "reset":
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    assert gateway.get("/x").status == 200


# ---- streams --------------------------------------------------------------------------------------------------------------------------------


class Slow:
    """Answers in pieces, each when the test says so."""

    def __init__(self, head, *pieces):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.head, self.pieces, self.go = head, pieces, threading.Semaphore(0)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            peer, _ = self.listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(self.head)
                for piece in self.pieces:
                    self.go.acquire(timeout=20)
                    peer.sendall(piece)

    def close(self):
        self.listener.close()


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("client", [http1, http2], ids=["http1", "http2"])
@pytest.mark.parametrize("filters", [(), (ON_THE_WAY,)], ids=["alone", "filter"])
def test_events_arrive_one_by_one(gateway, client, filters):
    events = [b"data: %d\n\n" % i for i in range(5)]
    with contextlib.closing(Slow(EVENTS, *events)) as slow:
        gateway.configure(one_service(slow.url, *filters, response_buffering=False))
        with client.Connection(gateway.proxy if client is http1 else gateway.h2) as c:
            if client is http1:
                c.send_request("GET", "/events")
                head = c.read_head()
                assert head.status == 200 and head.get("content-type") == "text/event-stream"
                for event in events:
                    slow.go.release()
                    got = b""
                    while event not in got:
                        got += c.read_some(1)
                return
            stream = c.send_headers("GET", "/events")
            for i, event in enumerate(events):
                slow.go.release()
                while c.streams[stream].body != b"".join(events[: i + 1]):
                    assert c.pump(), event
            assert c.finish(stream).complete


@pytest.mark.parametrize("client", [http1, http2], ids=["http1", "http2"])
@pytest.mark.parametrize("buffering", [True, False])
@pytest.mark.parametrize("filters", [(), (ON_THE_WAY,)], ids=["alone", "filter"])
def test_large_bodies_pass_both_ways(gateway, origin, client, buffering, filters):
    gateway.configure(one_service(origin.url, *filters, request_buffering=buffering, response_buffering=buffering))
    port = gateway.proxy if client is http1 else gateway.h2
    body = payload(3_000_000)
    doc = echoed(client.request(port, "POST", "/x", [], body))
    assert doc["length"] == len(body)
    response = client.get(port, "/bytes/3000000")
    assert response.body == body and response.complete


@pytest.mark.parametrize("buffering", [True, False])
def test_expect_continue_and_a_client_that_gives_up(gateway, origin, buffering):
    gateway.configure(one_service(origin.url, ON_THE_WAY, request_buffering=buffering))
    with http1.Connection(gateway.proxy) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert c.read_some(10).startswith(b"HTTP/1.1 100")
        c.buffer = b""
        c.send("abc")
        assert echoed(c.read_response())["body"] == "abc"
    with http1.Connection(gateway.proxy) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\npart")
    with http1.Connection(gateway.proxy) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert c.read_response().status == 400
    assert gateway.get("/x").status == 200


def test_clients_of_http_1_0_are_answered(gateway, origin):
    gateway.configure(one_service(origin.url, ON_THE_WAY))
    with http1.Connection(gateway.proxy) as c:
        c.send("GET /bytes/1000 HTTP/1.0\r\nHost: a\r\n\r\n")
        response = c.read_response()
        assert response.status == 200 and response.body == payload(1000) and response.get("transfer-encoding") is None


def test_a_client_that_reads_slowly_gets_all_of_it(gateway, origin):
    gateway.configure(one_service(origin.url, ON_THE_WAY))
    with http1.Connection(gateway.proxy) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.send_request("GET", "/bytes/400000")
        got = b""
        while data := c.sock.recv(1500):
            got += data
            if got.endswith(payload(400000)[-16:]):
                break
        assert got.endswith(payload(400000))


def test_http2_streams_are_independent_of_each_other(gateway, origin):
    gateway.configure(one_service(origin.url, ON_THE_WAY))
    with TlsHttp2(gateway.tls) as c:
        streams = [c.send_headers("GET", f"/bytes/{n * 1000}") for n in range(30)]
        for stream in streams[::3]:
            c.reset(stream)
        for n, stream in enumerate(streams):
            if n % 3:
                assert c.finish(stream).body == payload(n * 1000)
