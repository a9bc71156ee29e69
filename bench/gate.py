#!/usr/bin/env python3
"""Fails when a request has become more expensive: instructions in our module, the engine and the guest, against bench/limits.json.

Usage: bench/gate.py [--update]        --update writes what was measured as the new limits (for a change that is worth its price, or one
that has made requests cheaper); commit the file with the change and say why.
"""
import argparse
import json
import pathlib
import sys

import instructions
import rig
from cases import by_name

LIMITS = pathlib.Path(__file__).with_name("limits.json")
UPDATE = "if this is meant, run `python3 bench/gate.py --update` and commit bench/limits.json with the reason; to see where it goes: make bench-profile BENCH_ARGS=%s"


def ours(r, name, requests):
    """Instructions in our module, the engine and the guests."""
    counts = instructions.own_counts(instructions.run(r, by_name(name), requests), requests)
    return sum(value for (where, _), value in counts.items() if where not in instructions.NOT_OURS)


def measure(limits):
    with rig.Rig() as r:
        return {name: ours(r, name, limits["requests"]) for name in limits["instructions"]}


def complaints(limits, measured):
    """A text for each case that is over its limit."""
    texts = []
    for name, limit in limits["instructions"].items():
        allowed = limit * (1 + limits["tolerance"]) + limits["slack"]
        if measured[name] > allowed:
            texts.append(f"{name}: {measured[name]:.0f} instructions in our module, the engine and the guest, the limit is {limit} and {allowed:.0f} with tolerance; {UPDATE % name}")
    return texts


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--update", action="store_true")
    args = p.parse_args()
    limits = json.loads(LIMITS.read_text())
    measured = measure(limits)
    for name, limit in limits["instructions"].items():
        print(f"{name:15} {measured[name]:8.0f} instructions of ours, limit {limit}")
    if args.update:
        limits["instructions"] = {name: round(value) for name, value in measured.items()}
        LIMITS.write_text(json.dumps(limits, indent=2) + "\n")
        return 0
    texts = complaints(limits, measured)
    print("\n".join(texts), file=sys.stderr)
    return 1 if texts else 0


if __name__ == "__main__":
    sys.exit(main())
