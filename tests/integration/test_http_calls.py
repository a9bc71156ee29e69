"""HTTP calls that filters make: targets, framing, failures, pausing and resuming, the stream or the root that leaves."""

import socket
import ssl
import subprocess
import threading
import time

import pytest

from support import http1, http2, probe
from support.upstream import payload


@pytest.fixture
def calls(nginx, upstream):
    """`lines` of the filter; the request goes to the upstream, and so do the calls to 127.0.0.1:PORT or `named`."""

    def start(*lines, extra="", wasm="", http=""):
        http = f"{http} upstream named {{ server 127.0.0.1:{upstream.port}; }} upstream retry {{ server 127.0.0.1:1; server 127.0.0.1:{upstream.port}; }}"
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {probe.use(*lines, probe.EXEC)} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
        nginx.start(servers, http=http, wasm=probe.module() + wasm)
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


SEEN = ("call_response: get@call :status x-call", "call_response: body@call x-body", "call_response: resume")


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers"])
def test_a_stream_waits_for_its_call(calls, client, upstream, phase):
    nginx = calls("call_response: resume")
    # The end of an HTTP/2 body may come by itself, and be another callback.
    lines = (f"{phase}@1: http_call 127.0.0.1:{upstream.port} some.host /slow/3/20 5000 x-mine=1", f"{phase}: pause")
    start = time.monotonic()
    response = client.request(port(nginx, client), "POST", "/bytes/500", probe.do(*lines), b"hello")
    assert response.body == payload(500)
    assert time.monotonic() - start > 0.04
    (call,) = [headers for method, target, headers in upstream.seen if target == "/slow/3/20"]
    assert ("host", "some.host") in [tuple(h) for h in call] and ("x-mine", "1") in [tuple(h) for h in call]


def test_the_answer_can_be_read_and_used(calls, client, upstream):
    nginx = calls(*SEEN)
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /bytes/10 5000", "request_headers: pause"))
    assert (response.get("x-call"), response.get("x-body")) == ("200", "0000000000")


@pytest.mark.parametrize("path,length", [("/bytes/100000", 100000), ("/chunked/100000/777", 100000), ("/nolength/100000", 100000), ("/status/204", 0), ("/bytes/0", 0)])
def test_answers_of_every_framing_are_whole(calls, client, upstream, path, length):
    nginx = calls("call_response: note x-size $size", "call_response: resume")
    response = client.get(port(nginx, client), "/bytes/5", probe.do(f"request_headers: http_call named a {path} 5000", "request_headers: pause"))
    assert response.get("x-size") == str(length)


def test_trailers_of_an_answer_are_counted(calls, client):
    nginx = calls("call_response: get@callt x-trailer x-t", "call_response: resume")
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /trailers/10 5000", "request_headers: pause"))
    assert response.get("x-t") == "t1"


def test_a_body_and_a_method_are_sent(calls, client, upstream):
    nginx = calls("call_response: resume")
    client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /echo 5000 body=hello :method=PUT", "request_headers: pause"))
    ((method, target, headers),) = [seen for seen in upstream.seen if seen[1] == "/echo"]
    assert method == "PUT" and ("content-length", "5") in [tuple(h) for h in headers]
    assert b"hello" in upstream.bodies


def test_the_next_server_of_an_upstream_is_tried(calls, client):
    nginx = calls("call_response: get@call :status x-call", "call_response: resume")
    for _ in range(4):
        response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call retry a /bytes/5 5000", "request_headers: pause"))
        assert response.get("x-call") == "200"


def test_several_calls_run_at_once(calls, client):
    nginx = calls("call_response@3: resume", "call_response: note x-n $count")
    lines = ["request_headers: http_call named a /slow/5/50 5000"] * 3 + ["request_headers: pause"]
    start = time.monotonic()
    response = client.get(port(nginx, client), "/bytes/5", probe.do(*lines))
    assert response.body == b"00000"
    assert time.monotonic() - start < 0.7


def test_an_unknown_name_is_a_bad_argument(calls, client):
    nginx = calls()
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call no-such-name a / 5000", "request_headers: status x-s", "request_headers: http_call 127.0.0.1:99999 a / 5000", "request_headers: status x-p"))
    assert (response.get("x-s"), response.get("x-p")) == ("2", "2")


def test_a_refused_connection_is_a_503_for_envoys_filters(calls, client):
    nginx = calls(*SEEN)
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call 127.0.0.1:1 a / 5000", "request_headers: pause"))
    assert response.get("x-call") == "503" and "connection failure" in response.get("x-body")


def test_a_timeout_is_a_504_for_envoys_filters(calls, client):
    nginx = calls(*SEEN)
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /hang 100", "request_headers: pause"))
    assert (response.get("x-call"), response.get("x-body")) == ("504", "upstream request timeout")


