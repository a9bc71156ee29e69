"""Filters marked `slice`: a heavy one delays its own request and nobody else's."""

import hashlib
import json
import shutil
import statistics
import threading

import pytest

from support import http1, probe
from support.nginx import filter_path, wait_for
from support.redis_server import Redis
from test_http_calls import dns_server

MODULES = f"module burn {filter_path('burn')}; module healthy {filter_path('my-c-filter')};"
# A VM each: the filter keeps its configuration in globals.
SERVERS = """
proxy_wasm_slice on;
proxy_wasm_cpu_budget_ms 20000;
server {
    listen 127.0.0.1:@PORT@;
    location /heavy { proxy_wasm_vm_id v1; proxy_wasm burn 'q @MS@'; return 200 "burnt $http_x_burnt"; }
    location /mixed { proxy_wasm_slice off; proxy_wasm healthy; return 200 fine; }
    location /bodies/ { proxy_wasm_vm_id v2; proxy_wasm burn 'qQrR 30'; proxy_pass http://127.0.0.1:@UPSTREAM@/; }
    location /held/ { proxy_wasm_headers_stop_iteration on; proxy_wasm_vm_id v3; proxy_wasm burn 'qQrRp 30 pause'; proxy_pass http://127.0.0.1:@UPSTREAM@/; }
    location /isolated { proxy_wasm_vm_id v4; proxy_wasm_isolation request; proxy_wasm burn 'q @MS@'; return 200 "burnt $http_x_burnt"; }
    location /little { proxy_wasm_vm_id v5; proxy_wasm_cpu_budget_ms 50; proxy_wasm burn 'q 2000'; return 200 burnt; }
    location /little-isolated { proxy_wasm_vm_id v6; proxy_wasm_isolation request; proxy_wasm_cpu_budget_ms 50; proxy_wasm burn 'q 2000'; return 200 burnt; }
    location /log { proxy_wasm_vm_id v7; proxy_wasm burn 'l 100'; return 200 logged; }
    location /log-late { proxy_wasm_vm_id v8; proxy_wasm burn 'ql 60'; return 200 logged; }
    location /healthy { proxy_wasm_slice off; proxy_wasm healthy; return 200 fine; }
    location /plain { return 200 plain; }
}
"""


def servers(ms=400, upstream=None):
    return SERVERS.replace("@MS@", str(ms)).replace("@UPSTREAM@", str(upstream.port) if upstream else "1")


@pytest.fixture
def one_worker(nginx):
    nginx.workers = 1
    return nginx


def get(server, path, **more):
    return http1.get(server.port(), path, **more)


def cpu_ms(pid):
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
        return int(f.read().split()[0]) / 1e6


class Background(threading.Thread):
    def __init__(self, *args, **more):
        super().__init__()
        self.args, self.more, self.response = args, more, None
        self.start()

    def run(self):
        self.response = get(*self.args, **self.more)

    def result(self):
        self.join()
        return self.response


def others_while(server, heavy, path="/healthy"):
    """CPU time that the worker takes for other work while it answers a request, for each request until the heavy ones are through."""
    pid = server.one_worker()
    took = []
    with http1.Connection(server.port()) as connection:
        while any(thread.is_alive() for thread in heavy):
            before = cpu_ms(pid)
            connection.send_request(path=path)
            response = connection.read_response()
            took.append(cpu_ms(pid) - before)
            assert response.status == 200
    return took


@pytest.mark.parametrize("path", ["/heavy", "/isolated"])
def test_a_heavy_filter_delays_its_own_request_only(one_worker, path):
    one_worker.start(servers(800), wasm=MODULES)
    before = cpu_ms(one_worker.one_worker())
    heavy = [Background(one_worker, path)]
    took = others_while(one_worker, heavy)
    assert heavy[0].result().body == b"burnt right"
    burnt = cpu_ms(one_worker.one_worker()) - before
    print(f"burnt {burnt:.0f} ms; {len(took)} others: median {statistics.median(took):.2f} ms, longest {max(took):.2f} ms")
    assert burnt > 100
    assert len(took) > 20
    assert statistics.median(took) < 5
    assert sorted(took)[int(len(took) * 0.9)] < 20


def test_without_slices_everybody_waits(one_worker):
    one_worker.start(servers(800).replace("proxy_wasm_slice on;", "proxy_wasm_slice off;"), wasm=MODULES)
    heavy = [Background(one_worker, "/heavy")]
    wait_for(lambda: not heavy[0].is_alive() or cpu_ms(one_worker.one_worker()) > 0, "it runs")
    took = others_while(one_worker, heavy)
    assert heavy[0].result().body == b"burnt right"
    assert max(took) > 50


