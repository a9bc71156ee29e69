"""gRPC calls and streams that filters make, against a server of another implementation (grpcio)."""

import json
import socket
import subprocess
import threading
import time

import pytest

from support import http1, http2, probe
from support.grpc_server import SERVICE, Server, grpc
from support.nginx import filter_path
from support.upstream import payload


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    s.stop()


@pytest.fixture
def peer(server):
    server.forget()
    return server


@pytest.fixture
def calls(nginx, upstream, server):
    """`lines` of the filter; the request goes to the upstream, the gRPC server is 127.0.0.1:PORT or the upstream `named`."""

    def start(*lines, extra="", wasm="", http=""):
        http = f"{http} upstream named {{ server 127.0.0.1:{server.port}; }} upstream retry {{ server 127.0.0.1:1; server 127.0.0.1:{server.port}; }}"
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {probe.use(*lines, probe.EXEC)} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
        nginx.start(servers, http=http, wasm=probe.module() + wasm)
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def call(method, message, target="named", timeout=5000, *metadata):
    words = " ".join(metadata)
    return f"request_headers: grpc_call {target} {SERVICE} {method} {timeout} {message} {words}"


# A unary call is answered by one of these.
UNARY = ("grpc_receive: body x-answer", "grpc_receive: resume", "grpc_close: note x-closed $code", "grpc_close: call_status x-text", "grpc_close: resume")
PAUSE = "request_headers: pause"


def ask(nginx, client, *lines):
    return client.get(port(nginx, client), "/bytes/5", probe.do(*lines))


# ---- unary ----


@pytest.mark.parametrize("target", ["named", "127.0.0.1"])
def test_a_paused_request_goes_on_with_the_answer(calls, client, peer, target):
    nginx = calls(*UNARY)
    target = target if target == "named" else f"127.0.0.1:{peer.port}"
    response = ask(nginx, client, call("Echo", "hello", target, 5000, "x-mine=1"), PAUSE)
    assert (response.status, response.body) == (200, payload(5))
    assert (response.get("x-answer"), response.get("x-closed")) == ("hello", None)
    metadata = peer.metadata("Echo")
    assert metadata["x-mine"] == "1"


@pytest.mark.parametrize("phase", ["request_body", "response_headers", "response_body"])
def test_calls_may_be_made_in_every_phase(calls, client, peer, phase):
    nginx = calls("grpc_receive: resume")
    lines = (f"{phase}@1: grpc_call named {SERVICE} Slow 5000 30", f"{phase}@1: pause")
    response = client.request(port(nginx, client), "POST", "/bytes/500", probe.do(*lines), b"hello")
    assert response.body == payload(500)


def test_a_failure_has_its_status_and_its_text(calls, client, peer):
    nginx = calls(*UNARY)
    response = ask(nginx, client, "request_headers: grpc_call named test.Service Fail 5000 7\\snot\\sé\\s100%25", PAUSE)
    assert (response.get("x-answer"), response.get("x-closed")) == (None, "7")
    assert response.get("x-text") == r"not \xc3\xa9 100%25"  # as the probe writes what is no ASCII


def test_a_method_that_does_not_exist_is_unimplemented(calls, client, peer):
    nginx = calls(*UNARY)
    assert ask(nginx, client, call("None", "x"), PAUSE).get("x-closed") == "12"


def test_a_deadline_is_told_to_the_peer_and_kept(calls, client, peer):
    nginx = calls(*UNARY)
    assert ask(nginx, client, call("Deadline", "x", "named", 20000), PAUSE).get("x-answer") in ("19", "20")
    assert ask(nginx, client, call("Deadline", "x", "named", 0), PAUSE).get("x-answer") == "-1"
    start = time.monotonic()
    assert ask(nginx, client, call("Hang", "x", "named", 100), PAUSE).get("x-closed") == "4"
    assert time.monotonic() - start < 5
    assert peer.left.acquire(timeout=10)