def test_a_location_may_be_less_patient_and_quiet(calls, client):
    nginx = calls("call_response: get@call :status x-call", "call_response: resume", extra="wasm_socket_read_timeout 100ms; proxy_wasm_log_dispatch_errors off;")
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /hang 0", "request_headers: pause"))
    assert response.get("x-call") == "504"
    assert nginx.log_lines("dispatch failed") == []


@pytest.mark.parametrize("target,path,status", [("127.0.0.1:1", "/", "broken connection"), ("named", "/hang", "timeout")])
def test_failures_have_the_names_of_wasmx(calls, client, target, path, status):
    nginx = calls("call_response: get@call :dispatch_status x-d", "call_response: note x-n $n", extra="proxy_wasm_dialect wasmx;")
    response = client.get(port(nginx, client), "/bytes/5", probe.do(f"request_headers: http_call {target} a {path} 100", "request_headers: pause"))
    assert (response.status, response.get("x-d"), response.get("x-n")) == (200, status, "0")


def test_an_answer_that_is_cut_or_garbage_is_a_failure(calls, client):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]

    def serve():
        for answer in answers:
            c, _ = listener.accept()
            c.recv(65536)
            c.sendall(answer)
            c.close()

    thread = threading.Thread(target=serve)
    thread.start()
    nginx = calls("call_response: note x-n $n", "call_response: resume")
    for _ in answers:
        lines = (f"request_headers: http_call 127.0.0.1:{listener.getsockname()[1]} a / 5000", "request_headers: pause")
        assert client.get(port(nginx, client), "/bytes/5", probe.do(*lines)).get("x-n") == "0"
    thread.join(10)
    listener.close()


def test_calls_of_a_stream_that_has_gone_are_answered_to_the_root(calls, client, upstream):
    nginx = calls("call_response: log answered-$n")
    client.get(port(nginx, client), "/bytes/5", probe.do("response_headers: http_call named a /slow/3/50 5000"))
    nginx.wait_log("answered-")


def test_a_client_that_leaves_while_a_call_runs(calls, client, upstream):
    nginx = calls("call_response: log answered-$n", "call_response: resume")
    for _ in range(5):
        c = client.Connection(port(nginx, client))
        lines = probe.do("request_headers: http_call named a /slow/3/50 5000", "request_headers: pause")
        if client is http2:
            c.send_headers("GET", "/bytes/1000", lines)
        else:
            c.send_request("GET", "/bytes/1000", lines)
        time.sleep(0.03)
        c.close()
    nginx.wait_log("answered-", 5)


def test_a_call_of_wasmx_ends_with_its_stream(calls, client, upstream):
    nginx = calls("call_response: log answered-$n", extra="proxy_wasm_dialect wasmx;")
    assert client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /hang 5000")).status == 200
    assert upstream.gone.wait(10)
    client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /bytes/1 5000", "request_headers: pause"))
    assert len(nginx.log_lines("on_http_call_response")) == 1


def test_the_timeout_of_wasmx_is_one_of_each_step(calls, client, upstream):
    nginx = calls("call_response: note x-size $size", extra="proxy_wasm_dialect wasmx;")
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: http_call named a /slow/8/100 500", "request_headers: pause"))
    assert response.get("x-size") == str(8 * len("piece-0\n"))


@pytest.mark.parametrize("trap", ["tick: trap", "call_response: trap", "queue_ready: trap"])
def test_a_filter_that_traps_between_streams_comes_back_by_itself(calls, upstream, trap):
    events = ("configure: tick 30", "configure: queue_register q", "configure: enqueue item", "configure: http_call named a /bytes/1 5000")
    nginx = calls(*events, trap)
    nginx.wait_log("on_configure", 2 * nginx.workers + 1)
    nginx.wait_log("trap in", 2 * nginx.workers)


def test_a_call_from_the_log_callback_is_answered_to_the_root(calls, client, upstream):
    nginx = calls("call_response: log answered-$n")
    client.get(port(nginx, client), "/bytes/5", probe.do("log: http_call named a /slow/3/20 5000"))
    nginx.wait_log("answered-")


def test_a_root_context_calls_on_tick(calls, upstream):
    nginx = calls("quiet", "configure: tick 50", "tick@1: http_call named a /bytes/7 5000", "call_response: log got-$size")
    nginx.wait_log("got-7")


def test_a_root_context_calls_when_it_is_configured(calls, upstream):
    nginx = calls("quiet", "configure: http_call named a /bytes/7 5000", "call_response: log got-$size")
    nginx.wait_log("got-7")


def test_workers_end_while_calls_run(calls, client, upstream):
    nginx = calls("configure: http_call named a /hang 0")
    assert upstream.hanging.wait(10)
    nginx.stop(15)


def test_a_paused_request_survives_a_reload(calls, upstream):
    nginx = calls("call_response: resume")
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/bytes/5", probe.do("request_headers: http_call named a /slow/10/100 5000", "request_headers: pause"))
        time.sleep(0.1)
        nginx.reload()
        assert c.read_response().body == b"00000"


