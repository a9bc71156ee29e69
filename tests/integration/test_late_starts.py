"""Filters that have started well and do not start again: after a trap, for each request, in a fresh instance, in a new worker, at a reload."""

import os
import signal
import threading
import time

from support import http1
from support.nginx import filter_path, wait_for

ASAN = os.environ.get("SLUICE_TEST_NGINX") == "asan"
WAYS = ["init trap", "init spin", "init exit", "init call", "init grow", "vm trap", "vm refuse", "vm spin", "configure trap", "configure exit",
        "configure refuse"]
BUDGET_MS = 20
PLACE = """
    location /shared%d { proxy_wasm_vm_id s; proxy_wasm late%d; return 200 served; }
    location /alone%d { proxy_wasm_isolation request; proxy_wasm late%d; return 200 served; }
    location /open%d { proxy_wasm_vm_id o; proxy_wasm_fail open; proxy_wasm late%d; return 200 served; }
    location /recycled%d { proxy_wasm_vm_id r; proxy_wasm_memory_recycle 1m; proxy_wasm late%d; return 200 served; }
"""
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    proxy_wasm_cpu_budget_ms %d;
    proxy_wasm_memory_budget 8m;
    proxy_wasm_breaker_traps 0;
    %s
    location /metrics { sluice_metrics; }
    location /healthy { proxy_wasm healthy; return 200 fine; }
}
"""


def write_modules(folder, when_ms):
    module = filter_path("late_start").read_bytes()
    at = module.index(b"LATE:")
    for i, way in enumerate(WAYS):
        order = f"LATE:{when_ms:013d} {way}".encode().ljust(44)
        (folder / f"late{i}.wasm").write_bytes(module[:at] + order + module[at + 44 :])


def get(server, path, what=None):
    return http1.get(server.port(), path, headers=[("x-do", what)] if what else []).status


def serve(nginx):
    """Returns while all filters work still; they start well for some seconds."""
    nginx.workers, nginx.level = 1, "notice"
    wasm = f"module healthy {filter_path('my-c-filter')};" + "".join(f"module late{i} {nginx.folder}/late{i}.wasm;" for i in range(len(WAYS)))
    places = "".join(PLACE % ((i,) * 8) for i in range(len(WAYS)))
    seconds = 4 if ASAN else 2
    while True:
        when = time.time() + seconds
        write_modules(nginx.folder, int(when * 1000))
        try:
            nginx.start(SERVERS % (BUDGET_MS, places), wasm=wasm)
            each = [get(nginx, f"/{place}{i}") for i in range(len(WAYS)) for place in ("shared", "alone", "open", "recycled")]
            if time.time() < when:
                assert set(each) == {200}
                return when
        except AssertionError:
            if time.time() < when or seconds > 60:
                raise
        nginx.stop()
        seconds *= 2


class Healthy:
    """Requests to the healthy filter until the block ends: none fails."""

    def __init__(self, server):
        self.port, self.stop, self.served, self.wrong = server.port(), threading.Event(), 0, []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            try:
                response = http1.get(self.port, "/healthy")
                ok = response.status == 200 and response.get("x-greeting") == "Hello from a filter in C!"
            except (http1.Closed, OSError) as error:
                ok, response = False, error
            self.served += 1
            if not ok:
                self.wrong.append(response)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        assert self.served and not self.wrong, self.wrong[:3]


def longest_cpu_ms(server):
    text = http1.get(server.port(), "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("sluice_guest_longest_cpu_microseconds{")]
    return max(int(line.split()[-1]) for line in lines) / 1000 if lines else 0


def test_filters_that_do_not_start_again_harm_themselves_alone(nginx):
    when = serve(nginx)
    worker = nginx.one_worker()
    for i in range(len(WAYS)):
        assert get(nginx, f"/recycled{i}", "grow") == 200  # from now on its instance is too large
    wait_for(lambda: time.time() > when, "the time from which on they start ill")
    with Healthy(nginx) as healthy:
        for i, way in enumerate(WAYS):
            assert get(nginx, f"/shared{i}", "trap") == 500  # lost: started again for the next one
            assert [get(nginx, f"/shared{i}") for _ in range(2)] == [500, 500], way
            assert get(nginx, f"/open{i}", "trap") == 200
            assert [get(nginx, f"/open{i}") for _ in range(2)] == [200, 200], way
            assert [get(nginx, f"/alone{i}") for _ in range(2)] == [500, 500], way  # an instance for each request, each is started
            assert get(nginx, f"/recycled{i}") == 200, way  # the large one goes on, where a fresh one does not start
        begun = healthy.served
        wait_for(lambda: healthy.served > begun + 20, "more healthy requests")
    assert nginx.one_worker() == worker
    assert nginx.log_lines("could not be started again") and nginx.log_lines("no instance for a request")
    nginx.wait_log("its large instance is kept, a fresh one does not start", count=len(WAYS))
    if not ASAN:
        assert 0 < longest_cpu_ms(nginx) <= BUDGET_MS + 20 + 20  # four times what the start took before, which is little


def test_a_reload_with_a_filter_that_does_not_start_is_refused_and_the_old_workers_go_on(nginx):
    when = serve(nginx)
    wait_for(lambda: time.time() > when, "the time from which on they start ill")
    worker = nginx.one_worker()
    with Healthy(nginx) as healthy:
        # the master starts them before it lets go of the old workers
        nginx.process.send_signal(signal.SIGHUP)
        nginx.allowed = ["[emerg]", "[alert]"]
        nginx.wait_log("[emerg]")
        begun = healthy.served
        wait_for(lambda: healthy.served > begun + 20, "more healthy requests")
    assert nginx.one_worker() == worker


def test_a_new_worker_in_which_filters_do_not_start_serves_the_others(nginx):
    when = serve(nginx)
    wait_for(lambda: time.time() > when, "the time from which on they start ill")
    nginx.allowed = ["exited on signal 9"]
    old = nginx.one_worker()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: nginx.worker_pids() and old not in nginx.worker_pids(), "a new worker")
    assert get(nginx, "/healthy") == 200
    assert {get(nginx, f"/{place}{i}") for i in range(len(WAYS)) for place in ("shared", "alone", "recycled")} == {500}
    assert {get(nginx, f"/open{i}") for i in range(len(WAYS))} == {200}
