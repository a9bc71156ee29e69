"""
Everything from everywhere: each thing that a filter may ask of the host beside its message (HTTP call, gRPC call, shared data, queue, metric,
timer, foreign function) from each callback; while the stream waits, after the client has gone, over a reload, while a worker ends.
"""

import re
import time

import pytest

from support import http1, http2, probe
from support.grpc_server import SERVICE, Server
from support.nginx import wait_for

# What is asked for, and what the log has to show for it besides the status 0. %s is the place where it was asked for.
HTTP, GRPC = "http_call 127.0.0.1:{http} a /bytes/7 5000", "grpc_call 127.0.0.1:{grpc} " + SERVICE + " Echo 5000 hello"
ACTIONS = {
    "http": ([HTTP], ["on_http_call_response"]),
    "grpc": ([GRPC], ["on_grpc_receive"]),
    "data": (["shared_set k v-%s", "shared_get k"], ["shared_get k = 0 value=v-%s"]),
    "queue": (["queue_register q-%s", "enqueue item-%s", "dequeue"], ["dequeue = 0 value=item-%s", "on_queue_ready"]),
    "metric": (["metric counter c-%s", "metric_add 3", "metric_get"], ["metric_get = 0 value=3"]),
    "timer": (["tick 20"], ["on_tick"]),
}
FOREIGN = "foreign no-such-function x"

ROOT_PLACES = ["vm_start", "configure", "tick", "queue_ready", "http_call_response", "grpc_receive"]
STREAM_PLACES = ["context_create", "request_headers", "request_body", "response_headers", "response_body", "response_trailers", "log", "done", "delete"]
# What makes the callbacks of roots come.
CAUSES = {
    "tick": ["configure: tick 20"],
    "queue_ready": ["configure: queue_register first", "configure: enqueue first"],
    "http_call_response": ["configure: " + HTTP],
    "grpc_receive": ["configure: " + GRPC],
}
PAUSES = ["request_headers", "request_body", "response_headers", "response_body", "response_trailers"]


@pytest.fixture(scope="module")
def grpc_server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def start(nginx, upstream, grpc_server):
    def go(*lines, vm=None, workers=1):
        fill = lambda line: line.format(http=upstream.port, grpc=grpc_server.port) if "http_call" in line or "grpc_call" in line else line  # noqa: E731
        servers = f"""
        server {{ listen 127.0.0.1:@PORT@ http2; listen 127.0.0.1:@PORT1@; {probe.use(*map(fill, lines), probe.EXEC)} location / {{ grpc_pass grpc://127.0.0.1:@PORTorigin@; }} }}
        server {{ listen 127.0.0.1:@PORTorigin@ http2; add_trailer grpc-status 0 always; location / {{ return 200 hello; }} location /hang {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}
        """
        nginx.workers = workers
        nginx.start(servers, wasm=probe.module(config="\n".join(map(fill, vm or []))))
        return nginx

    return go


def lines_of(place, when=""):
    """All actions at a place: the lines for the probe."""
    asked = [line % place if "%s" in line else line for lines, _ in ACTIONS.values() for line in lines]
    return [f"{place}{when}: {line}" for line in [*asked, FOREIGN]]


def shown(nginx, place, actions=tuple(ACTIONS)):
    """Waits until the log shows that each action was accepted at this place, and what came of it."""
    for action in actions:
        lines, results = ACTIONS[action]
        for line in lines:
            command = re.escape((line % place if "%s" in line else line).split(" ")[0])
            wait_for(lambda: re.search(rf"{place}: {command}.* = 0\b", nginx.log()), f"{place}: {command} is accepted")  # noqa: B023
        for result in results:
            nginx.wait_log(result % place if "%s" in result else result)
    nginx.wait_log(f"{place}: foreign no-such-function x = 1")


def send(nginx, path="/", *lines):
    """grpc_pass does not wait for the body, and the origin answers without it: a body that came later would not go through the filters any more."""
    return http2.request(nginx.port(), "POST", path, [("te", "trailers"), *probe.do(*lines)], b"hello", together=True)


def alive(nginx):
    """The worker goes on; it has not been replaced."""
    assert send(nginx).status == 200
    assert not nginx.log_lines("exited on signal") and not nginx.log_lines("trap in")


# ---- from everywhere ----


@pytest.mark.parametrize("place", ROOT_PLACES)
def test_everything_from_a_callback_of_a_root(start, place):
    lines = lines_of(place, "@1")
    nginx = start(*CAUSES.get(place, ()), *lines) if place != "vm_start" else start(vm=lines)
    shown(nginx, place)
    alive(nginx)


@pytest.mark.parametrize("place", STREAM_PLACES)
def test_everything_from_a_callback_of_a_stream(start, place):
    nginx = start(*lines_of(place, "@1"))
    assert send(nginx).status == 200
    shown(nginx, place)
    alive(nginx)


