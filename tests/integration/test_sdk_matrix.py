"""
The same behaviours (tests/filters/README.md) from filters that are built from source with each SDK: what a host does must not depend
on how a language's SDK asks for it.
"""

import json
import re
import time

import pytest

from support import http1, http2
from support.nginx import Nginx, filter_path, version, wait_for
from support.upstream import payload

SDKS = ["sdk_c", "sdk_c_010", "sdk_cpp", "sdk_rust_014", "sdk_rust_021", "sdk_rust_current", "sdk_go_matrix", "sdk_as"]
# What an SDK or its language does not have.
LACKS = {
    "sdk_c": {"print"},
    "sdk_c_010": {"print"},
    "sdk_rust_014": {"foreign"},
    "sdk_as": {"map", "print"},
}
OLD = {"sdk_c_010", "sdk_rust_014"}  # ABI 0.1.0: headers callbacks are not told whether a body follows


@pytest.fixture(scope="module", params=SDKS)
def sdk(request):
    if not filter_path(request.param).exists():
        pytest.skip(f"{request.param} is not built: this machine has no toolchain for it")
    return request.param


def configuration(sdk, upstream, module="vm text", name=None):
    name = name or sdk
    wasm = f"module {sdk} {filter_path(sdk)} '{module}';"
    http = f"upstream origin {{ server 127.0.0.1:{upstream.port}; }}"
    trailers = "proxy_pass_trailers on;" if version() >= (1, 27, 2) else ""
    servers = f"""server {{
        listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2;
        location = /metrics {{ sluice_metrics; }}
        location / {{
            proxy_wasm {sdk} {name};
            proxy_http_version 1.1; proxy_set_header TE trailers; proxy_set_header Connection TE; {trailers}
            proxy_pass http://origin;
        }}
    }}"""
    return {"servers": servers, "http": http, "wasm": wasm}


@pytest.fixture(scope="module")
def running(sdk, upstream_server, tmp_path_factory):
    """One nginx for all behaviours of a filter; its log is checked at the end."""
    server = Nginx(tmp_path_factory.mktemp(sdk), workers=1, level="debug")
    server.sdk = sdk
    server.allow("level critical", "as asked")
    try:
        server.start(**configuration(sdk, upstream_server))
        yield server
    finally:
        server.stop()


class Side:
    def __init__(self, server, client, upstream):
        self.server, self.client, self.upstream, self.sdk = server, client, upstream, server.sdk
        self.port = server.port("2" if client is http2 else "main")

    def send(self, behaviour, path="/echo", method="GET", headers=(), body=None):
        if behaviour in LACKS.get(self.sdk, ()):
            pytest.skip(f"{self.sdk} has no {behaviour}")
        before = len(self.server.log())
        response = self.client.request(self.port, method, path, [("x-do", behaviour), *headers], body)
        response.logged_from = before
        return response

    def echoed(self, behaviour, **more):
        response = self.send(behaviour, **more)
        assert response.status == 200, response
        assert response.get("x-filter") == self.sdk
        document = json.loads(response.body)
        document["pairs"] = [tuple(pair) for pair in document["headers"]]
        document["response"] = response
        return document

    def note(self, behaviour, **more):
        response = self.send(behaviour, **more)
        assert response.status == 200, response
        return response.get("x-note")

    def wait(self, part, response):
        wait_for(lambda: part in self.server.log()[response.logged_from :], f"{part!r} in {self.server.log()[response.logged_from:]}")


@pytest.fixture
def side(running, client, upstream):
    return Side(running, client, upstream)


# ---- life ----


def test_both_configurations_are_read(side):
    side.server.wait_log("vm [vm text]")
    side.server.wait_log(f"configured [{side.sdk}]")


def test_a_plain_request_passes_and_is_logged(side):
    seen = side.echoed("nothing", method="POST", body=b"hello")
    assert seen["body"] == "hello"
    side.wait("log [nothing] status=200", seen["response"])


@pytest.mark.parametrize("method, body, end", [("GET", None, "yes"), ("POST", b"x", "no")])
def test_headers_callbacks_know_whether_a_body_follows(side, method, body, end):
    seen = side.echoed("nothing", method=method, body=body)
    side.wait(f"request headers end={'unknown' if side.sdk in OLD else end}", seen["response"])
    side.wait(f"response headers end={'unknown' if side.sdk in OLD else 'no'}", seen["response"])


def test_a_response_without_a_body_says_so(side):
    response = side.send("nothing", path="/status/204")
    assert (response.status, response.get("x-filter")) == (204, side.sdk)
    side.wait(f"response headers end={'unknown' if side.sdk in OLD else 'yes'}", response)


def test_a_panic_fails_its_request_and_the_next_one_has_a_new_virtual_machine(side):
    response = side.send("panic")
    assert response.status == 500
    assert side.echoed("nothing")["response"].status == 200


