#!/usr/bin/env python3
"""Instructions per proxied request, in user space, counted by callgrind.

Each case is one nginx configuration. Counting begins after some requests and ends after some more, so start-up, compiling and shutdown are
not in it; neither is the load of the machine.

Usage: bench/instructions.py [--nginx BIN] [--module SO] [--case NAME]... [--requests N] [--json FILE]
Needs valgrind. Cases that need what is not there are left out, and the output says so.
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys

import rig
from cases import BODY_CASES, CASES

# Guests' memory is write-protected between requests at some levels of isolation; without the px options, valgrind resumes such a write with
# registers of later instructions.
CALLGRIND = ["valgrind", "--px-default=allregs-at-mem-access", "--px-file-backed=allregs-at-mem-access", "--tool=callgrind"]
CALLGRIND += ["--instr-atstart=no", "--log-file=/dev/null"]
BODY_BYTES = (64 << 10, 320 << 10)
# What nginx and the C library do for a request differs by some hundreds from run to run: with how events meet, and how the heap lies.
NOT_OURS = ("nginx", "libc.so.6", "counting.so")
GUEST = "compiled guest code"
TOP = 12
PATIENCE_S = 120
# Of counting.c.
COUNTING = rig.BUILD / "bench" / "counting.so"
BEGIN, ZERO, DUMP = range(1, 4)


@contextlib.contextmanager
def counted(r, case, out):
    """The case's nginx under callgrind: (its socket, a function that sends one of the signals of counting.c and waits for the answer)."""
    if not COUNTING.exists():
        raise rig.BenchError(f"{COUNTING.name} is missing: make build/bench/{COUNTING.name}")
    answers, theirs = os.pipe()
    env = os.environ | {"LD_PRELOAD": str(COUNTING), "COUNTING_ANSWERS": str(theirs)}
    try:
        with r.gateway(case, [*CALLGRIND, f"--callgrind-out-file={out}"], env=env, pass_fds=(theirs,)) as (process, sock):

            def tell(what):
                for _ in range(PATIENCE_S):  # a signal that comes right before epoll_wait does not end it
                    process.send_signal(signal.SIGRTMIN + what)
                    if select.select([answers], [], [], 1)[0]:
                        os.read(answers, 1)
                        return
                raise rig.BenchError(f"no answer to a signal in {PATIENCE_S} s")

            with rig.connect(sock, process, 10) as s:
                yield s, tell
    finally:
        os.close(answers)
        os.close(theirs)


def run(r, case, requests, path="/echo"):
    """The file in which callgrind has written what the requests cost."""
    out = pathlib.Path(r.folder, "callgrind.out")
    for old in out.parent.glob(out.name + "*"):
        old.unlink()
    with counted(r, case, out) as (s, tell):
        client = rig.Client(s, path)
        for what, n in ((BEGIN, 20), (ZERO, 120), (DUMP, requests)):
            for _ in range(n):
                rig.check(case, client.get())
            tell(what)
    written = out.with_name(out.name + ".1")
    if not written.exists():
        raise rig.BenchError("callgrind wrote nothing (was counting.so built without valgrind's headers?)")
    return str(written)


LINE = re.compile(r"\s*([\d,]+) \([^)]*\)\s+(.*)$")


def own_counts(path, requests):
    """{(object, function): instructions of its own, per request} of a file of run()."""
    command = ["callgrind_annotate", "--auto=no", "--inclusive=no", "--threshold=100", path]
    return functions(subprocess.run(command, capture_output=True, text=True, check=True).stdout, requests)


def functions(text, requests):
    """Of what callgrind_annotate prints."""
    counts = collections.Counter()
    for line in text.splitlines():
        found = LINE.match(line)
        if not found or "PROGRAM TOTALS" in line or ":" not in found[2]:
            continue
        place, _, where = found[2].partition(" [")
        name = place.split(":", 1)[1] if place.startswith("???") else place.rsplit("/", 1)[-1]
        where = where.rstrip("]").rsplit("/", 1)[-1]
        counts[GUEST if not where or where.endswith(".cwasm") else where, name] += int(found[1].replace(",", "")) / requests
    return counts


