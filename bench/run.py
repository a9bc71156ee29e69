#!/usr/bin/env python3
"""All measurements of a request, side by side: instructions, requests per second, latency, bodies, memory, start, switch of plans.

Prints tables; keeps what it found in docs/performance/results.json and makes docs/performance.md and its plots of it. A part or a case
that was not asked for keeps what an earlier run has found. The parts scale and growth take long and run when they are asked for.

Usage: bench/run.py [--part PART]... [--case NAME]... [--requests N] [--rounds N] [--rate N] [--served N] [--size KEY]... [--nginx BIN]
                    [--module SO]
WASMX in the environment, its nginx or its checkout, adds WasmX.
"""
import argparse
import sys

import growth
import instructions
import load
import page
import plan
import results
import rig
import scale
import workers
from cases import BODY_CASES, CASES

PARTS = ("instructions", "bodies", "throughput", "latency", "workers", "sharing", "plan")
LONG = ("scale", "growth")
OWN_FILES = ("--nginx", "--module")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--part", action="append", choices=PARTS + LONG)
    p.add_argument("--case", action="append", choices=[c.name for c in CASES])
    p.add_argument("--requests", type=int, default=2000, help="that are counted, for each case")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--rate", type=int, default=2000, help="requests a second for latency")
    p.add_argument("--served", type=int, default=1000000, help="requests of the part growth, for each language and level")
    p.add_argument("--size", action="append", choices=[scale.key(s) for s in scale.sizes()], help="of the part scale: routes/chains/filters/workers")
    p.add_argument("--nginx")
    p.add_argument("--module")
    return p.parse_args()


def measure(r, part, cases, args):
    """Gives {part of the results: what was found}, and whether something failed; long parts give what they have as they go."""
    can = [c for c in cases if r.why_not(c) is None]
    if part == "instructions":
        for case in cases:
            found, failed = instructions.measure(r, [case], lambda c: instructions.split(r, c, args.requests))
            yield {"request": found}, failed
    elif part == "bodies":
        found, failed = instructions.measure(r, BODY_CASES, lambda c: instructions.per_kib(r, c))
        yield {"body_kib": found}, failed
    elif part == "throughput":
        yield {part: load.throughput(r, can, args.rounds)}, False
    elif part == "latency":
        yield {part: load.latency(r, can, args.rate, args.rounds)}, False
    elif part == "workers":
        yield {part: workers.measure(r)}, False
    elif part == "sharing":
        yield {part: scale.sharing()}, False
    elif part == "plan":
        yield {part: plan.measure((10, 1000, 100000))}, False
    elif part == "scale":
        yield from (({part: row}, False) for row in scale.measure(args.size))
    else:
        for row in growth.measure(r, args.served):
            complaint = growth.complaint(row)
            print(complaint or "flat", flush=True)
            yield {part: {growth.key(row): row}}, complaint is not None


def command(words):
    """As make takes it; --nginx and --module name files of this machine and are left out."""
    words = [w for i, w in enumerate(words) if w not in OWN_FILES and (i == 0 or words[i - 1] not in OWN_FILES)]
    return 'make bench BENCH_ARGS="' + " ".join(words) + '"' if words else "make bench"


def main():
    args = arguments()
    failed = False
    with rig.Rig(args.module, args.nginx) as r:
        cases = [c for c in CASES if (not args.case or c.name in args.case or c.name == "plain")]
        for part in args.part or PARTS:
            for found, bad in measure(r, part, cases, args):
                failed |= bad
                for name, value in found.items():
                    results.keep(name, value, command(sys.argv[1:]))
    print("\n" + page.PAGE.read_text())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
