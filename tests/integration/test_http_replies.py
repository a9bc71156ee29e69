"""Answers that filters make, in each phase, and the bad ends: traps, resets."""

import pytest

from support import http1, http2, probe
from support.nginx import filter_path
from support.upstream import payload


@pytest.fixture
def proxy(nginx, upstream):
    def start(*lines, extra="", location=""):
        filters = probe.use(*lines, probe.EXEC)
        body = f"{filters} {extra} location / {{ {location} proxy_pass http://127.0.0.1:{upstream.port}; }} location /r {{ return 200 returned; }}"
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {body} location = /page {{ return 200 page; }} }}"
        nginx.start(servers, wasm=probe.module())
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


PHASES = ["request_headers", "request_body@eos", "response_headers", "response_body@eos"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_reply_from_any_phase_is_what_the_client_gets(proxy, client, phase, upstream):
    nginx = proxy(extra="proxy_wasm_headers_stop_iteration on;")
    lines = [f"{phase}: reply 418 teapot x-a=1 x-a=2 content-type=a/b"]
    if phase.startswith("response_body"):
        lines = ["response_headers: pause", "response_body: pause_until_eos", *lines]
    response = client.request(port(nginx, client), "POST", "/etag/5000", probe.do(*lines), b"hello")
    assert (response.status, response.body) == (418, b"teapot")
    assert response.all("x-a") == ["1", "2"]
    assert response.get("content-type") == "a/b"
    assert response.get("content-length") == "6"
    assert response.get("etag") is None and response.all("set-cookie") == []
    if phase == "request_headers":
        assert upstream.seen == []


@pytest.mark.parametrize("phase", PHASES)
def test_a_reply_without_a_body_has_no_content_type(proxy, client, phase):
    nginx = proxy(extra="proxy_wasm_headers_stop_iteration on;")
    lines = [f"{phase}: reply 403"]
    if phase.startswith("response_body"):
        lines = ["response_headers: pause", "response_body: pause_until_eos", *lines]
    response = client.request(port(nginx, client), "POST", "/etag/5000", probe.do(*lines), b"hello")
    assert (response.status, response.body, response.get("content-length"), response.get("content-type")) == (403, b"", "0", None)


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_a_body_without_a_type_is_plain_text(proxy, client, phase):
    nginx = proxy()
    assert client.get(port(nginx, client), "/bytes/5", probe.do(f"{phase}: reply 200 hi")).get("content-type") == "text/plain"


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_head_gets_the_reply_without_its_body(proxy, client, phase):
    nginx = proxy()
    response = client.request(port(nginx, client), "HEAD", "/bytes/5", probe.do(f"{phase}: reply 200 hello"))
    assert (response.status, response.body, response.get("content-length")) == (200, b"", "5")


@pytest.mark.parametrize("phase", ["request_headers", "request_body@eos", "response_headers"])
def test_a_large_reply_arrives_whole(proxy, client, phase):
    nginx = proxy("quiet")
    response = client.request(port(nginx, client), "POST", "/bytes/5", probe.do(f"{phase}: reply 200 {'x' * 5000}"), b"hi")
    assert response.body == b"x" * 5000


@pytest.mark.parametrize("path", ["/r", "/bytes/1000", "/chunked/100000/100", "/sse"])
def test_a_reply_takes_the_place_of_any_response(proxy, client, path):
    nginx = proxy()
    response = client.get(port(nginx, client), path, probe.do("response_headers: reply 451 gone"))
    assert (response.status, response.body) == (451, b"gone")


def test_error_pages_do_not_take_a_replys_place(proxy, client):
    nginx = proxy(extra="error_page 403 503 418 = /page;")
    for phase in ("request_headers", "request_body@eos", "response_headers"):
        response = client.request(port(nginx, client), "POST", "/bytes/5", probe.do(f"{phase}: reply 403 mine"), b"hello")
        assert (response.status, response.body) == (403, b"mine"), phase


def test_a_reply_of_the_request_passes_the_response_callbacks(proxy, client):
    nginx = proxy("response_headers: add x-seen $n", "response_body: append !")
    response = client.get(port(nginx, client), "/bytes/5", probe.do("request_headers: reply 403 denied"))
    assert response.get("x-seen") is not None and response.body == b"denied!"


def test_a_reply_of_the_response_passes_no_callback_again(proxy, client):
    nginx = proxy("response_body: append !")
    assert client.get(port(nginx, client), "/bytes/5", probe.do("response_headers: reply 403 denied")).body == b"denied"


def test_a_grpc_request_gets_a_grpc_answer(proxy, client):
    nginx = proxy()
    headers = [("Content-Type", "application/grpc")]
    response = client.request(port(nginx, client), "POST", "/x", headers + probe.do("request_headers: reply 403 no\\sway grpc=7"), b"")
    assert (response.status, response.body) == (200, b"")
    assert (response.get("grpc-status"), response.get("grpc-message")) == ("7", "no way")
    assert response.get("content-type") == "application/grpc"
    response = client.request(port(nginx, client), "POST", "/x", headers + probe.do("request_headers: reply 429 a%b"), b"")
    assert (response.get("grpc-status"), response.get("grpc-message")) == ("14", "a%25b")


def test_a_reply_after_a_pause(proxy, client):
    nginx = proxy("configure: tick 30", "tick: reply 403 later x-l=1")
    for phase in ("request_headers", "request_body", "response_headers"):
        response = client.request(port(nginx, client), "POST", "/bytes/500", probe.do(f"{phase}: pause"), b"hello")
        assert (response.status, response.body, response.get("x-l")) == (403, b"later", "1"), phase


@pytest.mark.parametrize("lines", [("response_body: reply 403 late",), ("response_body: pause_until_eos", "response_body@eos: reply 403 late")])
def test_a_reply_after_the_headers_have_been_released_resets(proxy, client, lines):
    nginx = proxy()
    with pytest.raises(http1.Closed):
        client.get(port(nginx, client), "/bytes/5000", probe.do(*lines))


def test_replies_keep_the_connection_usable(proxy):
    nginx = proxy()
    with http1.Connection(nginx.port()) as c:
        for phase in ("request_headers", "request_body@eos", "response_headers"):
            c.send_request("POST", "/bytes/5", probe.do(f"{phase}: reply 403 {phase}"), b"hello")
            assert c.read_response().text == phase
        c.send_request("GET", "/bytes/5")
        assert c.read_response().body == b"00000"


def test_server_level_headers_are_added_to_replies(proxy, client):
    nginx = proxy(extra="add_header x-always yes always;")
    assert client.get(port(nginx, client), "/", probe.do("request_headers: reply 403 no")).get("x-always") == "yes"


# ---- resets ----


@pytest.mark.parametrize("phase", ["request_headers", "request_body@eos", "response_headers", "response_body@eos"])
def test_a_closed_stream_ends_without_an_answer(proxy, client, phase):
    nginx = proxy(extra="proxy_buffering off;")
    try:
        response = client.request(port(nginx, client), "POST", "/slow/3/20", probe.do(f"{phase}: close"), b"hello")
        assert phase.startswith("response_body") and not response.complete
    except http1.Closed:
        pass
    assert client.get(port(nginx, client), "/bytes/3").body == b"000"


def test_a_stream_closed_while_it_waits(proxy, client):
    nginx = proxy("configure: tick 30", "tick: close")
    for phase in ("request_headers", "request_body", "response_headers"):
        with pytest.raises(http1.Closed):
            client.request(port(nginx, client), "POST", "/bytes/500", probe.do(f"{phase}: pause"), b"hello")
    assert client.get(port(nginx, client), "/bytes/3").body == b"000"


# ---- traps ----


@pytest.mark.parametrize("phase", ["context_create", "request_headers", "request_body", "response_headers"])
def test_a_trap_answers_500_and_the_next_request_is_served(proxy, client, phase):
    nginx = proxy(f"{phase}?x-trap: trap")
    response = client.request(port(nginx, client), "POST", "/etag/500", [("X-Trap", "1")], b"hello")
    assert response.status == 500
    assert response.get("etag") is None
    assert client.request(port(nginx, client), "POST", "/bytes/3", body=b"x").body == b"000"
    nginx.wait_log("probe")
    assert any("[error]" in line and "probe" in line for line in nginx.log().splitlines())


def test_a_trap_in_the_body_breaks_the_response_off(proxy, client):
    nginx = proxy("response_body@eos?x-trap: trap", extra="proxy_buffering off;")
    try:
        response = client.get(port(nginx, client), "/slow/3/20", [("X-Trap", "1")])
        assert not response.complete
    except http1.Closed:
        pass
    assert client.get(port(nginx, client), "/bytes/3").body == b"000"


def test_a_trap_while_the_whole_body_is_held_answers_500(proxy, client):
    nginx = proxy("response_body@eos?x-trap: trap", "response_body: pause_until_eos")
    assert client.get(port(nginx, client), "/bytes/3000", [("X-Trap", "1")]).status == 500


def test_a_trap_in_log_is_only_logged(proxy, client):
    nginx = proxy("log?x-trap: trap")
    assert client.get(port(nginx, client), "/bytes/3", [("X-Trap", "1")]).body == b"000"
    assert client.get(port(nginx, client), "/bytes/3").body == b"000"


def test_streams_that_wait_fail_when_their_vm_traps(proxy, nginx, client):
    nginx.workers = 1  # so that what traps is the VM of what waits
    proxy()
    with client.Connection(port(nginx, client)) as c:
        if client is http1:
            c.send_request("GET", "/bytes/3", probe.do("request_headers: pause"))
        else:
            stream = c.send_headers("GET", "/bytes/3", probe.do("request_headers: pause"))
        nginx.wait_log("on_request_headers")
        client.get(port(nginx, client), "/bytes/3", probe.do("request_headers: trap"))
        response = c.read_response() if client is http1 else c.finish(stream)
        assert response.status == 500


def test_a_trapping_filter_does_not_stop_the_others(nginx, upstream, client):
    wasm = probe.module() + f"module bad {filter_path('trap_all')};"
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; location / {{ {probe.use('quiet')} proxy_pass http://127.0.0.1:{upstream.port}; }} location /bad/ {{ proxy_wasm bad request_headers; proxy_pass http://127.0.0.1:{upstream.port}/; }} }}"
    nginx.start(servers, wasm=wasm)
    for _ in range(3):
        assert client.get(port(nginx, client), "/bad/bytes/3").status == 500
        assert client.get(port(nginx, client), "/bytes/3").body == b"000"


def test_a_large_upstream_response_is_given_up_when_it_is_replaced(proxy, client):
    nginx = proxy()
    assert client.get(port(nginx, client), "/bytes/20000000", probe.do("response_headers: reply 403 no")).body == b"no"
    assert client.get(port(nginx, client), "/bytes/10").body == payload(10)