def test_a_request_that_waits_for_a_tick_survives_a_reload(calls, upstream):
    nginx = calls("configure: tick 800", "tick: resume")
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/bytes/5", probe.do("request_headers: pause"))
        time.sleep(0.1)
        nginx.reload()
        assert c.read_response().body == b"00000"


# ---- names ----


def dns_server(answers, until=None):
    """A resolver for A records; names that it does not know are NXDOMAIN. until: an event before which it does not answer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                data, peer = sock.recvfrom(512)
            except OSError:
                return
            labels, at = [], 12
            while data[at]:
                labels.append(data[at + 1 : at + 1 + data[at]].decode())
                at += data[at] + 1
            question = data[12 : at + 5]
            address = answers.get(".".join(labels)) if data[at + 1 : at + 3] == b"\0\1" else None
            known = ".".join(labels) in answers
            head = data[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1" + (b"\0\1" if address else b"\0\0") + b"\0\0\0\0"
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address) if address else b""
            if until is not None:
                until.wait()
            sock.sendto(head + question + record, peer)

    threading.Thread(target=serve, daemon=True).start()
    return sock


def test_hosts_are_resolved_by_nginx(calls, client, upstream):
    dns = dns_server({"some.name": "127.0.0.1"})
    try:
        nginx = calls("call_response: get@call :status x-call", "call_response: resume", wasm=f"resolver 127.0.0.1:{dns.getsockname()[1]} ipv6=off;")
        for name, status in (("some.name", "200"), ("other.name", "503")):
            lines = (f"request_headers: http_call {name}:{upstream.port} a /bytes/5 5000", "request_headers: pause")
            assert client.get(port(nginx, client), "/bytes/5", probe.do(*lines)).get("x-call") == status
    finally:
        dns.close()


def test_a_resolver_that_does_not_answer_is_a_failure_in_its_time(calls, client, upstream):
    dead = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dead.bind(("127.0.0.1", 0))
    try:
        nginx = calls("call_response: get@call :status x-call", "call_response: resume", wasm=f"resolver 127.0.0.1:{dead.getsockname()[1]} ipv6=off; resolver_timeout 200ms;")
        lines = (f"request_headers: http_call dead.name:{upstream.port} a /bytes/5 0", "request_headers: pause")
        assert client.get(port(nginx, client), "/bytes/5", probe.do(*lines)).get("x-call") == "503"
        assert nginx.log_lines("dispatch failed")
    finally:
        dead.close()


def test_added_names_are_known(calls, client, upstream):
    nginx = calls("call_response: get@call :status x-call", "call_response: resume", extra="resolver 127.0.0.1:1; resolver_add 127.0.0.1 added.name;")
    lines = (f"request_headers: http_call added.name:{upstream.port} a /bytes/5 5000", "request_headers: pause")
    assert client.get(port(nginx, client), "/bytes/5", probe.do(*lines)).get("x-call") == "200"


# ---- TLS ----


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calltls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=good.test", "-addext", "subjectAltName=DNS:good.test", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    names = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)

    def one(c):
        try:
            with context.wrap_socket(c, server_side=True) as tls:
                tls.recv(65536)
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        except OSError:
            pass

    def serve():
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(c,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], folder, names
    listener.close()


def test_a_call_over_tls_is_verified(calls, client, tls_server):
    tls_port, folder, names = tls_server
    nginx = calls("call_response: get@call :status x-call", "call_response: body@call x-body", "call_response: resume", wasm=f"tls_trusted_certificate {folder}/cert.pem;")
    for authority, status in (("good.test", "200"), ("bad.test", "503")):
        lines = (f"request_headers: http_call 127.0.0.1:{tls_port} {authority} / 5000 :scheme=https", "request_headers: pause")
        response = client.get(port(nginx, client), "/bytes/5", probe.do(*lines))
        assert response.get("x-call") == status
    assert "good.test" in names and "bad.test" in names
    assert nginx.log_lines("another host")


def test_an_unknown_authority_is_not_trusted(calls, client, tls_server):
    tls_port, folder, _ = tls_server
    nginx = calls("call_response: get@call :status x-call", "call_response: resume")
    lines = (f"request_headers: http_call 127.0.0.1:{tls_port} good.test / 5000 :scheme=https", "request_headers: pause")
    assert client.get(port(nginx, client), "/bytes/5", probe.do(*lines)).get("x-call") == "503"


def test_verification_can_be_turned_off(calls, client, tls_server):
    tls_port, folder, _ = tls_server
    nginx = calls("call_response: get@call :status x-call", "call_response: body@call x-body", "call_response: resume", wasm="tls_verify_cert off; tls_verify_host off;")
    lines = (f"request_headers: http_call 127.0.0.1:{tls_port} any.test / 5000 :scheme=https", "request_headers: pause")
    response = client.get(port(nginx, client), "/bytes/5", probe.do(*lines))
    assert (response.get("x-call"), response.get("x-body")) == ("200", "secret")
