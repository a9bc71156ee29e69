"""Memory of all filters of a worker together, and of instances that have become large."""

import json
import re

import pytest

from gateway_helpers import IS_ROOT, Gateway, document, echoed, folder, home, install, one_service, origin, origin_server, wait_for  # noqa: F401
from support import http1
from support.nginx import filter_path

MIB = 1 << 20
MODULES = f"module membomb {filter_path('membomb')}; module healthy {filter_path('my-c-filter')};"


def place(name, upstream, *lines):
    return f"location /{name} {{ {' '.join(lines)} proxy_wasm membomb; proxy_pass http://127.0.0.1:{upstream.port}/echo; }}"


def pages(server, path):
    answer = http1.request(server.port(), "GET", path)
    assert answer.status == 200
    return int(next(value for key, value in json.loads(answer.body)["headers"] if key.lower() == "x-pages"))


def metric(server, name):
    """Of one worker, or of a counter."""
    text = http1.get(server.port(), "/metrics").body.decode()
    found = re.search(rf"^{re.escape(name)} (\d+)$", text, re.M)
    return int(found[1]) if found else None


def test_a_worker_has_so_much_memory_for_filters_and_no_more(nginx, upstream):
    nginx.workers = 1
    servers = f"""server {{ listen 127.0.0.1:@PORT@; location /metrics {{ sluice_metrics; }}
        {place('one', upstream, 'proxy_wasm_isolation filter;')} {place('two', upstream, 'proxy_wasm_isolation filter;')}
        {place('three', upstream, 'proxy_wasm_isolation filter;')}
        location /healthy {{ proxy_wasm healthy; return 200 fine; }} }}"""
    nginx.start(servers, wasm=MODULES + "worker_memory_limit 100m;")
    got = [pages(nginx, f"/{name}") for name in ("one", "two", "three")]
    assert 990 <= got[0] <= 1024 and 500 <= got[1] <= 1024 - 400 and got[2] < 64
    assert sum(got) * 65536 <= 100 * MIB
    assert http1.get(nginx.port(), "/healthy").body == b"fine"
    assert nginx.log_lines("gets no more memory: filters of this worker have")
    wait_for(lambda: metric(nginx, 'sluice_filter_memory_refused_total{filter="membomb",limit="worker"}'), "refusals")
    assert metric(nginx, 'sluice_filter_memory_refused_total{filter="membomb",limit="instance"}') == 1
    used = metric(nginx, 'sluice_guest_memory_bytes{worker="0"}')
    assert 98 * MIB < used <= 100 * MIB
    assert metric(nginx, 'sluice_guest_memory_peak_bytes{worker="0"}') == used
    assert metric(nginx, 'sluice_guest_memory_limit_bytes{worker="0"}') == 100 * MIB


def test_a_request_that_finds_no_room_for_its_instance_meets_the_policy(nginx, upstream):
    nginx.workers = 1
    servers = f"""server {{ listen 127.0.0.1:@PORT@; location /metrics {{ sluice_metrics; }}
        {place('hog', upstream)} {place('closed', upstream, 'proxy_wasm_isolation request;')}
        {place('open', upstream, 'proxy_wasm_isolation request;', 'proxy_wasm_fail open;')} }}"""
    # Three instances of two pages that are there, sixteen more pages for the first, and not enough for another instance.
    nginx.start(servers, wasm=MODULES + f"worker_memory_limit {(3 * 2 + 16 + 1) * 64}k;")
    assert pages(nginx, "/hog") == 18
    assert {http1.get(nginx.port(), "/closed").status for _ in range(30)} == {500}  # never 503: it is not the filter that fails
    assert http1.get(nginx.port(), "/open").status == 200
    nginx.wait_log("no instance for a request: an instance needs 131072 bytes of memory")


@pytest.mark.parametrize("wrong", ["1k", "many", "-1"])
def test_a_limit_that_is_none_is_refused(nginx, wrong):
    nginx.write("", wasm=f"worker_memory_limit {wrong};")
    result = nginx.check()
    assert result.returncode == 1 and "neither off nor a size" in result.stderr


def test_the_gateway_has_the_limit_as_a_setting_and_shows_it(origin_server):
    with folder() as path:
        install(path / "filters", "membomb")
        doc = one_service(origin_server.url, {"name": "membomb"})
        with Gateway(path, doc, wasm_worker_memory_limit="32m", nginx_worker_processes="1").start() as gateway:
            got = int(dict(echoed(gateway.get("/"))["all"])["x-pages"])
            assert 200 < got <= 512
            status = wait_for(lambda: refused(gateway), "a refusal in /status")
            memory = status["filter_memory"]["0"]
            assert memory["limit_bytes"] == 32 * MIB and memory["bytes"] == memory["peak_bytes"] == got * 65536
            assert "sluice_guest_memory_limit_bytes{worker=\"0\"} 33554432" in http1.get(gateway.admin, "/metrics").body.decode()


def refused(gateway):
    status = json.loads(http1.get(gateway.admin, "/status").body)
    return status if status.get("filters", {}).get("membomb", {}).get("memory_refused", {}).get("worker") else None


def test_an_instance_that_has_grown_is_replaced_between_requests(nginx, upstream):
    nginx.workers, nginx.level = 1, "info"
    servers = f"""server {{ listen 127.0.0.1:@PORT@; location /metrics {{ sluice_metrics; }}
        {place('grows', upstream, 'proxy_wasm_memory_budget 8m;', 'proxy_wasm_memory_recycle 4m;')} }}"""
    nginx.start(servers, wasm=MODULES)
    recycled = 'sluice_filter_recycled_total{filter="membomb"}'

    def one_more():
        assert 100 < pages(nginx, "/grows") <= 128
        return metric(nginx, recycled)

    wait_for(one_more, "an instance that lived a second")
    assert metric(nginx, 'sluice_filter_traps_total{filter="membomb",reason="trap"}') is None
    assert metric(nginx, 'sluice_filter_memory_bytes{filter="membomb",worker="0"}') < 4 * MIB
    assert nginx.log_lines("memory_recycle is 4194304: it is replaced")