# ---- headers ----


def test_request_headers_are_read_replaced_added_and_removed(side):
    seen = side.echoed("headers", headers=[("x-in", "v"), ("x-gone", "1"), ("x-stays", "2")])
    assert [v for n, v in seen["pairs"] if n == "x-in"] == ["v-changed"]
    assert [v for n, v in seen["pairs"] if n == "x-multi"] == ["one", "two"]
    assert "x-gone" not in dict(seen["pairs"]) and ("x-stays", "2") in seen["pairs"]
    assert seen["response"].get("x-note") == "v,gone"


def test_the_whole_map_is_read_and_written(side):
    seen = side.echoed("map", headers=[("x-gone", "1"), ("x-b", "2"), ("x-c", "3")])
    names = dict(seen["pairs"])
    assert names["x-map"] == "4" and names["x-b"] == "2" and "x-gone" not in names  # with x-do


def test_the_path_is_changed(side):
    assert side.echoed("path", path="/elsewhere")["path"] == "/echo/rewritten?by=guest"


# ---- bodies ----


@pytest.mark.parametrize("size", [5, 60000])
def test_a_request_body_is_collected_and_replaced(side, size):
    body = payload(size)
    seen = side.echoed("body", method="POST", body=body)
    assert seen["body"] == f"<{body.decode()}>"


def test_a_request_body_is_streamed_and_appended_to(side):
    assert side.echoed("append", method="POST", body=payload(40000))["body"] == payload(40000).decode() + "+end"


@pytest.mark.parametrize("path, size", [("/bytes/100", 100), ("/chunked/100000/777", 100000), ("/slow/3/10", 24)])
def test_a_response_body_is_streamed_and_appended_to(side, path, size):
    response = side.send("stream", path=path)
    assert response.complete and response.body.endswith(b"|end")
    whole = response.body[: -len(b"|end")].replace(b"|", b"")
    assert whole == (b"piece-0\npiece-1\npiece-2\n" if size == 24 else payload(size))


@pytest.mark.parametrize("path, size", [("/bytes/100", 100), ("/bytes/90000", 90000), ("/chunked/50000/777", 50000), ("/bytes/0", 0)])
def test_a_response_body_is_collected_and_replaced(side, path, size):
    response = side.send("rebuild", path=path)
    # A message that says at its headers that nothing follows has no body callback.
    assert response.complete and response.body in ([b"length=0", b""] if size == 0 else [b"length=%d" % size])


def test_response_trailers_are_read_replaced_and_added(side):
    if version() < (1, 27, 2):
        pytest.skip("nginx before 1.27.2 does not pass trailers of an HTTP/1.1 upstream")
    response = side.send("trailers", path="/trailers/100", headers=[("te", "trailers")])
    assert response.body == payload(100)
    assert sorted(response.trailers) == [("x-added", "guest"), ("x-second", "t2"), ("x-trailer", "t1-changed")]


# ---- replies ----


@pytest.mark.parametrize(
    "behaviour, status, body, method, sent",
    [("reply", 403, "denied", "GET", None), ("replybody", 413, "body", "POST", b"some body"), ("replylate", 502, "late", "GET", None)],
)
def test_local_replies_from_each_phase(side, behaviour, status, body, method, sent):
    response = side.send(behaviour, method=method, body=sent)
    assert (response.status, response.body.decode(), response.get("x-reply")) == (status, f"{body}:{side.sdk}", "yes")
    side.wait(f"log [{behaviour}] status={status}", response)


# ---- calls and timers ----


def test_a_request_waits_for_a_call_and_sees_its_answer(side):
    seen = side.echoed("call", method="POST", body=b"mine")
    assert dict(seen["pairs"])["x-call"] == "200,42,headers"
    assert seen["body"] == "mine"
    assert b"ping" in side.upstream.bodies
    (call,) = [headers for method, target, headers in side.upstream.seen if target.startswith("/headers")]
    assert ("host", "origin") in [tuple(h) for h in call] and ("x-from", "guest") in [tuple(h) for h in call]


def test_a_response_waits_for_a_call(side):
    response = side.send("callresponse", path="/bytes/5000")
    assert (response.status, response.get("x-call"), response.body) == (200, "200,42,headers", payload(5000))


def test_a_reply_from_the_answer_of_a_call(side):
    response = side.send("callreply")
    assert (response.status, response.body.decode()) == (401, f"200,42,headers:{side.sdk}")


def test_a_call_that_gets_no_answer_in_time_is_reported(side):
    assert dict(side.echoed("calltimeout")["pairs"])["x-call"] == "504,,upstream request timeout"


def test_a_call_to_an_unknown_upstream_is_refused(side):
    assert side.note("callrefused") == "refused"