def test_metadata_arrives_as_it_was_given(calls, client, peer):
    nginx = calls(*UNARY)
    response = ask(nginx, client, call("Metadata", "x", "named", 5000, "x-One=1", "x-one=2", "x-b-bin=hello", "te=no", "x-e=\\e"), PAUSE)
    got = json.loads(response.get("x-answer"))
    assert [v for k, v in got if k == "x-one"] == ["1", "2"]
    assert [v for k, v in got if k == "x-b-bin"] == [b"hello".hex()]
    assert [v for k, v in got if k == "te"] in ([], ["trailers"])


@pytest.mark.parametrize("size", [0, 1, 5000, 3_000_000])
def test_messages_of_every_size_go_both_ways(calls, client, peer, size):
    nginx = calls("grpc_receive: note x-size $size", "grpc_receive: resume", "grpc_close: note x-closed $code", "grpc_close: resume")
    assert ask(nginx, client, call("Big", str(size), "named", 20000), PAUSE).get("x-size") == str(size)


def test_a_large_message_goes_out_whole(calls, client, peer):
    nginx = calls(*UNARY, "request_body@eos: body", f"request_body@eos: grpc_call named {SERVICE} Length 20000 $value", "request_body: pause_until_eos", "request_body@eos: pause")
    response = client.request(port(nginx, client), "POST", "/bytes/5", [], b"x" * 300_000)
    assert response.get("x-answer") == "300000"


def test_a_message_over_the_limit_is_refused(calls, client, peer):
    nginx = calls(*UNARY)
    response = ask(nginx, client, call("Big", str(17 << 20), "named", 20000), PAUSE)
    assert (response.get("x-closed"), response.get("x-text")) == ("8", "a message is larger than allowed")
    assert ask(nginx, client, call("Echo", "still", "named"), PAUSE).get("x-answer") == "still"


# ---- too much at once ----


def flood(n, size, last=0):
    return [f"request_headers: grpc_stream named {SERVICE} Chat", *[f"request_headers: grpc_send {last} {'m' * size}"] * n]


def test_a_stream_that_is_sent_too_much_is_closed_and_no_send_fails(calls, client, peer):
    """An SDK's filter takes any other status for an error that cannot be, and traps."""
    nginx = calls(*UNARY, "quiet", wasm="call_memory_limit 4k;")
    lines = (*flood(18, 300), "request_headers: log sent $statuses", PAUSE)
    response = ask(nginx, client, *lines)
    assert (response.get("x-closed"), response.get("x-text")) == ("8", "too much waits to be sent")
    nginx.wait_log("sent " + ",".join("0" * 19))
    assert ask(nginx, client, *lines).get("x-closed") == "8"  # what the first one held is free again


def test_a_stream_that_was_sent_too_much_may_be_cancelled_or_left(calls, client, peer):
    nginx = calls("grpc_close: log told $code", "quiet", wasm="call_memory_limit 4k;")
    for end in ("grpc_cancel", "grpc_close", "reply 200 done"):
        assert ask(nginx, client, *flood(18, 300), f"request_headers: {end}").status == 200
    nginx.wait_log("told 8", 2)
    assert len(nginx.log_lines("told")) == 2


@pytest.mark.parametrize("target", ["grpc_call", "grpc_stream"])
def test_an_answer_for_which_there_is_no_room_has_a_status(calls, client, peer, target):
    stream = (f"request_headers: grpc_stream named {SERVICE} Big", "request_headers: grpc_send 1 1000000")
    nginx = calls(*UNARY, "quiet", wasm="call_memory_limit 512k;")
    response = ask(nginx, client, *([call("Big", "1000000")] if target == "grpc_call" else stream), PAUSE)
    assert (response.get("x-closed"), response.get("x-text")) == ("8", "there is no room for the message")


def test_a_call_for_which_there_is_no_room_is_refused(calls, client, peer):
    nginx = calls(*UNARY, "quiet", wasm="call_memory_limit 4k;")
    assert ask(nginx, client, call("Echo", "m" * 2500), "request_headers: status x-s").get("x-s") == "10"
    assert ask(nginx, client, call("Echo", "m"), PAUSE).get("x-answer") == "m"
    assert nginx.log_lines("no room for a call")


