"""docs/performance.md and its plots, from the results of bench/run.py."""
import html
import pathlib

import rig
from cases import BODY_CASES, CASES

PAGE = rig.ROOT / "docs" / "performance.md"
COMMAND = "make bench"
ROW, BAR, VALUE = 22, 420, 90


def bars(title, rows, label=150):
    """An SVG with a bar for each (name, value, text)."""
    most = max([value for _, value, _ in rows] + [1])
    height = 40 + ROW * len(rows)
    width = label + BAR + VALUE
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">']
    parts += [f'<rect width="{width}" height="{height}" fill="#fff"/>', f'<text x="8" y="18" font-weight="bold">{html.escape(title)}</text>']
    for i, (name, value, text) in enumerate(rows):
        y = 30 + ROW * i
        length = max(value, 0) * BAR / most
        parts.append(f'<text x="{label - 8}" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<rect x="{label}" y="{y + 2}" width="{length:.1f}" height="{ROW - 6}" fill="#4472a8"/>')
        parts.append(f'<text x="{label + length + 6:.1f}" y="{y + 14}">{html.escape(text)}</text>')
    return "\n".join(parts + ["</svg>", ""])


def grid(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def requests_part(results):
    counts, load, slow = results.get("request", {}), results.get("throughput", {}), results.get("latency", {})
    plain = counts.get("plain", 0)
    rows = []
    for case in CASES:
        if case.name not in counts and case.name not in load:
            continue
        n, l, s = counts.get(case.name), load.get(case.name), slow.get(case.name)
        cells = [f"`{case.name}`", case.what, f"{n:,.0f}" if n else "", f"{n - plain:+,.0f}" if n else ""]
        cells.append(f"{l['ratio']:.2f} ({l['low']:.2f} to {l['high']:.2f})" if l else "")
        cells.append(f"{s['p50']:.0f} / {s['p99']:.0f} / {s['p999']:.0f}" if s else "")
        rows.append(cells)
    head = ["case", "what", "instructions", "over plain", "requests per second, to plain (spread)", "p50 / p99 / p99.9 (us)"]
    return grid(head, rows)


def body_part(results):
    return grid(["case", "what", "instructions per KiB"], [[f"`{c.name}`", c.what, f"{results['body_kib'][c.name]:,.1f}"] for c in BODY_CASES if c.name in results["body_kib"]])


def workers_part(results):
    rows = []
    for title, by_count in results["workers"].items():
        rows += [[title, n, f"{v['pss_kib'] / 1024:.1f}", f"{v['start_ms']:.0f}"] for n, v in by_count.items()]
    return grid(["filters", "routes with one", "Pss of the worker (MiB)", "start to first answer (ms)"], rows)


def write(results):
    counts = results.get("request", {})
    over = [(c.name, counts[c.name] - counts.get("plain", 0)) for c in CASES if c.name in counts and c.name != "plain"]
    plots = PAGE.parent / "performance"
    plots.mkdir(exist_ok=True)
    (plots / "over-plain.svg").write_text(bars("Instructions of a request over plain nginx", [(n, v, f"{v:+,.0f}") for n, v in over]))
    if results.get("workers"):
        memory = [(f"{t}, {n}", v["pss_kib"] / 1024, f"{v['pss_kib'] / 1024:.1f}") for t, by in results["workers"].items() for n, v in by.items()]
        (plots / "memory.svg").write_text(bars("Pss of a worker, MiB", memory, 250))
    text = f"""# Performance

Written by `{COMMAND}` (the last run: `{results["command"]}`); do not edit. One worker in front of a local upstream over keep-alive. Instructions are those of the worker in user
space, counted by callgrind, and repeat within some hundreds on any load of the machine; times depend on the machine and on what else it
did, which is why requests per second are ratios to plain nginx in the same round. Latency counts from the time at which a request
was due, {results['rate']} a second.

{requests_part(results)}
![instructions over plain nginx](performance/over-plain.svg)

`make bench-profile BENCH_ARGS="filter-rust plain"` shows where the instructions of a case go. A gate in `make test` holds the counts of
our own part against `bench/limits.json`; `python3 bench/gate.py` alone does the same.
"""
    if results.get("body_kib"):
        text += f"\n## Bodies\n\n{body_part(results)}"
    if results.get("workers"):
        text += f"\n## Memory and start\n\n{workers_part(results)}\n![memory of a worker](performance/memory.svg)\n"
    text += "\nWhat a switch of plans costs is printed by `make bench-plan`, what shared state costs by `make bench-shared_state`.\n"
    PAGE.write_text(text)
