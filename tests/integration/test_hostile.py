"""A healthy filter beside hostile ones, under load: nobody else fails, no worker dies, memory stays flat."""

import os
import pathlib
import re
import threading
import time

import pytest

from support import http1
from support.nginx import filter_path

ACTIONS = ["trap", "spin", "recurse", "memory", "scribble", "table", "outside", "garbage", "deny", "alloctrap", "allocspin", "storm", "reply"]
BUDGET_MS = 20
MODULES = f"module hostile {filter_path('hostile')}; module healthy {filter_path('my-c-filter')};"
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    proxy_wasm_cpu_budget_ms %d;
    proxy_wasm_memory_budget 8m;
    proxy_wasm_breaker_traps %%d;
    location /hostile { proxy_wasm hostile; return 200 served; }
    location /isolated { proxy_wasm_isolation request; proxy_wasm hostile; return 200 served; }
    location /healthy { proxy_wasm healthy; return 200 fine; }
}
""" % BUDGET_MS


def workers(server):
    master = server.process.pid
    return [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and parent(p) == master]


def parent(process):
    try:
        return int(re.search(r"PPid:\s+(\d+)", (process / "status").read_text())[1])
    except OSError:
        return None


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def attack(port, path, stop, statuses):
    turn = 0
    while not stop.is_set():
        statuses.append(http1.get(port, path, headers=[("x-do", ACTIONS[turn % len(ACTIONS)])]).status)
        turn += 1


def load(server, n):
    """n requests to the healthy filter, over a connection that is kept; how long each took, in ms."""
    took = []
    while n > 0:
        with http1.Connection(server.port()) as connection:
            for _ in range(min(n, 500)):
                begin = time.monotonic()
                connection.send_request(path="/healthy")
                response = connection.read_response()
                took.append((time.monotonic() - begin) * 1000)
                assert (response.status, response.body) == (200, b"fine")
                assert response.get("x-greeting") == "Hello from a filter in C!"
                n -= 1
    return sorted(took)


@pytest.mark.parametrize("traps, requests", [(0, 1_000), (10, 10_000), pytest.param(10, 1_000_000, marks=pytest.mark.soak)])
def test_nobody_else_fails_beside_hostile_filters(nginx, traps, requests):
    """traps 0: no breaker keeps the hostile ones out."""
    nginx.workers, nginx.level = 1, "crit"
    nginx.start(SERVERS % traps, wasm=MODULES)
    stop, statuses = threading.Event(), []
    threads = [threading.Thread(target=attack, args=(nginx.port(), path, stop, statuses)) for path in ("/hostile", "/isolated")]
    before = workers(nginx)
    for thread in threads:
        thread.start()
    try:
        load(nginx, requests // 10)
        warm = resident_kib(before[0])
        took = load(nginx, requests - requests // 10)
        end = resident_kib(before[0])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print(f"\n{requests} requests beside {len(statuses)} hostile ones: p50 {took[len(took) // 2]:.1f} ms, "
          f"p99 {took[len(took) * 99 // 100]:.1f} ms, longest {took[-1]:.1f} ms; memory {warm} -> {end} KiB")
    assert workers(nginx) == before
    assert set(statuses) <= {200, 403, 500, 503}
    assert 500 in statuses and (503 in statuses) == (traps != 0)
    if os.environ.get("SLUICE_TEST_NGINX") != "asan":
        assert end < warm + 48 * 1024