def test_calls_share_a_connection(calls, client, peer):
    nginx = calls(*UNARY, extra="")
    with client.Connection(port(nginx, client)) as c:
        peers = set()
        for _ in range(5):
            if client is http2:
                peers.add(client.get(port(nginx, client), "/bytes/5", probe.do(call("Peer", "x"), PAUSE)).get("x-answer"))
            else:
                c.send_request("GET", "/bytes/5", probe.do(call("Peer", "x"), PAUSE))
                peers.add(c.read_response().get("x-answer"))
    assert len(peers) <= nginx.workers


def test_many_calls_run_at_once(calls, client, peer):
    nginx = calls("grpc_receive@20: resume")
    start = time.monotonic()
    response = ask(nginx, client, *[call("Slow", "100")] * 20, PAUSE)
    assert response.body == payload(5)
    assert time.monotonic() - start < 1.9


def test_an_unknown_name_is_a_parse_failure(calls, client, peer):
    nginx = calls()
    response = ask(nginx, client, call("Echo", "x", "no-such-name"), "request_headers: status x-s", call("Echo", "x", "127.0.0.1:99999"), "request_headers: status x-p")
    assert (response.get("x-s"), response.get("x-p")) == ("4", "4")


def test_the_next_server_of_an_upstream_is_tried(calls, client, peer):
    nginx = calls(*UNARY)
    for _ in range(4):
        assert ask(nginx, client, call("Echo", "x", "retry"), PAUSE).get("x-answer") == "x"


def test_a_refused_connection_is_unavailable(calls, client, peer):
    nginx = calls(*UNARY)
    response = ask(nginx, client, call("Echo", "x", "127.0.0.1:1"), PAUSE)
    assert (response.get("x-closed"), response.get("x-text")) == ("14", "no peer could be reached")


def test_a_serialized_service_names_the_target(calls, client, peer):
    nginx = calls(*UNARY)
    name = f"127.0.0.1:{peer.port}".encode()
    envoy = b"\x0a" + bytes([len(name) + 2]) + b"\x0a" + bytes([len(name)]) + name
    google = b"\x12" + bytes([len(name) + 2]) + b"\x0a" + bytes([len(name)]) + name
    extra = b"\x2a\x09\x0a\x03x-k\x12\x02v1"
    for service in (envoy, google, envoy + extra):
        word = "".join(f"\\x{b:02x}" for b in service)
        assert ask(nginx, client, call("Metadata", "x", word), PAUSE).get("x-answer")
    assert ["x-k", "v1"] in [list(pair) for pair in peer.seen[-1][1]]


def test_a_call_that_was_cancelled_is_never_answered(calls, client, peer):
    nginx = calls("grpc_receive: log received", "grpc_close: log was-closed")
    response = ask(nginx, client, call("Hang", "x"), "request_headers: grpc_cancel", "request_headers: status x-s", "request_headers: grpc_cancel", "request_headers: status x-again")
    assert (response.get("x-s"), response.get("x-again")) == ("0", "1")
    ask(nginx, client, call("Echo", "x"))
    nginx.wait_log("received")
    assert not nginx.log_lines("was-closed")


# ---- streams ----

STREAM = (
    "grpc_initial_metadata: log initial n=$n", "grpc_receive: body", "grpc_receive: log message=$value",
    "grpc_trailing_metadata: log trailing n=$n", "grpc_close: call_status", "grpc_close: log closed=$code text=$value", "grpc_close: resume",
)


def stream(method, target="named", *metadata):
    return f"request_headers: grpc_stream {target} {SERVICE} {method} {' '.join(metadata)}"


def events(nginx):
    """What the filter has logged about its streams, in order."""
    found = []
    for line in nginx.log_lines("probe"):
        for word in ("initial n=", "message=", "trailing n=", "closed="):
            at = line.find(f"] {word}")
            if at >= 0:
                found.append(line[at + 2 :].split(" while ")[0].split(", client")[0].strip())
    return found


def test_the_server_streams(calls, client, peer):
    nginx = calls(*STREAM)
    assert ask(nginx, client, stream("Count"), "request_headers: grpc_send 1 3", PAUSE).body == payload(5)
    got = events(nginx)
    assert [e.split()[0] for e in got] == ["initial", "message=1", "message=2", "message=3", "trailing", "closed=0"]