def test_a_body_that_comes_after_the_answer_goes_through_no_filter(start):
    nginx = start()
    with http2.Connection(nginx.port()) as c:
        stream = c.send_headers("POST", "/", [("te", "trailers"), ("content-length", "5")], end=False)
        nginx.wait_log("on_delete")
        c.send_data(stream, b"hello", end=True)
        assert c.finish(stream).body == b"hello"
    assert nginx.log_lines("on_response_body") and not nginx.log_lines("on_request_body")
    alive(nginx)


@pytest.mark.parametrize("place", PAUSES)
def test_everything_from_a_stream_that_then_waits(start, place):
    nginx = start(*lines_of(place, "@1"), f"{place}@1: pause", "call_response: resume")
    response = send(nginx)
    assert (response.status, response.body) == (200, b"hello")
    shown(nginx, place)


@pytest.mark.parametrize("place", ["tick", "queue_ready", "http_call_response", "grpc_receive"])
def test_everything_from_a_root_while_a_stream_waits(start, place):
    causes = {"tick": ["tick 20"], "queue_ready": ["queue_register first", "enqueue first"], "http_call_response": [HTTP], "grpc_receive": [GRPC]}[place]
    nginx = start(*(f"request_headers@1: {cause}" for cause in causes), "request_headers@1: pause", *lines_of(place, "@1"), f"{place}: resume")
    assert send(nginx).body == b"hello"
    shown(nginx, place)


# ---- when somebody leaves ----


@pytest.mark.parametrize("place", ["log", "done", "delete"])
def test_everything_after_the_client_has_gone(start, place):
    nginx = start(*lines_of(place, "@1"))
    c = http2.Connection(nginx.port())
    c.send_headers("GET", "/", probe.do("request_headers: pause"))
    nginx.wait_log("on_request_headers")
    c.close()
    shown(nginx, place)
    alive(nginx)


def test_what_was_asked_for_before_the_client_left_is_told_to_the_root(start):
    nginx = start(*lines_of("request_headers", "@1"), "request_headers?x-wait: pause")
    c = http2.Connection(nginx.port())
    c.send_headers("GET", "/", [("x-wait", "1")])
    nginx.wait_log("on_request_headers")
    c.close()
    shown(nginx, "request_headers")
    alive(nginx)


@pytest.mark.parametrize("target", ["http_call 127.0.0.1:{http} a /hang 0", "grpc_call 127.0.0.1:{grpc} " + SERVICE + " Hang 0 x"])
def test_a_stream_that_waits_for_what_never_comes_ends_with_its_client(start, target):
    nginx = start(f"request_headers: {target}", "request_headers: pause", "quiet")
    for _ in range(10):
        c = http2.Connection(nginx.port())
        c.send_headers("GET", "/", [])
        time.sleep(0.01)
        c.close()
    nginx.reload()


# ---- reloads and ends ----


@pytest.mark.parametrize("place", ["request_headers", "response_headers", "response_body"])
def test_everything_over_a_reload(start, place):
    """The stream waits for an answer that comes when its worker has long been told to end; then it does everything once more."""
    slow = f"{place}@1: " + HTTP.replace("/bytes/7", "/slow/10/100")
    nginx = start(slow, f"{place}@1: pause", *lines_of("http_call_response", "@1"), "call_response: resume")
    with http1.Connection(nginx.port("1")) as c:
        c.send_request("GET", "/", [])
        nginx.wait_log(f"on_{place}")
        nginx.reload()
        assert c.read_response().body == b"hello"
    shown(nginx, "http_call_response", ("data", "metric"))


@pytest.mark.parametrize("end", ["reload", "stop"])
@pytest.mark.parametrize("place", ["root_done", "root_delete"])
def test_everything_from_a_root_that_ends(start, place, end):
    """Whatever it is answered: the worker ends in time, in order, and the next one works."""
    nginx = start(*lines_of(place, "@1"))
    if end == "stop":
        nginx.stop()
        return
    nginx.reload()
    wait_for(lambda: nginx.log_lines(f"{place}: shared_set"), "the root has ended")
    alive(nginx)


@pytest.mark.parametrize("signal", ["reload", "stop"])
def test_workers_end_with_everything_in_flight(start, signal):
    slow = ["http_call 127.0.0.1:{http} a /hang 0", "grpc_call 127.0.0.1:{grpc} " + SERVICE + " Hang 0 x", "queue_register q", "enqueue x", "tick 30"]
    nginx = start(*(f"configure: {line}" for line in slow), *(f"queue_ready: {line}" for line in slow[:2]), *(f"tick: {line}" for line in slow[:2]), "quiet", workers=2)
    time.sleep(0.3)
    if signal == "reload":
        nginx.reload()
        alive(nginx)
    nginx.stop()
