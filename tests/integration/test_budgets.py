"""CPU budgets: a filter that spins is ended, and everything else goes on."""

import threading
import time

import pytest

from support import http1
from support.nginx import filter_path

MODULES = f"module spin {filter_path('spin')}; module healthy {filter_path('my-c-filter')};"
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    location /spin { proxy_wasm spin; proxy_wasm healthy; return 200 spun; }
    location /quick { proxy_wasm_cpu_budget_ms 5; proxy_wasm spin; return 200 spun; }
    location /healthy { proxy_wasm healthy; return 200 fine; }
    location /plain { return 200 plain; }
}
"""


@pytest.fixture
def one_worker(nginx):
    nginx.workers = 1
    return nginx


def get(server, path):
    return http1.get(server.port(), path)


def ended(server):
    return server.log_lines("the CPU budget of 50 ms is used up")


def test_a_spinning_request_fails_and_the_worker_goes_on(one_worker):
    one_worker.start(SERVERS, wasm=MODULES)
    for turn in range(3):
        assert get(one_worker, "/spin").status == 500
        assert get(one_worker, "/healthy").get("x-greeting") == "Hello from a filter in C!"
        assert get(one_worker, "/plain").body == b"plain"
    assert len(ended(one_worker)) == 3
    assert "trap in proxy_on_request_headers" in ended(one_worker)[0]
    assert "at proxy_on_request_headers" in one_worker.log()


def test_the_nearest_budget_counts(one_worker):
    one_worker.start(SERVERS, wasm=MODULES)
    assert get(one_worker, "/quick").status == 500
    assert one_worker.log_lines("the CPU budget of 5 ms is used up")


def test_nobody_else_fails_while_a_filter_spins_all_the_time(nginx):
    nginx.start(SERVERS, wasm=MODULES)
    stop = threading.Event()
    statuses = []

    def spin():
        while not stop.is_set():
            statuses.append(get(nginx, "/spin").status)

    threads = [threading.Thread(target=spin) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 2
        served = 0
        while time.monotonic() < end or served < 20:
            response = get(nginx, "/healthy")
            assert (response.status, response.body) == (200, b"fine")
            served += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses[0] == 500
    assert set(statuses) <= {500, 503}  # the breaker opens


def test_a_tick_that_spins_is_ended(one_worker):
    one_worker.start(SERVERS.replace("proxy_wasm spin;", "proxy_wasm spin tick;"), wasm=MODULES)
    one_worker.wait_log("trap in proxy_on_tick: the CPU budget of")
    assert get(one_worker, "/plain").body == b"plain"


def test_a_configuration_that_spins_is_refused(one_worker):
    servers = SERVERS.replace("location /spin {", "location /spin { proxy_wasm_start_budget_ms 100;").replace(
        "proxy_wasm spin;", "proxy_wasm spin configure;", 1
    )
    one_worker.write(servers, wasm=MODULES)
    result = one_worker.check()
    assert result.returncode == 1
    assert 'filter "spin": proxy_on_configure trapped: the CPU budget of 100 ms is used up' in result.stderr