def test_the_client_streams(calls, client, peer):
    nginx = calls(*STREAM)
    sends = [f"request_headers: grpc_send {int(i == 3)} m{i}" for i in range(4)]
    ask(nginx, client, stream("Join"), *sends, PAUSE)
    assert "message=m0+m1+m2+m3" in events(nginx)


def test_both_stream(calls, client, peer):
    lines = ("grpc_receive@1: grpc_send 0 second", "grpc_receive@2: grpc_send 1 third")
    nginx = calls(*STREAM, *lines)
    ask(nginx, client, stream("Chat"), "request_headers: grpc_send 0 first", PAUSE)
    assert [e for e in events(nginx) if e.startswith("message")] == ["message=FIRST", "message=SECOND", "message=THIRD"]


def test_a_stream_is_half_closed_by_close(calls, client, peer):
    nginx = calls(*STREAM)
    ask(nginx, client, stream("Join"), "request_headers: grpc_send 0 only", "request_headers: grpc_close", PAUSE)
    assert "message=only" in events(nginx) and any(e.startswith("closed=0") for e in events(nginx))


def test_metadata_of_a_stream_can_be_read(calls, client, peer):
    nginx = calls("grpc_initial_metadata: get x-initial x-i", "grpc_initial_metadata: get :status x-http", "grpc_trailing_metadata: get x-trailing x-t", "grpc_trailing_metadata: get grpc-status x-g", "grpc_close: resume")
    response = ask(nginx, client, stream("Metadata"), "request_headers: grpc_send 1 x", PAUSE)
    assert [response.get(n) for n in ("x-i", "x-http", "x-t", "x-g")] == ["i1", "200", "t1", "0"]


def test_a_stream_that_fails_tells_all_before_its_end(calls, client, peer):
    nginx = calls(*STREAM)
    ask(nginx, client, stream("CountFail"), "request_headers: grpc_send 1 x", PAUSE)
    got = events(nginx)
    assert got[1] == "message=first" and got[-1].startswith("closed=9 text=no more: 100% ")


def test_an_answer_of_trailers_alone(calls, client, peer):
    nginx = calls(*STREAM)
    ask(nginx, client, stream("NoSuchMethod"), "request_headers: grpc_send 1 x", PAUSE)
    got = events(nginx)
    assert got[0] == "initial n=0" and got[1].startswith("trailing n=") and got[2].startswith("closed=12")


def test_a_stream_that_is_cancelled_is_reset_at_the_peer(calls, client, peer):
    nginx = calls("grpc_receive@3: grpc_cancel", "grpc_receive@3: resume", "grpc_receive: log a-message", "grpc_close: log was-closed")
    ask(nginx, client, stream("Tick"), "request_headers: grpc_send 1 x", PAUSE)
    assert peer.left.acquire(timeout=10)
    assert len(nginx.log_lines("] a-message")) == 3 and not nginx.log_lines("was-closed")


def test_a_server_that_goes_away_ends_its_streams(calls, client, peer):
    leaving = Server()
    nginx = calls(*STREAM, "grpc_receive@1: log ticking")
    done = []
    thread = threading.Thread(target=lambda: done.append(ask(nginx, client, stream("Tick", f"127.0.0.1:{leaving.port}"), "request_headers: grpc_send 1 x", PAUSE)))
    thread.start()
    nginx.wait_log("ticking")
    leaving.stop(None)
    thread.join(20)
    assert done[0].body == payload(5)
    assert any(e.startswith(("closed=14", "closed=1 ", "closed=2")) for e in events(nginx)), events(nginx)


def test_a_server_that_comes_back_is_reached_again(calls, client, peer):
    first = Server()
    nginx = calls(*UNARY)
    target = f"127.0.0.1:{first.port}"
    assert ask(nginx, client, call("Echo", "one", target), PAUSE).get("x-answer") == "one"
    first.stop(None)
    second = Server(port=first.port)
    try:
        for _ in range(4):
            assert ask(nginx, client, call("Echo", "two", target), PAUSE).get("x-answer") == "two"
    finally:
        second.stop()


# ---- everything from everywhere ----


