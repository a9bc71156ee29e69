"""A healthy filter beside hostile ones, under load: nobody else fails, no worker dies, memory stays flat."""

import itertools
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

import pytest

from support import http1
from support.nginx import filter_path

ACTIONS = ["trap", "spin", "recurse", "memory", "scribble", "table", "outside", "garbage", "deny", "alloctrap", "allocspin", "storm", "reply",
           "logs"]
WRECKS = ["trap", "logs", "storm", "tables", "globals"]
PLACES = ["context_create", "request_headers", "response_headers", "response_body", "log", "done", "delete"]
BUDGET_MS = 20
ASAN = os.environ.get("SLUICE_TEST_NGINX") == "asan"
MODULES = f"module hostile {filter_path('hostile')}; module healthy {filter_path('my-c-filter')}; module wrecker {filter_path('wrecker')};"
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    proxy_wasm_cpu_budget_ms %d;
    proxy_wasm_memory_budget 8m;
    proxy_wasm_breaker_traps %%d;
    location /hostile { proxy_wasm hostile; return 200 served; }
    location /isolated { proxy_wasm_isolation request; proxy_wasm hostile; return 200 served; }
    location /wrecked { proxy_wasm wrecker; return 200 served; }
    location /wrecked-isolated { proxy_wasm_isolation request; proxy_wasm wrecker; return 200 served; }
    location /start { proxy_wasm_vm_id restarts; proxy_wasm hostile start; return 200 served; }
    location /metrics { sluice_metrics; }
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


def attack(port, paths, orders, stop, statuses):
    """Each order is the headers of one request."""
    for path, order in zip(itertools.cycle(paths), itertools.cycle(orders)):
        if stop.is_set():
            return
        try:
            statuses.append(http1.get(port, path, headers=order).status)
        except http1.Closed:
            statuses.append(0)  # it trapped after the headers had gone


def orders(*without):
    return [[("x-do", action)] for action in ACTIONS if action not in without]


WRECK_ORDERS = [[("x-do", what), ("x-at", where)] for what in WRECKS for where in PLACES]
FRONTS = [(["/hostile", "/isolated", "/start"], orders()), (["/wrecked", "/wrecked-isolated", "/hostile"], WRECK_ORDERS)]


