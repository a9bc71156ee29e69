"""What becomes of requests when a filter traps: fail policies, the breaker, restarts, and what operators see of it."""

import json
import re
import threading
import time

import pytest

from support import http1
from support.nginx import filter_path, wait_for

MODULES = f"module hostile {filter_path('hostile')}; module healthy {filter_path('my-c-filter')};"
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    proxy_wasm_breaker_traps 3;
    proxy_wasm_breaker_backoff_ms 300;
    location /closed { proxy_wasm hostile; proxy_wasm healthy; return 200 served; }
    location /open { proxy_wasm_fail open; proxy_wasm hostile; proxy_wasm healthy; return 200 served; }
    location /skip { proxy_wasm_fail skip-chain; proxy_wasm hostile; proxy_wasm healthy; return 200 served; }
    location /mixed { proxy_wasm hostile '' fail=open; proxy_wasm healthy; return 200 served; }
    location /response { proxy_wasm hostile 'hook '; return 200 served; }
    location /response-open { proxy_wasm_fail open; proxy_wasm hostile 'hook '; return 200 served; }
    location /wasmx { proxy_wasm_dialect wasmx; proxy_wasm hostile 'hook '; return 200 served; }
    location /wasmx-closed { proxy_wasm_dialect wasmx; proxy_wasm_fail closed; proxy_wasm hostile 'hook '; return 200 served; }
    location /plain { return 200 plain; }
}
"""


@pytest.fixture
def server(nginx):
    nginx.workers = 1
    return nginx


def get(server, path, action=None):
    return http1.get(server.port(), path, headers=[("x-do", action)] if action else [])


def greeted(response):
    return response.get("x-greeting") is not None


def test_closed_fails_open_and_skip_chain_go_past(server):
    server.start(SERVERS, wasm=MODULES)
    assert get(server, "/closed", "trap").status == 500
    response = get(server, "/open", "trap")
    assert (response.status, response.body, greeted(response)) == (200, b"served", True)
    response = get(server, "/skip", "trap")
    assert (response.status, response.body, greeted(response)) == (200, b"served", False)
    assert greeted(get(server, "/mixed", "trap"))
    for path in ("/closed", "/open", "/skip"):
        assert greeted(get(server, path)), path


def test_responses_fail_closed_and_in_wasmx_only_where_it_is_asked_for(server):
    server.start(SERVERS, wasm=MODULES)
    for path, status in (("/response", 500), ("/response-open", 200), ("/wasmx", 200), ("/wasmx-closed", 500)):
        assert get(server, path, "trap").status == status, path
        assert get(server, path).body == b"served", path


def test_an_open_breaker_answers_503_with_retry_after_until_the_filter_works_again(server):
    server.start(SERVERS, wasm=MODULES)
    assert [get(server, "/closed", "trap").status for _ in range(3)] == [500] * 3
    response = get(server, "/closed")
    assert (response.status, response.get("retry-after")) == (503, "1")
    assert get(server, "/plain").body == b"plain"
    assert get(server, "/open").status == 200  # another filter of the same module has a breaker of its own
    wait_for(lambda: get(server, "/closed").status == 200, "the breaker closes")
    assert len(server.log_lines("breaker opens")) == 1
    server.wait_log("breaker closes")
    traps = len(server.log_lines("trap in"))
    assert traps == 3


def test_an_open_breaker_bypasses_without_entering_the_guest(server):
    server.start(SERVERS, wasm=MODULES)
    for _ in range(10):
        response = get(server, "/open", "trap")
        assert (response.status, greeted(response)) == (200, True)
    assert len(server.log_lines("trap in")) == 3
    response = get(server, "/skip", "trap")
    assert (response.status, greeted(response)) == (200, False)


def test_a_probe_that_fails_doubles_the_back_off(server):
    server.start(SERVERS, wasm=MODULES)
    for _ in range(3):
        get(server, "/closed", "trap")
    wait_for(lambda: get(server, "/closed", "trap").status == 500, "a probe")
    begin = time.monotonic()
    wait_for(lambda: get(server, "/closed").status == 200, "the breaker closes")
    assert time.monotonic() - begin > 0.5
    assert server.log_lines("breaker opens for 600 ms")


def test_a_tick_that_traps_is_restarted_ever_later(server):
    server.start(
        "server { listen 127.0.0.1:@PORT@; proxy_wasm_breaker_traps 0; location / { proxy_wasm hostile tick; return 200 ok; } }",
        wasm=MODULES,
    )
    begin = time.monotonic()
    server.wait_log("trap in proxy_on_tick", count=3)  # at once, after one second, after two more
    assert time.monotonic() - begin > 2


def test_a_filter_that_would_not_start_again_is_brought_back_without_a_start(server):
    """The guest traps in every configure but its first."""
    servers = """server {
        listen 127.0.0.1:@PORT@;
        location /closed { proxy_wasm hostile start; return 200 served; }
        location /open { proxy_wasm_fail open; proxy_wasm_vm_id other; proxy_wasm hostile start; return 200 served; }
    }"""
    server.start(servers, wasm=MODULES)
    for _ in range(3):
        assert get(server, "/closed", "trap").status == 500
        assert get(server, "/closed").body == b"served"
    assert not server.log_lines("could not be started again")
    assert get(server, "/open", "trap").body == b"served"
    assert get(server, "/open").body == b"served"


@pytest.mark.parametrize("action", ["trap", "spin", "recurse", "memory", "table", "outside", "garbage", "alloctrap", "allocspin", "scribble"])
def test_no_action_of_a_hostile_filter_ends_a_worker(server, action):
    """Some are no failure by themselves: nothing that the guest does to its own memory is."""
    server.start(SERVERS.replace("breaker_traps 3", "breaker_traps 0"), wasm=MODULES.replace("module healthy", "module healthy", 1))
    for _ in range(2):
        assert get(server, "/closed", action).status in (200, 500)
        assert get(server, "/open", action).status == 200
        assert get(server, "/plain").body == b"plain"
    assert not server.log_lines("exited on signal")