def test_a_root_context_calls_when_it_starts_and_on_its_tick(calls, peer):
    nginx = calls("quiet", f"configure: grpc_call named {SERVICE} Echo 5000 at-start", "configure: tick 50", f"tick@1: grpc_call named {SERVICE} Echo 5000 on-tick", "grpc_receive: body", "grpc_receive: log got-$value")
    nginx.wait_log("got-at-start")
    nginx.wait_log("got-on-tick")


def test_an_answer_starts_the_next_call(calls, client, peer):
    nginx = calls(f"grpc_receive@1: grpc_call named {SERVICE} Echo 5000 two", "grpc_receive@2: body x-answer", "grpc_receive@2: resume")
    assert ask(nginx, client, call("Echo", "one"), PAUSE).get("x-answer") == "two"


def test_an_http_call_starts_a_grpc_call(calls, client, peer, upstream):
    nginx = calls(f"call_response: grpc_call named {SERVICE} Echo 5000 after", *UNARY)
    response = ask(nginx, client, f"request_headers: http_call 127.0.0.1:{upstream.port} a /bytes/3 5000", PAUSE)
    assert response.get("x-answer") == "after"


def test_the_log_phase_calls_when_the_request_has_gone(calls, client, peer):
    nginx = calls("grpc_receive: log answered-$size")
    ask(nginx, client, f"log: grpc_call named {SERVICE} Echo 5000 logged")
    nginx.wait_log("answered-6")


def test_a_client_that_leaves_while_a_call_runs(calls, client, peer):
    nginx = calls("grpc_receive: log answered-$size", "grpc_receive: resume")
    for _ in range(5):
        c = client.Connection(port(nginx, client))
        lines = probe.do(call("Slow", "100"), PAUSE)
        c.send_headers("GET", "/bytes/1000", lines) if client is http2 else c.send_request("GET", "/bytes/1000", lines)
        time.sleep(0.03)
        c.close()
    nginx.wait_log("answered-3", 5)


def test_a_paused_request_survives_a_reload(calls, peer):
    nginx = calls(*UNARY)
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/bytes/5", probe.do(call("Slow", "800"), PAUSE))
        time.sleep(0.1)
        nginx.reload()
        assert c.read_response().get("x-answer") == "800"


def test_workers_end_while_calls_and_streams_run(calls, peer):
    nginx = calls(f"configure: grpc_call named {SERVICE} Hang 0 x", f"configure: grpc_stream named {SERVICE} Tick", "configure: grpc_send 1 x")
    assert peer.entered.acquire(timeout=10) and peer.entered.acquire(timeout=10)
    nginx.stop()


def test_a_trap_in_a_callback_ends_the_streams_of_that_filter(calls, client, peer):
    nginx = calls("grpc_receive@2: trap")
    response = ask(nginx, client, stream("Tick"), "request_headers: grpc_send 1 x", PAUSE)
    assert response.status == 500
    assert peer.left.acquire(timeout=10)
    assert ask(nginx, client).status == 200


def test_the_other_dialect_has_them_too(calls, client, peer):
    nginx = calls(*UNARY, extra="proxy_wasm_dialect wasmx;")
    assert ask(nginx, client, call("Echo", "hello"), PAUSE).get("x-answer") == "hello"


# ---- operators ----


def test_calls_are_counted_by_filter(calls, peer, upstream):
    nginx = calls(*UNARY, "call_response: resume", extra="location = /metrics { sluice_metrics; }")

    def metrics():
        text = http1.get(nginx.port(), "/metrics").body.decode()
        return {name: int(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("sluice_calls_"))}

    ask(nginx, http1, call("Echo", "x"), PAUSE)
    ask(nginx, http1, call("Fail", "7\\sno"), PAUSE)
    ask(nginx, http1, f"request_headers: http_call 127.0.0.1:{upstream.port} a /bytes/3 5000", PAUSE)
    ask(nginx, http1, "request_headers: http_call 127.0.0.1:1 a / 5000", PAUSE)
    ask(nginx, http1, call("Hang", "x", "named", 0))
    seen = metrics()
    for kind, total, failed, running, reason in (("grpc", 3, 1, 1, "status 7"), ("http", 2, 1, 0, "broken connection")):
        label, failure = f'{{kind="{kind}",filter="probe"}}', f'{{kind="{kind}",reason="{reason}",filter="probe"}}'
        assert (seen["sluice_calls_total" + label], seen["sluice_calls_failed_total" + failure], seen["sluice_calls_in_flight" + label]) == (total, failed, running)


