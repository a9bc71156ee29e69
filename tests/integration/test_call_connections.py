"""Connections of HTTP calls: kept for the next call, given up in time, replaced when they turn out to be closed; over TLS and IPv6 too."""

import socket
import ssl
import subprocess
import threading

import pytest

from support import http1, probe
from support.nginx import wait_for
from support.rawserver import RawServer

READ = ("call_response: get@call :status x-call", "call_response: body@call x-body", "call_response: note x-n $n", "call_response: resume")


@pytest.fixture
def start(nginx):
    """One worker, whose filter runs the lines of the request; `wasm`: what else stands in wasm {}."""

    def go(wasm="", extra="", http="", lines=READ):
        server = f"server {{ listen 127.0.0.1:@PORT@; {extra} {probe.use(*lines, probe.EXEC)} location / {{ return 200 ok; }} }}"
        nginx.workers = 1
        nginx.start(server, http=http, wasm=probe.module() + wasm)
        return nginx

    return go


def call(nginx, target, *words, path="/x", authority="a.test", timeout=5000):
    """The answer to a request for which a call to target is made."""
    more = " ".join(words)
    return http1.get(nginx.port(), "/", probe.do(f"request_headers: http_call {target} {authority} {path} {timeout} {more}", "request_headers: pause"))


def keep_answering(connection):
    while connection.request() is not None:
        connection.answer(b"from-%d" % connection.number)


def local(server):
    return f"127.0.0.1:{server.port}"


# ---- kept ----


def test_calls_to_one_peer_share_a_connection(start):
    with RawServer(keep_answering) as server:
        nginx = start()
        assert [call(nginx, local(server)).get("x-body") for _ in range(5)] == ["from-1"] * 5
        assert server.connections == 1


def test_connections_are_kept_after_chunks_trailers_and_answers_without_a_body(start):
    answers = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ]

    def serve(connection):
        for answer in answers:
            assert connection.request() is not None
            connection.send(answer)
        connection.closed()

    with RawServer(serve) as server:
        nginx = start()
        assert [call(nginx, local(server)).get("x-call") for _ in answers] == ["200", "204", "304", "200", "200"]
        assert server.connections == 1


def test_the_answer_to_head_has_no_body_and_the_connection_goes_on(start):
    def serve(connection):
        for _ in range(2):
            assert connection.request()[0].startswith("HEAD ")
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        connection.closed()

    with RawServer(serve) as server:
        nginx = start()
        for _ in range(2):
            assert call(nginx, local(server), ":method=HEAD").get("x-call") == "200"
        assert server.connections == 1


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok-and-more-than-it-said",
])
def test_connections_that_are_over_are_not_used_again(start, answer):
    def serve(connection):
        assert connection.request() is not None
        connection.send(answer)
        connection.closed()

    with RawServer(serve) as server:
        nginx = start()
        assert [call(nginx, local(server)).get("x-body") for _ in range(3)] == ["ok"] * 3
        assert server.connections == 3


def test_keeping_can_be_turned_off(start):
    seen = []

    def serve(connection):
        seen.append(connection.request()[1].get("connection"))
        connection.answer()
        assert connection.closed()

    with RawServer(serve) as server:
        nginx = start("call_keepalive 0;")
        for _ in range(2):
            assert call(nginx, local(server)).get("x-body") == "ok"
        assert seen == ["close"] * 2


def test_a_filter_of_wasmx_asks_for_the_connection_to_be_closed(start):
    seen = []

    def serve(connection):
        seen.append(connection.request()[1])
        connection.answer()
        connection.closed()

    with RawServer(serve) as server:
        nginx = start(extra="proxy_wasm_dialect wasmx;")
        call(nginx, local(server))
        assert (seen[0].get("connection"), seen[0].get("content-length")) == ("close", "0")


def test_an_idle_connection_is_closed_in_time(start):
    closed = threading.Event()

    def serve(connection):
        connection.request()
        connection.answer()
        if connection.closed():
            closed.set()

    with RawServer(serve) as server:
        nginx = start("call_keepalive_timeout 50ms;")
        call(nginx, local(server))
        assert closed.wait(10)
        assert call(nginx, local(server)).get("x-body") == "ok"
        assert server.connections == 2


