#!/usr/bin/env python3
"""Where the instructions of a case go: each function's own, as the difference from another case, by shared object and by function.

Usage: bench/profile.py [CASE [OTHER]] [--requests N] [--top N] [--module SO]      (CASE filter-c, OTHER plain)
"""
import argparse
import collections

import instructions
import rig
from cases import by_name


def show(title, rows, top):
    print(f"\n{title}")
    rows = sorted(rows.items(), key=lambda row: -abs(row[1]))
    for name, value in rows[:top]:
        if abs(value) >= 1:
            print(f"{value:+10.1f}  {name}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("case", nargs="?", default="filter-c")
    p.add_argument("other", nargs="?", default="plain")
    p.add_argument("--requests", type=int, default=2000)
    p.add_argument("--top", type=int, default=60)
    p.add_argument("--module")
    args = p.parse_args()
    counts = []
    with rig.Rig(args.module) as r:
        for name in (args.case, args.other):
            counts.append(instructions.own_counts(instructions.run(r, by_name(name), args.requests), args.requests))
    difference = collections.Counter(counts[0])
    difference.subtract(counts[1])
    objects = collections.Counter()
    for (where, _), value in difference.items():
        objects[where] += value
    print(f"{args.case} over {args.other}: {sum(objects.values()):+.0f} instructions per request")
    show("by object", objects, 20)
    show("by function", {f"{name}  [{where}]": value for (where, name), value in difference.items()}, args.top)


if __name__ == "__main__":
    main()