# ---- filters made with the Rust SDK ----


def test_a_rust_filter_talks_on_a_stream(nginx, client, peer, upstream):
    name = "style_rust_grpc_stream"
    if not filter_path(name).exists():
        pytest.skip("not built, this machine has no toolchain for it")
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; proxy_wasm {name}; location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
    nginx.start(servers, http=f"upstream chat {{ server 127.0.0.1:{peer.port}; }}", wasm=f"module {name} {filter_path(name)};")
    client.get(port(nginx, client), "/bytes/3", [("x-say", "one two three")])
    ((_, _, headers),) = [seen for seen in upstream.seen if seen[1] == "/bytes/3"]
    heard = dict((k.lower(), v) for k, v in headers)["x-heard"]
    assert heard.startswith("ONE TWO THREE after ") and int(heard.rsplit(" ", 1)[1]) >= 2
    failed = client.get(port(nginx, client), "/bytes/3", [("x-say", "one fail")])
    assert (failed.status, failed.get("x-grpc-status"), failed.body) == (502, "9", b"as you wished")


def test_a_rust_filter_that_sends_too_much_is_told_so(nginx, client, peer, upstream):
    name = "style_rust_grpc_stream"
    if not filter_path(name).exists():
        pytest.skip("not built, this machine has no toolchain for it")
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; proxy_wasm {name}; location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
    nginx.start(servers, http=f"upstream chat {{ server 127.0.0.1:{peer.port}; }}", wasm=f"module {name} {filter_path(name)};")
    failed = client.get(port(nginx, client), "/bytes/3", [("x-say", "one"), ("x-flood", "20")])
    assert (failed.status, failed.get("x-grpc-status"), failed.body) == (502, "8", b"too much waits to be sent")
    assert not nginx.log_lines("trap in")


# ---- TLS ----


def certificate(folder, name):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, capture_output=True,
    )
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpctls")
    server = Server(grpc.ssl_server_credentials([certificate(folder, "good.test")]))
    server.folder = folder
    yield server
    server.stop()


def service_word(target, authority):
    """A GrpcService with an authority, as a word of the probe."""
    inner = b"\x0a" + bytes([len(target)]) + target.encode() + b"\x12" + bytes([len(authority)]) + authority.encode()
    return "".join(f"\\x{b:02x}" for b in b"\x0a" + bytes([len(inner)]) + inner)


def test_a_call_over_tls_is_verified(calls, client, peer, secure):
    nginx = calls(*UNARY, wasm=f"tls_trusted_certificate {secure.folder}/cert.pem;")
    target = f"grpcs://127.0.0.1:{secure.port}"
    good = ask(nginx, client, call("Echo", "secret", service_word(target, "good.test")), PAUSE)
    assert good.get("x-answer") == "secret"
    bad = ask(nginx, client, call("Echo", "secret", service_word(target, "bad.test")), PAUSE)
    assert (bad.get("x-closed"), bad.get("x-text")) == ("14", "the certificate is for another host")


def test_an_unknown_authority_is_not_trusted(calls, client, peer, secure):
    nginx = calls(*UNARY)
    response = ask(nginx, client, call("Echo", "x", service_word(f"grpcs://127.0.0.1:{secure.port}", "good.test")), PAUSE)
    assert response.get("x-closed") == "14" and "self" in response.get("x-text")


def test_verification_can_be_turned_off(calls, client, peer, secure):
    nginx = calls(*UNARY, wasm="tls_verify_cert off; tls_verify_host off;")
    assert ask(nginx, client, call("Echo", "x", f"grpcs://127.0.0.1:{secure.port}"), PAUSE).get("x-answer") == "x"


def test_cleartext_is_not_tls(calls, client, peer, secure):
    nginx = calls(*UNARY)
    assert ask(nginx, client, call("Echo", "x", f"grpcs://127.0.0.1:{peer.port}"), PAUSE).get("x-closed") == "14"
    assert ask(nginx, client, call("Echo", "x", f"127.0.0.1:{secure.port}"), PAUSE).get("x-closed") == "14"