def test_no_more_connections_wait_than_allowed(start):
    closed, all_there = [], threading.Barrier(6)

    def serve(connection):
        while connection.request() is not None:
            if connection.number <= 6:
                all_there.wait(10)
            connection.answer()
        closed.append(connection.number)

    with RawServer(serve) as server:
        nginx = start("call_keepalive 2;")
        threads = [threading.Thread(target=call, args=(nginx, local(server))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(closed) == 4, "four connections are closed")
        assert server.connections == 6


def test_a_worker_that_ends_closes_its_idle_connections(start):
    closed = threading.Event()

    def serve(connection):
        connection.request()
        connection.answer()
        if connection.closed():
            closed.set()

    with RawServer(serve) as server:
        nginx = start()
        call(nginx, local(server))
        nginx.reload()
        assert closed.wait(10)


# ---- stale ----


def test_a_connection_that_was_closed_while_it_waited_is_not_used(start):
    told, seen = threading.Event(), threading.Event()

    def serve(connection):
        connection.request()
        connection.answer(b"from-%d" % connection.number)
        if connection.number == 1:
            told.wait(10)
            connection.sock.shutdown(socket.SHUT_WR)
            if connection.closed():  # nginx has seen it, and closes in turn
                seen.set()
        else:
            connection.closed()

    with RawServer(serve) as server:
        nginx = start()
        assert call(nginx, local(server)).get("x-body") == "from-1"
        told.set()
        assert seen.wait(20)
        assert call(nginx, local(server), "body=x", ":method=POST").get("x-body") == "from-2"
        assert nginx.log_lines("dispatch failed") == []


@pytest.mark.parametrize("reset", [False, True])
def test_a_request_on_a_connection_that_turns_out_closed_is_sent_again_once(start, reset):
    requests = []

    def serve(connection):
        connection.request()
        connection.answer(b"from-%d" % connection.number)
        requests.append(connection.request())
        if reset:
            connection.reset()

    with RawServer(serve) as server:
        nginx = start()
        assert [call(nginx, local(server), "body=hello", ":method=PUT").get("x-body") for _ in range(2)] == ["from-1", "from-2"]
        assert requests[0][2] == b"hello" and server.connections == 2


def test_a_request_that_may_have_done_something_is_not_sent_again(start):
    def serve(connection):
        connection.request()
        connection.answer(b"from-%d" % connection.number)
        connection.request()

    with RawServer(serve) as server:
        nginx = start()
        assert call(nginx, local(server)).get("x-body") == "from-1"
        assert call(nginx, local(server), "body=x", ":method=POST").get("x-call") == "503"
        assert server.connections == 1


def test_an_answer_that_has_begun_is_not_asked_for_again(start):
    def serve(connection):
        connection.request()
        connection.answer()
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nConte")

    with RawServer(serve) as server:
        nginx = start()
        assert call(nginx, local(server)).get("x-body") == "ok"
        assert call(nginx, local(server)).get("x-call") == "503"
        assert server.connections == 1


def test_a_new_connection_that_is_closed_at_once_is_a_failure(start):
    with RawServer(lambda connection: connection.request()) as server:
        nginx = start()
        assert call(nginx, local(server)).get("x-call") == "503"
        assert server.connections == 1


# ---- other ways there ----


def test_calls_go_over_ipv6(start):
    with RawServer(keep_answering, family=socket.AF_INET6, address="::1") as server:
        nginx = start()
        for _ in range(2):
            assert call(nginx, f"[::1]:{server.port}").get("x-body") == "from-1"


def test_calls_go_over_a_unix_socket(start, tmp_path):
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve():
        c, _ = listener.accept()
        c.recv(65536)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")
        c.close()

    threading.Thread(target=serve, daemon=True).start()
    (tmp_path / "s").chmod(0o777)
    nginx = start(http=f"upstream sock {{ server unix:{path}; }}")
    assert call(nginx, "sock").get("x-body") == "unix"
    listener.close()


def test_an_answer_that_comes_before_the_whole_request_counts(start):
    def serve(connection):
        connection.more()
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        connection.sock.shutdown(socket.SHUT_WR)
        while connection.more():
            pass

    with RawServer(serve) as server:
        run = ("request_headers: get x-big", f"request_headers: http_call {local(server)} a /x 5000 :method=PUT body={'$value' * 150}", "request_headers: pause")
        nginx = start(lines=(*READ, *run))
        response = http1.get(nginx.port(), "/", [("x-big", "b" * 6000)])
        assert (response.get("x-call"), response.get("x-body")) == ("413", "big")


def test_trailers_of_a_request_are_sent(start):
    with RawServer(lambda connection: (connection.more(), connection.answer(connection.data.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"|")))) as server:
        nginx = start()
        response = call(nginx, local(server), "body=hello", ":method=PUT", "trailer:x-t=1")
        assert response.get("x-body") == "5|hello|0|x-t: 1||"


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    names = "DNS:one.test,DNS:two.test,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=one.test",
         "-addext", f"subjectAltName={names}", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    return f"{folder}/cert.pem", context