class Attack:
    """Threads that ask for harm all the time, until the block ends; `statuses` of all their requests."""

    def __init__(self, server, fronts):
        self.stop, self.statuses = threading.Event(), []
        self.threads = [threading.Thread(target=attack, args=(server.port(), *front, self.stop, self.statuses)) for front in fronts]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def longest_ms(server, clock):
    text = http1.get(server.port(), "/metrics").body.decode()
    found = re.search(rf'^sluice_guest_longest_{clock}_microseconds\{{worker="0"\}} (\d+)$', text, re.M)
    return int(found[1]) / 1000 if found else 0


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
    before = workers(nginx)
    with Attack(nginx, FRONTS) as attacking:
        load(nginx, requests // 10)
        warm = resident_kib(before[0])
        took = load(nginx, requests - requests // 10)
        end = resident_kib(before[0])
    statuses = attacking.statuses
    print(f"\n{requests} requests beside {len(statuses)} hostile ones: p50 {took[len(took) // 2]:.1f} ms, "
          f"p99 {took[len(took) * 99 // 100]:.1f} ms, longest {took[-1]:.1f} ms; a guest's longest CPU time {longest_ms(nginx, 'cpu'):.1f} ms, "
          f"the longest turn of the event loop {longest_ms(nginx, 'hold'):.1f} ms; memory {warm} -> {end} KiB")
    assert workers(nginx) == before
    assert set(statuses) <= {0, 200, 403, 500, 503}
    assert 500 in statuses and (503 in statuses) == (traps != 0)
    if not ASAN:
        assert end < warm + 48 * 1024
        assert 0 < longest_ms(nginx, "cpu") <= BUDGET_MS + 20


COARSE_MS = time.clock_getres(6) * 1000  # CLOCK_MONOTONIC_COARSE, which nginx looks at: a turn may seem so much longer


def prefer(pid):
    """Whether the process now has the processor before all others that want it."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
        return True
    except OSError:
        return False


def worst(nginx, servers, fronts, requests=300):
    """The longest CPU time of a guest at a stretch, and the longest turn of the event loop, in ms; beside healthy requests that all succeed."""
    nginx.workers, nginx.level = 1, "crit"
    nginx.start(servers, wasm=MODULES)
    preferred = prefer(workers(nginx)[0])
    with Attack(nginx, fronts) as attacking:
        load(nginx, requests)
        while len(attacking.statuses) < 2 * len(ACTIONS):
            load(nginx, 20)
    cpu, hold = longest_ms(nginx, "cpu"), longest_ms(nginx, "hold")
    nginx.stop()
    return cpu, hold if preferred else 0


@pytest.mark.skipif(ASAN, reason="the sanitizer takes its time")
@pytest.mark.parametrize(
    "slice_on, without, most",
    [(False, (), BUDGET_MS + 20), (True, ("allocspin",), 5)],  # an allocator runs inside of a host call, which is no place to stop
    ids=["whole", "sliced"],
)
def test_the_event_loop_is_held_no_longer_than_promised(nginx, slice_on, without, most):
    """
    By the worker's own clocks. CPU time is judged each time. The time on the wall has in it what this machine runs beside the worker; it is judged where
    the worker may be preferred to that, and the best of some attempts counts: a loop that we hold for longer fails them all.
    """
    servers = SERVERS % 0
    if slice_on:
        servers = servers.replace("proxy_wasm_cpu_budget_ms", "proxy_wasm_slice on; proxy_wasm_cpu_budget_ms")
    held = []
    for _ in range(4):
        cpu, hold = worst(nginx, servers, [(["/hostile", "/isolated"], orders(*without))])
        assert 0 < cpu <= most
        held.append(hold)
        if hold <= most + COARSE_MS:
            break
    print(f"\nlongest CPU time {cpu:.1f} ms, longest turns {held}")
    assert min(held) <= most + COARSE_MS


LARGEST = """
server {
    listen 127.0.0.1:@PORT@;
    location /largest { proxy_wasm_slice on; proxy_wasm_breaker_traps 0; proxy_wasm_cpu_budget_ms 30000; proxy_wasm largest "%s"; return 200 served; }
    location /metrics { sluice_metrics; }
}
"""
LARGEST_CALLS = ["log", "log-control", "write", "write-many", "random", "reply", "reply-details", "reply-headers", "set-pairs", "get-pairs", "header",
                 "header-name", "property", "property-path", "get-property-path", "shared", "get-shared", "shared-key", "queue", "dequeue", "metric",
                 "http-upstream", "grpc-call", "compress", "uncompress", "sign", "verify", "expr", "expr-text", "expr-headers", "body"]


def pem_keys():
    """RSA with 4096 bits to sign with, as one text with a public key to verify with."""
    def openssl(command, text=None):
        return subprocess.run(["openssl", *command.split()], input=text, capture_output=True, check=True).stdout

    private = openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096")
    return (private + openssl("pkey -pubout", openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"))).decode()


def order(server, call):
    """The answer may be large, and is of no interest."""
    with socket.create_connection(("127.0.0.1", server.port()), timeout=30) as sock:
        sock.sendall(f"GET /largest HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-do: {call}\r\n\r\n".encode())
        sock.recv(1000)


def test_no_allocator_of_a_sliced_filter_holds_the_event_loop(nginx):
    """It cannot stop in the middle, as what the host call has prepared waits for it: so it has a time of its own."""
    nginx.workers, nginx.level = 1, "error"
    nginx.start("""server {
        listen 127.0.0.1:@PORT@;
        location / { proxy_wasm_slice on; proxy_wasm_breaker_traps 0; proxy_wasm_cpu_budget_ms 30000; proxy_wasm nasty_allocator spin; return 200 served; }
        location /metrics { sluice_metrics; }
    }""", wasm=f"module nasty_allocator {filter_path('nasty_allocator')};")
    before = workers(nginx)
    prefer(before[0])
    for headers, status in [((), 200), ([("x-trap", "1")], 500), ((), 200)]:
        assert http1.get(nginx.port(), headers=headers).status == status
    assert workers(nginx) == before
    nginx.wait_log("it does not stop, and has held the event loop for more than 3 ms")
    longest = longest_ms(nginx, "cpu")
    assert 2 < longest and (ASAN or longest <= 6), longest


def test_no_host_call_of_a_sliced_filter_holds_the_event_loop(nginx):
    """Each with the largest arguments that a guest can give."""
    nginx.workers, nginx.level = 1, "crit"
    nginx.start(LARGEST % pem_keys(), wasm=f"module largest {filter_path('largest')};")
    before = workers(nginx)
    prefer(before[0])
    took = {}
    for call in LARGEST_CALLS:
        order(nginx, call)
        took[call] = longest_ms(nginx, "cpu")
    assert workers(nginx) == before
    print("\nthe longest CPU time at a stretch so far, ms:", took)
    assert took["body"] > 0
    if not ASAN:
        assert took["body"] <= 5, took
