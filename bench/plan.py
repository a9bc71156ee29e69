#!/usr/bin/env python3
"""What a plan of 10, 1,000 and 100,000 routes costs.

build     building it from all entities                          (bench/plan_match.c, ms of CPU)
update    making it from the one before after one route changed  (the same)
size      of the image
match     instructions of one match, user space                  (callgrind)
written   an Admin API write until all workers serve it: median  (real nginx, SQLite, 2 workers, ms)
p99, +p99 of a request that is proxied while nothing is written; what is added to it while writes follow each other (ms)
worker    memory of each worker (Pss, MiB) when it serves the plan, and after the switches

Usage: bench/plan.py [--routes N,N...] [--seconds S] [--no-nginx]. Run by `make bench-plan`, which builds what it needs.
"""
import argparse
import contextlib
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import memory

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/integration"))
TOOL = ROOT / "build/bench/plan_match"
REQUESTS = 2000

ORIGIN = """
daemon off; worker_processes 1; pid {dir}/origin.pid; error_log {dir}/origin.log;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello\\n"; }} }}
}}
"""


def library(n, folder):
    image = f"{folder}/plan-{n}"
    build, size = subprocess.run([TOOL, "build", str(n), image], check=True, capture_output=True, text=True).stdout.split()
    update = subprocess.run([TOOL, "update", str(n), image], check=True, capture_output=True, text=True).stdout
    out = f"{folder}/callgrind.out"
    command = ["valgrind", "--tool=callgrind", "--toggle-collect=gw_plan_match", f"--callgrind-out-file={out}", TOOL, "match", str(n), image, str(REQUESTS)]
    subprocess.run(command, check=True, capture_output=True)
    total = int(re.search(r"^(?:summary|totals): (\d+)", pathlib.Path(out).read_text(), re.M)[1])
    return float(build), float(update), int(size), total / REQUESTS


def pss_mib(pid):
    return memory.held(pid)["pss_kib"] / 1024


@contextlib.contextmanager
def origin(path, port):
    """Gives its URL."""
    from gateway_helpers import NGINX

    (path / "origin.conf").write_text(ORIGIN.format(dir=path, port=port))
    process = subprocess.Popen([NGINX, "-p", path, "-c", path / "origin.conf"], stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


CONNECTION_REQUESTS = 500  # nginx closes a connection after 1000


class Load(threading.Thread):
    """One request after the other, on a connection for some hundreds; each request's time."""

    def __init__(self, port, paths):
        super().__init__()
        self.port, self.paths, self.times, self.done = port, paths, [], threading.Event()

    def run(self):
        from support import http1

        while not self.done.is_set():
            with http1.Connection(self.port) as c:
                for _ in range(CONNECTION_REQUESTS):
                    if self.done.is_set():
                        break
                    start = time.perf_counter()
                    c.send_request("GET", self.paths[len(self.times) % len(self.paths)])
                    assert c.read_response().status == 200
                    self.times.append(time.perf_counter() - start)

    @classmethod
    def during(cls, port, paths, action):
        clients = [cls(port, paths[k::2]) for k in range(2)]
        for c in clients:
            c.start()
        try:
            action()
        finally:
            for c in clients:
                c.done.set()
                c.join()
        return sorted(t for c in clients for t in c.times)


def p99_ms(times):
    return times[int(len(times) * 0.99)] * 1e3


def in_nginx(n, seconds):
    from gateway_helpers import Gateway, document, folder, free_port, http1, wait_for

    with folder() as path, origin(path, free_port()) as url:
        routes = [{"name": f"r{i}", "paths": [f"/api/v{i % 7}/item-{i}"]} for i in range(n)]
        document_file = path / "document.json"
        document_file.write_text(json.dumps(document({"name": "s", "url": url, "routes": routes})))
        document_file.chmod(0o644)
        gateway = Gateway(path, workers=2, database="sqlite", declarative_config=None, log_level="notice")
        done = gateway.run("config", "db_import", document_file)
        assert done.returncode == 0, done.stderr
        with gateway.start():
            wait_for(lambda: gateway.get("/api/v0/item-0").status == 200, "the origin")
            before = [pss_mib(p) for p in gateway.workers()]
            paths = [f"/api/v{i % 7}/item-{i}" for i in range(1, n, max(1, n // 500))]
            quiet = Load.during(gateway.proxy, paths, lambda: time.sleep(seconds))
            written = []

            def write():
                end, i = time.monotonic() + seconds, 0
                while time.monotonic() < end or i < 3:
                    start = time.perf_counter()
                    body = json.dumps({"paths": [f"/written-{i}"]}).encode()
                    answer = http1.request(gateway.admin, "PATCH", "/routes/r0", [("Content-Type", "application/json")], body, timeout=60)
                    assert answer.status == 200, answer.text
                    written.append((time.perf_counter() - start) * 1e3)
                    i += 1

            busy = Load.during(gateway.proxy, paths, write)
            after = [pss_mib(p) for p in gateway.workers()]
            found = {"written_ms": statistics.median(written), "p99_ms": p99_ms(quiet), "added_ms": p99_ms(busy) - p99_ms(quiet)}
            return found | {"before_mib": before, "after_mib": after}


def measure(sizes, seconds=5, with_nginx=True):
    """{routes: {"build_ms", "update_ms", "size_bytes", "instructions", and of nginx: "written_ms", ...}}; prints a line for each."""
    print(f"{'routes':>8} {'build':>9} {'update':>9} {'size':>10} {'match':>7} {'written':>9} {'p99':>7} {'+p99':>7}  worker")
    rows = {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            build, update, size, instructions = library(n, folder)
        line = f"{n:8} {build:6.1f} ms {update:6.1f} ms {size / 1024:6.0f} KiB {instructions:7.0f}"
        rows[str(n)] = row = {"build_ms": build, "update_ms": update, "size_bytes": size, "instructions": instructions}
        if with_nginx:
            row |= in_nginx(n, seconds)
            pss = "  ".join(f"{a:.1f} -> {b:.1f} MiB" for a, b in zip(row["before_mib"], row["after_mib"], strict=True))
            line += f" {row['written_ms']:6.1f} ms {row['p99_ms']:7.2f} {row['added_ms']:7.2f}  {pss}"
        print(line, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", default="10,1000,100000")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-nginx", action="store_true")
    args = parser.parse_args()
    measure(map(int, args.routes.split(",")), args.seconds, not args.no_nginx)


if __name__ == "__main__":
    main()