@pytest.mark.parametrize("path", ["/heavy", "/isolated"])
def test_several_heavy_requests_end_all_and_are_right(one_worker, path):
    one_worker.start(servers(100), wasm=MODULES)
    heavy = [Background(one_worker, path) for _ in range(6)]
    took = others_while(one_worker, heavy)
    assert [thread.result().body for thread in heavy] == [b"burnt right"] * 6
    assert statistics.median(took) < 5


def test_every_phase_may_stop_in_the_middle(one_worker, upstream):
    one_worker.start(servers(upstream=upstream), wasm=MODULES)
    bodies = (None, b"x" * 10, b"y" * 300000)
    for path in ("/bodies/echo", "/held/echo"):
        for body in bodies:
            response = http1.request(one_worker.port(), "GET" if body is None else "POST", path, body=body)
            assert (response.status, response.get("x-answered")) == (200, "right"), path
            seen = json.loads(response.body)
            assert ["x-burnt", "right"] in seen["headers"]
            assert seen["sha256"] == hashlib.sha256(body or b"").hexdigest()
        response = http1.request(one_worker.port(), "POST", path, chunks=[b"a" * 1000] * 5)
        assert json.loads(response.body)["sha256"] == hashlib.sha256(b"a" * 5000).hexdigest()
        assert http1.request(one_worker.port(), "HEAD", path).status == 200


@pytest.mark.parametrize("kind", ["bytes/400000", "chunked/400000/7000", "nolength/100000", "trailers/5000", "slow/5/20"])
def test_responses_pass_whole_and_in_order(one_worker, upstream, kind):
    one_worker.start(servers(upstream=upstream).replace(" 30", " 2"), wasm=MODULES)
    direct = http1.get(upstream.port, f"/{kind}")
    for path in ("bodies", "held"):
        response = get(one_worker, f"/{path}/{kind}")
        assert (response.status, response.get("x-answered")) == (200, "right")
        assert response.body == direct.body


def test_the_budget_counts_all_slices_of_a_callback(one_worker):
    one_worker.start(servers(), wasm=MODULES)
    pid = one_worker.one_worker()
    for path in ("/little", "/little-isolated"):
        for _ in range(2):
            before = cpu_ms(pid)
            assert get(one_worker, path).status == 500
            assert 40 < cpu_ms(pid) - before < 1000
    assert len(one_worker.log_lines("the CPU budget of 50 ms is used up")) == 4
    assert get(one_worker, "/plain").body == b"plain"


@pytest.mark.parametrize("path", ["/heavy", "/isolated"])
def test_clients_may_go_in_the_middle(one_worker, path):
    one_worker.start(servers(300), wasm=MODULES)
    for _ in range(3):
        with http1.Connection(one_worker.port()) as connection:
            connection.send_request(path=path)
            assert get(one_worker, "/plain").body == b"plain"
    others = [Background(one_worker, path) for _ in range(2)]
    assert [thread.result().body for thread in others] == [b"burnt right"] * 2
    assert not one_worker.log_lines("trap in")


def test_the_end_of_a_request_may_be_sliced(one_worker):
    one_worker.start(servers(), wasm=MODULES)
    for path in ("/log", "/log-late"):
        with http1.Connection(one_worker.port()) as connection:
            for _ in range(3):
                connection.send_request(path=path)
                assert connection.read_response().body == b"logged"
    one_worker.wait_log("logged right", 6)
    assert not one_worker.log_lines("logged wrong")


def test_ticks_are_sliced(one_worker):
    location = "location /tick { proxy_wasm burn 't 60'; return 200 ticks; } location /plain"
    one_worker.start(servers().replace("location /plain", location), wasm=MODULES)
    pid = one_worker.one_worker()
    took = []
    while not one_worker.log_lines("three ticks have burnt"):
        before = cpu_ms(pid)
        assert get(one_worker, "/plain").status == 200
        took.append(cpu_ms(pid) - before)
    assert statistics.median(took) < 10
    assert len(took) > 10


def test_a_worker_ends_while_a_filter_is_in_the_middle(one_worker):
    one_worker.start(servers(1000), wasm=MODULES)
    heavy = Background(one_worker, "/heavy")
    pid = one_worker.one_worker()
    before = cpu_ms(pid)
    wait_for(lambda: cpu_ms(pid) > before + 20, "it burns")
    one_worker.reload()
    assert heavy.result().body == b"burnt right"
    assert get(one_worker, "/plain").body == b"plain"


