"""Clients of the gateway that do not keep to the rules."""

import socket

import pytest
from gateway_helpers import Gateway, home, install, one_service, origin, origin_server  # noqa: F401
from support import http2


@pytest.fixture
def gateway(home, origin):
    with Gateway(home, one_service(origin.url)).start() as g:
        yield g


def exchange(port, request):
    """All that comes back until the gateway closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(request)
        answer = b""
        while data := s.recv(65536):
            answer += data
        return answer


REQUEST_LINES = {
    "an escape that is none": (b"GET /%zz HTTP/1.1", b"400"),
    "an escaped NUL": (b"GET /a%00b HTTP/1.1", b"400"),
    "above the root": (b"GET /.. HTTP/1.1", b"400"),
    "a tab": (b"GET /a\tb HTTP/1.1", b"400"),
    "a path that is none": (b"GET @evil.example/ HTTP/1.1", b"400"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1", b"400"),
    "CONNECT": (b"CONNECT example.com:80 HTTP/1.1", b"400"),
    "an endless path": (b"GET /" + b"x" * 70000 + b" HTTP/1.1", b"414"),
}


@pytest.mark.parametrize("name", REQUEST_LINES)
def test_a_refused_request_line_is_the_clients_fault(gateway, origin, name):
    line, status = REQUEST_LINES[name]
    answer = exchange(gateway.proxy, line + b"\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n")
    assert answer.split(b" ", 2)[1] == status, answer[:300]
    assert b"An unexpected error" not in answer
    assert gateway.get("/echo").status == 200


FRAMING = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: y\r\n\r\n",
    "two encodings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an encoding with a vertical tab": b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": b"Transfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a signed length": b"Content-Length: +3\r\n\r\nabc",
    "a folded header": b"X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a bare CR": b"X-A: 1\rTransfer-Encoding: chunked\r\n\r\n",
    "a chunk size that is none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "a chunk size that overflows": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", FRAMING)
def test_doubtful_framing_does_not_reach_the_origin(gateway, origin, name):
    before = len(origin.seen)
    answer = exchange(gateway.proxy, b"POST /x HTTP/1.1\r\nHost: x\r\n" + FRAMING[name])
    assert answer.split(b" ", 2)[1] in (b"400", b"501"), answer[:300]
    assert len(origin.seen) == before


PHASES = ["request_headers", "request_body", "response_headers", "response_body"]


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_client_that_gives_up_while_a_filter_waits_leaves_nothing_behind(home, origin, phase, how):
    install(home / "filters", "probe")
    with Gateway(home, one_service(origin.url, ("probe", f"{phase}: pause"))).start() as gateway:
        with socket.create_connection(("127.0.0.1", gateway.proxy), timeout=20) as s:
            s.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3000)
            gateway.wait_log(f"on_{phase} ")
            if how == "reset":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "half-close":
                s.shutdown(socket.SHUT_WR)
            else:
                s.close()
            gateway.wait_log("on_delete ")


@pytest.mark.parametrize("phase", PHASES)
def test_a_stream_that_is_reset_while_a_filter_waits_leaves_nothing_behind(home, origin, phase):
    install(home / "filters", "probe")
    with Gateway(home, one_service(origin.url, ("probe", f"{phase}: pause"))) as gateway:
        gateway.env["SLUICE_PROXY_LISTEN"] += " http2"
        gateway.start()
        with http2.Connection(gateway.proxy) as c:
            stream = c.send_headers("POST", "/x", end=False)
            c.send_data(stream, b"x" * 3000, end=True)
            gateway.wait_log(f"on_{phase} ")
            c.reset(stream)
            gateway.wait_log("on_delete ")