def test_a_tls_connection_is_kept_for_the_name_that_was_verified(start, certificate):
    path, context = certificate
    with RawServer(keep_answering, tls=context) as server:
        nginx = start(f"tls_trusted_certificate {path};")
        answers = [call(nginx, local(server), ":scheme=https", authority=name).get("x-body") for name in ("one.test", "one.test", "two.test", "one.test")]
        assert answers == ["from-1", "from-1", "from-2", "from-1"]
        assert call(nginx, local(server), ":scheme=https", authority="three.test").get("x-call") == "503"


def test_a_plain_call_does_not_get_a_tls_connection(start, certificate):
    path, context = certificate
    with RawServer(keep_answering, tls=context) as server:
        nginx = start(f"tls_trusted_certificate {path};")
        assert call(nginx, local(server), ":scheme=https", authority="one.test").get("x-body") == "from-1"
        assert call(nginx, local(server), authority="one.test").get("x-body") != "from-1"
        assert call(nginx, local(server), ":scheme=https", authority="one.test").get("x-body") == "from-1"


def test_an_address_in_the_certificate_is_accepted(start, certificate):
    path, context = certificate
    with RawServer(keep_answering, tls=context) as server:
        nginx = start(f"tls_trusted_certificate {path};")
        assert call(nginx, local(server), ":scheme=https", authority=local(server)).get("x-body") == "from-1"


def test_turning_verification_off_is_said_in_the_log(start, certificate):
    with RawServer(keep_answering, tls=certificate[1]) as server:
        nginx = start("tls_verify_cert off; tls_verify_host off;")
        assert call(nginx, local(server), ":scheme=https", authority="three.test").get("x-body") == "from-1"
        assert nginx.log_lines("tls certificate not verified") and nginx.log_lines("tls certificate host not verified")


def test_that_warning_can_be_turned_off(start, certificate):
    with RawServer(keep_answering, tls=certificate[1]) as server:
        nginx = start("tls_verify_cert off; tls_verify_host off; tls_no_verify_warn off;")
        assert call(nginx, local(server), ":scheme=https", authority="three.test").get("x-body") == "from-1"
        assert not nginx.log_lines("not verified")


def test_a_server_that_does_not_speak_tls_is_a_failure(start):
    def serve(connection):
        connection.more()
        connection.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")

    with RawServer(serve) as server:
        nginx = start()
        assert call(nginx, local(server), ":scheme=https").get("x-call") == "503"
        assert nginx.log_lines("tls handshake failed")


def test_a_server_that_never_finishes_its_handshake_is_a_timeout(start):
    with RawServer(lambda connection: [None for _ in iter(connection.more, b"")]) as server:
        nginx = start("socket_connect_timeout 100ms;")
        assert call(nginx, local(server), ":scheme=https", timeout=0).get("x-call") == "504"