def test_healthy_filters_see_nothing_of_it(one_worker):
    one_worker.start(servers(), wasm=MODULES)
    heavy = [Background(one_worker, "/heavy")]
    others_while(one_worker, heavy, "/mixed")
    assert get(one_worker, "/mixed").get("x-greeting") == "Hello from a filter in C!"


# ---- answers that come while the instance is in the middle of another call ----


def start_probe(server, *lines, wasm="", extra=""):
    settings = f"proxy_wasm_slice on; proxy_wasm_cpu_budget_ms 20000; {extra} listen 127.0.0.1:@PORT@;"
    server.start(f"server {{ {settings} {probe.use(*lines, probe.EXEC)} location / {{ return 200 fine; }} }}", wasm=probe.module() + wasm)


def answered_while_busy(server, waiting, answer):
    """The response of the request that waits: its answer is given while another request has the instance."""
    busy = Background(server, "/busy", headers=probe.do("request_headers: log busy now", "request_headers: wait 600"))
    server.wait_log("busy now")
    answer()
    assert busy.result().body == b"fine"
    return waiting.result()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
def test_answers_of_redis_wait_for_a_busy_instance(one_worker):
    redis = Redis().start()
    try:
        at = f"127.0.0.1:{redis.port}"
        answer = ("redis_response: body x-answer", "redis_response: note x-status $code", "redis_response: resume")
        start_probe(one_worker, f"configure: redis_init {at} 0", *answer)
        waiting = Background(one_worker, "/", headers=probe.do(f"request_headers: redis {at} BLPOP list 0", "request_headers: pause"))
        wait_for(lambda: b"blocked_clients:1" in redis.ask(b"INFO", b"clients"), "a blocked client")
        response = answered_while_busy(one_worker, waiting, lambda: redis.ask(b"RPUSH", b"list", b"item"))
        assert (response.body, response.get("x-status")) == (b"fine", "0")
        assert "item" in response.get("x-answer")
    finally:
        redis.remove()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
def test_failures_of_redis_wait_for_a_busy_instance(one_worker):
    redis = Redis().start()
    try:
        at = f"127.0.0.1:{redis.port}"
        start_probe(one_worker, f"configure: redis_init {at} 0", "redis_response: note x-status $code", "redis_response: resume")
        one_worker.allow("the server has closed the connection")
        waiting = Background(one_worker, "/", headers=probe.do(f"request_headers: redis {at} BLPOP list 0", "request_headers: pause"))
        wait_for(lambda: b"blocked_clients:1" in redis.ask(b"INFO", b"clients"), "a blocked client")
        response = answered_while_busy(one_worker, waiting, redis.stop)
        assert (response.body, response.get("x-status")) == (b"fine", "11")
    finally:
        redis.remove()


def resolving(server, until):
    dns = dns_server({"some.name": "10.1.2.3"}, until)
    answer = ("foreign_function: body", "foreign_function: note x-answer $hex", "foreign_function: log resolved", "foreign_function: resume")
    start_probe(server, *answer, wasm=f"resolver 127.0.0.1:{dns.getsockname()[1]} ipv6=off;")
    return dns


RESOLVE = probe.do("request_headers: foreign resolve_host some.name", "request_headers: log asked now", "request_headers: pause")


def test_addresses_wait_for_a_busy_instance(one_worker):
    until = threading.Event()
    dns = resolving(one_worker, until)
    try:
        waiting = Background(one_worker, "/", headers=RESOLVE)
        one_worker.wait_log("asked now")
        response = answered_while_busy(one_worker, waiting, until.set)
        assert response.body == b"fine"
        assert response.get("x-answer") == (b"\x04\x0a\x01\x02\x03some.name").hex()
    finally:
        until.set()
        dns.close()


def test_a_client_may_go_while_its_address_waits_for_a_busy_instance(one_worker):
    until = threading.Event()
    dns = resolving(one_worker, until)
    try:
        with http1.Connection(one_worker.port()) as connection:
            connection.send_request(path="/", headers=RESOLVE)
            one_worker.wait_log("asked now")
            busy = Background(one_worker, "/busy", headers=probe.do("request_headers: log busy now", "request_headers: wait 600"))
            one_worker.wait_log("busy now")
            until.set()
            assert http1.get(one_worker.port(), "/", probe.do("request_headers: foreign resolve_host some.name", "request_headers: pause")).body == b"fine"
        assert busy.result().body == b"fine"
        assert http1.get(one_worker.port(), "/").body == b"fine"
    finally:
        until.set()
        dns.close()
