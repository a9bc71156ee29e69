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


# What a case is to cost at most, over plain nginx: a number, or the name of another case.
TARGETS = [
    ("no-filters", 0), ("filter-c", 1500), ("filter-rust", "lua"), ("request-rust", 6000), ("request-go", 60000), ("headers-c", "lua-headers"),
    ("chain-10", "lua-10-steps"),
]
NOISE = 200  # nginx alone differs by so much


def targets_part(results):
    counts, rows = results.get("request", {}), []
    plain, shares = counts.get("plain", 0), results.get("shares", {})
    for name, wanted in TARGETS:
        limit = counts.get(wanted, 0) - plain if isinstance(wanted, str) else wanted
        if name not in counts or name not in shares or limit < 0 or (isinstance(wanted, str) and wanted not in counts):
            continue
        over, own, base = counts[name] - plain, shares[name], shares.get("plain", {})
        text = f"{limit:,.0f}" + (f" (`{wanted}`)" if isinstance(wanted, str) else "")
        parts = [f"{own.get(part, 0) - base.get(part, 0):+,.0f}" for part in ("host", "engine", "guest", "nginx")]
        rows.append([f"`{name}`", text, f"{over:+,.0f}", "yes" if over <= limit + NOISE else "no", *parts])
    return grid(["case", "target", "over plain", "reached", "our host", "engine", "guest, with entries and exits", "nginx and C library"], rows)


TARGETS_TEXT = """
Where a target is not reached, the columns to the right say where the instructions go. An entry into a guest costs about 190 in the engine
and some 30 in compiled code, a host call about 90: a filter in C that adds a response header has two entries and one host call, one in Rust
four (its SDK exports every callback and looks the context up in each), a chain of ten filters twenty, where one Lua handler enters its
interpreter once. What a Rust filter costs in the guest alone is most of what Lua's whole handler costs. Link-time optimisation of the module,
measured, changes a request by less than 2 in 100 and is not used.

Callbacks that follow each other are called in one entry: on_context_create with the first headers callback, and, where the chain is one
filter, on_log, on_done and on_delete (in longer chains on_done and on_delete). They share one CPU budget. An on_context_create or on_log
that calls the host keeps an entry of its own. Callbacks whose body is empty, or one constant that means "go on", are not entered at all.
"""


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
## Targets

{targets_part(results)}{TARGETS_TEXT}
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
