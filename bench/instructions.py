#!/usr/bin/env python3
"""Instructions per proxied request, in user space, counted by cachegrind.

Each case is one nginx configuration, run twice with a different number of requests; the difference of the two counts, divided by the
difference of the numbers, is the cost of one request. Start-up, compiling and shutdown cancel out, and so does the load of the machine.

Usage: bench/instructions.py [--nginx BIN] [--module SO] [--case NAME]... [--short N] [--long N] [--json FILE]
Needs valgrind. Without the module, or a filter, the cases that want it are left out, and the output says so.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
GREETING = json.dumps({"my_greeting": "Hello from Sluice using WebAssembly!"})

# name, what it shows, filter (None: none), directives of the location
CASES = [
    ("plain", "nginx, proxy_pass with keepalive", None, ""),
    ("add_header", "the same header by nginx itself", None, 'add_header X-Greeting "Hello from Sluice using WebAssembly!";'),
    ("filter-c", "the example filter in C", "my-c-filter", "proxy_wasm my-c-filter '%s';" % GREETING),
    ("filter-go", "the example filter in Go", "my-go-filter", "proxy_wasm my-go-filter '%s';" % GREETING),
]

UPSTREAM = """
daemon off; master_process off; pid {dir}/upstream.pid; error_log {dir}/upstream.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    {temp}
    keepalive_requests 1000000000;
    server {{ listen unix:{dir}/upstream.sock; location / {{ return 200 "hello\\n"; }} }}
}}
"""

GATEWAY = """
{load}
daemon off; master_process off; pid {dir}/gateway.pid; error_log {dir}/gateway.log warn;
events {{ worker_connections 64; }}
{wasm}
http {{
    access_log off;
    {temp}
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream backend {{ server unix:{dir}/upstream.sock; keepalive 8; }}
    server {{
        listen unix:{dir}/gateway.sock;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {location}
        }}
    }}
}}
"""


def temp_paths(folder):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def connect(path, process, patience_s):
    """Connects when the server listens; a server that ends first is an error. The kernel has no event for a listening socket."""
    end = time.monotonic() + patience_s
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"nothing listens at {path}")
        time.sleep(0.02)


class Client:
    REQUEST = b"GET /echo HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"

    def __init__(self, sock):
        sock.settimeout(600)
        self.sock = sock
        self.data = b""

    def more(self):
        got = self.sock.recv(65536)
        if not got:
            raise RuntimeError("the connection was closed")
        self.data += got

    def head(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        return head

    def chunked_body(self):
        while not self.data.endswith(b"0\r\n\r\n"):
            self.more()
        self.data = b""

    def get(self):
        self.sock.sendall(self.REQUEST)
        head = self.head()
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length is None:
            self.chunked_body()
            return head
        while len(self.data) < int(length.group(1)):
            self.more()
        self.data = self.data[int(length.group(1)) :]
        return head


def check(case, head):
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{case}: {head.splitlines()[0].decode()}")
    if case != "plain" and b"\r\nx-greeting: hello" not in head.lower():
        raise RuntimeError(f"{case}: the answer has no X-Greeting")


def write_config(folder, args, filter_name, location):
    load = wasm = ""
    if filter_name:
        load = f"load_module {args.module};"
        wasm = f"wasm {{ module {filter_name} {BUILD}/filters/{filter_name}.wasm; }}"
    text = GATEWAY.format(dir=folder, load=load, wasm=wasm, location=location, temp=temp_paths(folder))
    path = os.path.join(folder, "gateway.conf")
    pathlib.Path(path).write_text(text)
    return path


def stop(process):
    process.terminate()
    try:
        process.wait(600)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def error_log(folder, name):
    try:
        return pathlib.Path(folder, name).read_text()[-2000:]
    except OSError:
        return ""


def count(folder, args, case, config, requests):
    """Instructions of one run with that many requests."""
    log = os.path.join(folder, "valgrind.log")
    sock = os.path.join(folder, "gateway.sock")
    if os.path.exists(sock):
        os.unlink(sock)
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", f"--log-file={log}"]
    command += [args.nginx, "-c", config, "-p", folder, "-e", os.path.join(folder, "gateway.log")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        with connect(sock, process, 900) as s:
            client = Client(s)
            for _ in range(requests):
                check(case, client.get())
    finally:
        stop(process)
    found = re.search(r"I\s+refs:\s+([\d,]+)", pathlib.Path(log).read_text())
    if not found:
        raise RuntimeError("cachegrind wrote no count")
    return int(found.group(1).replace(",", ""))


def measure(folder, args, case):
    name, _, filter_name, location = case
    config = write_config(folder, args, filter_name, location)
    try:
        counts = [count(folder, args, name, config, n) for n in (args.short, args.long)]
    except RuntimeError as e:
        raise RuntimeError(f"{name}: {e}\n{error_log(folder, 'gateway.log')}") from None
    return (counts[1] - counts[0]) / (args.long - args.short)


def why_not(args, case):
    if case[2] is None:
        return None
    if not os.path.exists(args.module):
        return f"no module at {args.module}"
    wasm = BUILD / "filters" / f"{case[2]}.wasm"
    return None if wasm.exists() else f"no {wasm.name} (is its compiler installed?)"


def table(results):
    plain = results.get("plain")
    header = results.get("add_header")
    print(f"\n{'case':12} {'instr/request':>14} {'over plain':>12} {'x plain':>9} {'x add_header':>13}   what")
    for name, text, _, _ in CASES:
        if name not in results:
            continue
        value = results[name]
        over = f"{value - plain:+12.0f}" if plain and name != "plain" else f"{'':12}"
        ratio = f"{value / plain:9.3f}" if plain else f"{'':9}"
        cost = f"{(value - plain) / (header - plain):13.1f}" if plain and header and name not in ("plain",) and header != plain else f"{'':13}"
        print(f"{name:12} {value:14.0f} {over} {ratio} {cost}   {text}")
    print("\nx add_header compares what each case adds to the plain proxy.")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--nginx", default=shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or "nginx")
    p.add_argument("--module", default=str(BUILD / "modules" / "ngx_http_sluice_module.so"))
    p.add_argument("--case", action="append", choices=[c[0] for c in CASES])
    p.add_argument("--short", type=int, default=500, help="requests of the short run")
    p.add_argument("--long", type=int, default=2500, help="requests of the long run")
    p.add_argument("--json", help="write the numbers to this file")
    return p.parse_args()


def main():
    args = arguments()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing; make bench installs it")
    results = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        pathlib.Path(folder, "upstream.conf").write_text(UPSTREAM.format(dir=folder, temp=temp_paths(folder)))
        upstream = subprocess.Popen([args.nginx, "-c", f"{folder}/upstream.conf", "-p", folder, "-e", f"{folder}/upstream.log"])
        try:
            connect(f"{folder}/upstream.sock", upstream, 10).close()
            for case in CASES:
                reason = "not asked for" if args.case and case[0] not in args.case else why_not(args, case)
                if reason:
                    print(f"{case[0]}: left out, {reason}")
                    continue
                print(f"{case[0]}: {args.short} and {args.long} requests under cachegrind ...", flush=True)
                try:
                    results[case[0]] = measure(folder, args, case)
                except RuntimeError as e:
                    print(e, file=sys.stderr)
                    failed = True
        finally:
            stop(upstream)
    table(results)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