def test_a_request_waits_for_a_tick(side):
    seen = side.echoed("tick", method="POST", body=payload(5000))
    assert dict(seen["pairs"])["x-ticked"] == "yes" and seen["body"] == payload(5000).decode()


def test_many_requests_wait_at_once(side):
    connections = []
    try:
        for _ in range(8):
            connection = http1.Connection(side.server.port())
            connection.send_request("GET", "/echo", [("x-do", "call"), ("Connection", "close")])
            connections.append(connection)
        for connection in connections:
            response = connection.read_response()
            assert response.status == 200 and ["x-call", "200,42,headers"] in json.loads(response.body)["headers"]
    finally:
        for connection in connections:
            connection.close()


# ---- state ----


def test_shared_data_with_compare_and_swap(side):
    before, wrong, after = side.note("shared").split(",")
    assert before in ("none", "2") and (wrong, after) == ("mismatch", "2")


def test_a_queue_brings_its_items(side):
    item = f"{side.client.__name__}-{time.monotonic_ns()}"
    response = side.send("queue", headers=[("x-in", item)])
    assert response.status == 200
    side.wait(f"dequeued item-{item}", response)
    side.wait("queue empty", response)


def test_metrics_count_and_are_shown(side):
    counter, gauge = map(int, side.note("metric").split(","))
    again, after = map(int, side.note("metric").split(","))
    assert again == counter + 2
    assert after == (gauge + 7 if side.sdk == "sdk_go_matrix" else 7)  # Go's SDK adds to gauges, the others set them
    text = http1.get(side.server.port(), "/metrics").text
    assert re.search(rf"(?m)^\S*matrix_{side.sdk}_counter\S* {again}$", text), text
    assert re.search(rf"(?m)^\S*matrix_{side.sdk}_histogram_count\S* {again // 2}$", text), text


# ---- the rest ----


def test_properties_are_read_and_set(side):
    assert side.note("property", path="/echo/x?y=1") == "/echo/x?y=1,kept,none,[]"


def test_an_unknown_foreign_function_is_not_found(side):
    assert side.note("foreign") == "not found"


def test_the_time_is_the_time(side):
    assert abs(int(side.note("time")) - time.time()) < 5


def test_messages_of_each_level_are_logged_with_that_level(side):
    response = side.send("log")
    side.wait("level critical", response)
    lines = side.server.log()[response.logged_from :].splitlines()
    levels = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warn", "error": "error", "critical": "crit"}
    for guest, nginx in levels.items():
        assert [line for line in lines if f"level {guest}" in line and f"[{nginx}]" in line], f"{guest}: {lines}"


def test_what_is_printed_is_logged(side):
    response = side.send("print")
    assert response.status == 200
    side.wait("to stdout", response)
    side.wait("to stderr", response)


# ---- configurations ----


def test_a_refused_configuration_is_an_error_of_the_configuration(sdk, nginx, upstream):
    nginx.write(**configuration(sdk, upstream, name="refuse"))
    result = nginx.check()
    assert result.returncode != 0 and "configured [refuse]" in result.stderr + nginx.log(), result.stderr


def test_two_filters_of_one_module_have_their_own_configurations(sdk, nginx, upstream):
    parts = configuration(sdk, upstream, module="")
    parts["servers"] = parts["servers"].replace(f"proxy_wasm {sdk} {sdk};", f"proxy_wasm {sdk} first; proxy_wasm {sdk} second; proxy_wasm {sdk};")
    parts["wasm"] = parts["wasm"].replace(" ''", "")
    nginx.workers = 1
    nginx.start(**parts)
    response = http1.get(nginx.port(), "/echo", [("x-do", "path")])
    assert response.status == 200 and json.loads(response.body)["path"] == "/echo/rewritten?by=guest"
    for name in ("first", "second", ""):
        assert f"configured [{name}]" in nginx.log()


def test_the_root_id_is_what_the_line_says(sdk, nginx, upstream):
    nginx.start(**configuration(sdk, upstream, name=f"{sdk} root_id=matrix"))
    response = http1.get(nginx.port(), "/echo", [("x-do", "property")])
    assert response.get("x-note") == "/echo,kept,none,[matrix]"


@pytest.mark.parametrize("name, text", [("sdk_cpp", "no root context for root id: another"), ("sdk_as", "Missing root context factory for root id: another")])
def test_a_root_id_that_a_module_does_not_have_fails_the_check(nginx, upstream, name, text):
    if not filter_path(name).exists():
        pytest.skip(f"{name} is not built")
    nginx.write(**configuration(name, upstream, name=f"{name} root_id=another"))
    result = nginx.check()
    assert result.returncode != 0 and text in result.stderr + nginx.log(), result.stderr
