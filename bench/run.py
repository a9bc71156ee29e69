#!/usr/bin/env python3
"""All measurements of a request, side by side: instructions, requests per second, latency, bodies, memory, start.

Prints tables, writes build/bench/results.json, docs/performance.md and its plots. A part that was not asked for keeps what the last run
has found.

Usage: bench/run.py [--part PART]... [--case NAME]... [--requests N] [--rounds N] [--rate N] [--nginx BIN] [--module SO]
WASMX_NGINX=/path/to/nginx (with ngx_wasm_module in it) adds WasmX.
"""
import argparse
import json
import sys

import instructions
import load
import page
import rig
import workers
from cases import BODY_CASES, CASES

RESULTS = rig.BUILD / "bench" / "results.json"
PARTS = ("instructions", "bodies", "throughput", "latency", "workers")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--part", action="append", choices=PARTS)
    p.add_argument("--case", action="append", choices=[c.name for c in CASES])
    p.add_argument("--requests", type=int, default=2000, help="that are counted, for each case")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--rate", type=int, default=2000, help="requests a second for latency")
    p.add_argument("--nginx")
    p.add_argument("--module")
    return p.parse_args()


def measure(r, part, cases, args, results):
    """One part, into results; whether a case of it failed."""
    can = [c for c in cases if r.why_not(c) is None]
    failed = False
    if part == "instructions":
        found, failed = instructions.measure(r, cases, lambda c: instructions.count_shares(r, c, args.requests))
        results["request"] = results.get("request", {}) | {name: n for name, (n, _) in found.items()}
        results["shares"] = results.get("shares", {}) | {name: shares for name, (_, shares) in found.items()}
    elif part == "bodies":
        results["body_kib"], failed = instructions.measure(r, BODY_CASES, lambda c: instructions.per_kib(r, c))
    elif part == "throughput":
        results[part] = load.throughput(r, can, args.rounds)
    elif part == "latency":
        results[part] = load.latency(r, can, args.rate)
    else:
        results[part] = workers.measure(r)
    return failed


def main():
    args = arguments()
    parts = args.part or PARTS
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"rate": args.rate, "command": " ".join(["bench/run.py", *(a for a in sys.argv[1:] if "/" not in a and a != "--module")])}
    failed = False
    with rig.Rig(args.module, args.nginx) as r:
        cases = [c for c in CASES if (not args.case or c.name in args.case or c.name == "plain")]
        for part in PARTS:
            if part in parts:
                failed |= measure(r, part, cases, args, results)
                RESULTS.parent.mkdir(parents=True, exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    page.write(results)
    print("\n" + page.PAGE.read_text())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