# ---- peers that are none ----


def frame(kind, flags, stream_id, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + body


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


SETTINGS = frame(4, 0, 0)
OK_HEADERS = frame(1, 4, 1, b"\x88" + literal(b"content-type", b"application/grpc"))
TRAILERS = frame(1, 5, 1, literal(b"grpc-status", b"0"))


@pytest.mark.parametrize(
    "answer,status",
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "14"),
        (b"", "14"),
        (SETTINGS, "14"),
        (SETTINGS + OK_HEADERS, "14"),
        (SETTINGS + OK_HEADERS + frame(0, 0, 1, b"\0\0\0\0\x05abc"), "14"),
        (SETTINGS + OK_HEADERS + frame(0, 0, 1, b"\x01\0\0\0\x01a"), "13"),
        (SETTINGS + OK_HEADERS + frame(0, 0, 1, b"\0\xff\xff\xff\xff"), "8"),
        (SETTINGS + OK_HEADERS + frame(0, 0, 1, b"\0\0\0\0\x05abc") + TRAILERS, "13"),
        (SETTINGS + OK_HEADERS + TRAILERS, "13"),
        (SETTINGS + OK_HEADERS + frame(0, 1, 1, b"\0\0\0\0\x01a"), "2"),
        (SETTINGS + frame(1, 5, 1, b"\x88" + literal(b"content-type", b"text/html")), "2"),
        (SETTINGS + frame(1, 4, 1, b"\x88" + literal(b"content-type", b"text/html")), "2"),
        (SETTINGS + frame(1, 5, 1, literal(b":status", b"503")), "14"),
        (SETTINGS + frame(1, 5, 1, literal(b":status", b"404")), "12"),
        (SETTINGS + frame(3, 0, 1, (8).to_bytes(4, "big")), "1"),
        (SETTINGS + frame(3, 0, 1, (7).to_bytes(4, "big")), "14"),
        (SETTINGS + frame(3, 0, 1, (11).to_bytes(4, "big")), "8"),
        (SETTINGS + OK_HEADERS + frame(0, 0, 1, b"\0\0\0\0\x01a") + frame(1, 5, 1, literal(b"grpc-status", b"99")), "2"),
        (b"\xff" * 200, "14"),
    ],
)
def test_answers_that_are_wrong_are_failures(calls, peer, answer, status):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve():
        c, _ = listener.accept()
        with c:
            c.settimeout(10)
            got = b""
            while b"\x00\x00\x00\x01" not in got[60:]:  # until the request has come
                got += c.recv(65536)
            c.sendall(answer)
            time.sleep(0.1)
            c.shutdown(socket.SHUT_WR)
            try:
                while c.recv(65536):
                    pass
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    nginx = calls(*UNARY)
    response = ask(nginx, http1, call("Echo", "x", f"127.0.0.1:{listener.getsockname()[1]}"), PAUSE)
    thread.join(15)
    listener.close()
    assert response.get("x-closed") == status, response.get("x-text")


def test_a_request_that_the_peer_has_not_looked_at_is_asked_again(calls, peer):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    goaway = frame(7, 0, 0, bytes(8))
    answers = [SETTINGS + goaway, SETTINGS + OK_HEADERS + frame(0, 0, 1, b"\0\0\0\0\x05again") + TRAILERS]
    left = [SETTINGS + goaway, SETTINGS + goaway]

    def serve():
        for answer in answers + left:
            c, _ = listener.accept()
            with c:
                c.settimeout(10)
                got = b""
                while b"\x00\x00\x00\x01" not in got[60:]:
                    got += c.recv(65536)
                c.sendall(answer)
                while answer is answers[1] and c.recv(65536):
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    nginx = calls(*UNARY)
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    response = ask(nginx, http1, call("Echo", "x", target), PAUSE)
    assert response.get("x-answer") == "again", response.get("x-text")
    nginx.reload()  # idle connections go with the old workers
    response = ask(nginx, http1, call("Echo", "x", target), PAUSE)
    assert response.get("x-closed") == "14"
    thread.join(10)
    listener.close()
    assert not thread.is_alive()