def total(text):
    """Of a file of run()."""
    found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    if not found:
        raise rig.BenchError("callgrind wrote no count")
    return int(found.group(1))


def count(r, case, requests, path="/echo"):
    """Instructions of one request."""
    return total(pathlib.Path(run(r, case, requests, path)).read_text()) / requests


SHARES = ("host", "engine", "guest", "nginx")


def share_of(where, name):
    """Whose a function is. Callgrind gives inlined functions of headers no object."""
    if where.startswith("ngx_http_sluice") or (where == GUEST and re.match(r"[\w.]+\.(h|c|def):", name)):
        return "host"
    if where.startswith(("libwasmtime", "ld-linux")):
        return "engine"
    return "guest" if where in ("???", GUEST) else "nginx"


def split(r, case, requests):
    """{"requests": counted, "total": instructions of one of them, "shares": {one of SHARES: its own}, "top": [the largest functions but nginx's]}"""
    path = run(r, case, requests)
    counts = own_counts(path, requests)
    shares = collections.Counter()
    for (where, name), value in counts.items():
        shares[share_of(where, name)] += value
    top = [[f"{name} ({share_of(where, name)})", value] for (where, name), value in counts.most_common() if share_of(where, name) != "nginx"][:TOP]
    return {"requests": requests, "total": total(pathlib.Path(path).read_text()) / requests, "shares": dict(shares), "top": top}


def per_kib(r, case, requests=40):
    """Of a response body: the difference of two lengths."""
    costs = [count(r, case, requests, r.file(size)) for size in BODY_BYTES]
    return (costs[1] - costs[0]) / ((BODY_BYTES[1] - BODY_BYTES[0]) >> 10)


def measure(r, cases, each):
    """{name: each(case)}; cases that fail or cannot run are said and left out. The second: whether any failed."""
    results, failed = {}, False
    for case in cases:
        reason = r.why_not(case)
        if reason:
            print(f"{case.name}: left out, {reason}")
            continue
        print(f"{case.name} ...", flush=True)
        try:
            results[case.name] = each(case)
        except rig.BenchError as e:
            print(e, file=sys.stderr)
            failed = True
    return results, failed


def table(results, cases=CASES):
    plain = results.get("plain")
    lines = [f"{'case':15} {'instr/request':>14} {'over plain':>11} {'x plain':>8}   what"]
    for case in cases:
        if case.name in results:
            value = results[case.name]
            over = f"{value - plain:+11.0f} {value / plain:8.3f}" if plain else f"{'':20}"
            lines.append(f"{case.name:15} {value:14.0f} {over}   {case.what}")
    return "\n".join(lines)


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--nginx")
    p.add_argument("--module")
    p.add_argument("--case", action="append", choices=[c.name for c in CASES])
    p.add_argument("--body", action="store_true", help="also what a KiB of a response body costs")
    p.add_argument("--requests", type=int, default=2000, help="that are counted, for each case")
    p.add_argument("--json", help="write the numbers to this file")
    return p.parse_args()


def main():
    args = arguments()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing; make bench installs it")
    with rig.Rig(args.module, args.nginx) as r:
        cases = [c for c in CASES if not args.case or c.name in args.case]
        results, failed = measure(r, cases, lambda c: count(r, c, args.requests))
        body, body_failed = measure(r, BODY_CASES, lambda c: per_kib(r, c)) if args.body else ({}, False)
    print("\n" + table(results))
    for name, value in body.items():
        print(f"{name:15} {value:14.1f} instructions for each KiB of the body")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"request": results, "body_kib": body}, indent=2) + "\n")
    return 1 if failed or body_failed else 0


if __name__ == "__main__":
    sys.exit(main())
