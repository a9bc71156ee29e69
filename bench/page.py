"""docs/performance.md and its plots, from the results of bench/run.py."""
import html
import math
import pathlib

import growth
import instructions
import rig
import scale
from cases import BODY_CASES, CASES

PAGE = rig.ROOT / "docs" / "performance.md"
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


PANEL, TALL, MARGIN = 250, 150, 60


def panel(x, title, points):
    """The parts of a curve of (size, value) points, at x; both axes are logarithmic, so what grows as its size does rises evenly."""
    across = [math.log10(max(size, 1)) for size, _ in points]
    up = [math.log10(max(value, 0.1)) for _, value in points]
    left, width = min(across), (max(across) - min(across)) or 1
    low = math.floor(min(up))
    height = math.ceil(max(up)) - low or 1
    at = [(x + MARGIN + (a - left) * (PANEL - MARGIN - 30) / width, 40 + TALL * (1 - (u - low) / height)) for a, u in zip(across, up, strict=True)]
    bottom = 40 + TALL
    parts = [f'<text x="{x + MARGIN}" y="24" font-weight="bold">{html.escape(title)}</text>']
    parts.append(f'<path d="M{x + MARGIN} 40V{bottom}H{x + PANEL - 10}" fill="none" stroke="#888"/>')
    parts.append('<polyline fill="none" stroke="#4472a8" stroke-width="2" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in at) + '"/>')
    for (a, b), (size, value) in zip(at, points, strict=True):
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="#4472a8"/>')
        parts.append(f'<text x="{a:.1f}" y="{b - 7:.1f}" text-anchor="middle">{short(value)}</text>')
        parts.append(f'<text x="{a:.1f}" y="{bottom + 16}" text-anchor="middle">{short(size)}</text>')
    return parts


def short(n):
    return f"{n / 1000:,.0f}k" if n >= 10000 else f"{n:,.0f}" if n >= 10 else f"{n:.2g}"


def curves(axis, panels):
    """An SVG with a curve side by side for each (title, points)."""
    width, height = PANEL * len(panels) + 20, TALL + 90
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{width}" height="{height}" fill="#fff"/>')
    for i, (title, points) in enumerate(panels):
        parts += panel(i * PANEL, title, points)
    parts.append(f'<text x="{width / 2:.0f}" y="{height - 10}" text-anchor="middle">{html.escape(axis)}</text>')
    return "\n".join(parts + ["</svg>", ""])


def mib(kib):
    return f"{kib / 1024:.1f}"


# ---- instructions ----


def totals(results):
    return {name: found["total"] for name, found in results.get("request", {}).items()}


def over(results):
    """{case: instructions of a request over plain nginx}"""
    counts = totals(results)
    return {name: n - counts["plain"] for name, n in counts.items()} if "plain" in counts else {}


# (what, the case, what it must stay below: a number, another case, or a share of plain nginx)
TARGETS = (
    ("a Rust filter at the shared level costs less than Lua's header filter", "filter-rust", "lua"),
    ("a C filter at the shared level", "filter-c", 1500),
    ("an instance as new for each request, Rust", "request-rust", 6000),
    ("an instance as new for each request, Go", "request-go", 60000),
    ("reading 3 request headers, setting 2, removing 1 costs less than in Lua", "headers-c", "lua-headers"),
    ("a chain of 10 filters costs less than 10 Lua handlers", "chain-10", "lua-10-plugins"),
    ("a route without filters costs no more than nginx alone differs from run to run, 2 % of a request", "no-filters", 0.02),
)


def targets(results):
    """[(what, case, reached, limit, how the limit came to be, whether it is met)] of the targets that were measured."""
    figures, plain, rows = over(results), totals(results).get("plain", 0), []
    for what, case, limit in TARGETS:
        other = limit if isinstance(limit, str) else None
        value = figures.get(other) if other else limit * plain if limit < 1 else limit
        if case in figures and value is not None:
            rows.append((what, case, figures[case], value, other, figures[case] < value))
    return rows


def targets_part(results):
    rows = []
    for what, case, reached, limit, other, met in targets(results):
        named = f"--case {case}" + (f" --case {other}" if other else "")
        below = f"{limit:,.0f}" + (f" (`{other}`)" if other else "")
        rows.append([what, below, f"{reached:,.0f}", "yes" if met else "no", f'`make bench BENCH_ARGS="--part instructions {named}"`'])
    return grid(["target: instructions over plain nginx", "below", "reached", "met", "printed by"], rows)


def split_part(results):
    """Where the instructions go: the difference from plain nginx."""
    found = results.get("request", {})
    rows = []
    for case in CASES:
        if case.name in found and case.name != "plain":
            own, base = found[case.name]["shares"], found["plain"]["shares"]
            rows.append([f"`{case.name}`", *(f"{own.get(part, 0) - base.get(part, 0):+,.0f}" for part in instructions.SHARES)])
    return grid(["case", "our host", "engine", "guest, with entries and exits", "nginx, C library, Lua, njs"], rows)


TARGETS_TEXT = """
The largest part is our own host's: checks of names and values and edits of nginx's lists (some 360 for each header that is set), the state
of a stream and of each filter in it, and some 80 around each entry for its context, CPU budget and counters. An entry into a guest costs
about 190 in the engine and some 30 in compiled code, a host call about 90: a filter in C that adds a response header has two entries and
one host call, one in Rust four (its SDK exports every callback and looks the context up in each), a chain of ten filters twenty, where one
Lua handler enters its interpreter once. What a Rust filter costs in the guest alone is most of what Lua's whole handler costs.

Callbacks that follow each other are called in one entry: on_context_create with the first headers callback, and, where the chain is one
filter, on_log, on_done and on_delete (in longer chains on_done and on_delete, and on_log with them where no other filter logs). They share
one CPU budget. An on_context_create or on_log that calls the host keeps an entry of its own. Callbacks whose body is empty, or one constant
that means "go on", are not entered at all.
"""


def missed_part(results):
    """The largest functions of ours of each target that is missed."""
    text = ""
    for what, case, reached, limit, _, met in targets(results):
        if not met:
            top = "\n".join(f"{n:8.0f}  {name}" for name, n in results["request"][case]["top"])
            text += f"\n`{case}` ({what}: {reached:,.0f}, not below {limit:,.0f}):\n\n```text\n{top}\n```\n"
    return text


def requests_part(results):
    counts, figures, load, slow = totals(results), over(results), results.get("throughput", {}), results.get("latency", {})
    rows = []
    for case in CASES:
        if case.name not in counts and case.name not in load:
            continue
        n, l, s = counts.get(case.name), load.get(case.name), slow.get(case.name)
        cells = [f"`{case.name}`", case.what, f"{n:,.0f}" if n else "", f"{figures[case.name]:+,.0f}" if case.name in figures else ""]
        cells.append(str(results["request"][case.name].get("requests", "")) if n else "")
        cells.append(f"{l['ratio']:.2f} ({l['low']:.2f} to {l['high']:.2f})" if l else "")
        cells.append(f"{s['p50']:.0f} / {s['p99']:.0f} / {s['p999']:.0f}" if s else "")
        rows.append(cells)
    head = ["case", "what", "instructions", "over plain", "requests counted", "requests per second, to plain (spread)", "p50 / p99 / p99.9 (us)"]
    return grid(head, rows)


def body_part(results):
    found = results["body_kib"]
    return grid(["case", "what", "instructions per KiB"], [[f"`{c.name}`", c.what, f"{found[c.name]:,.1f}"] for c in BODY_CASES if c.name in found])


# ---- memory, start, switch ----


def workers_part(results):
    rows = []
    for v in results["workers"]:
        cold = f"{v['cold_ms']:.0f}" if "cold_ms" in v else ""
        rows.append([v["language"], v["level"], str(v["filters"]), mib(v["pss_kib"]), mib(v["private_kib"]), f"{v['start_ms']:.0f}", cold])
    return grid(["filters in", "isolation", "routes with one", "Pss (MiB)", "private and written (MiB)", "start (ms)", "start without compiled code (ms)"], rows)


def kinds_part(kinds):
    rows = [[name, mib(k["rss_kib"]), mib(k["pss_kib"]), mib(k["private_kib"])] for name, k in sorted(kinds.items(), key=lambda kv: -kv[1]["rss_kib"])]
    return grid(["mapped by a worker", "resident (MiB)", "its share: Pss (MiB)", "private and written (MiB)"], rows)


def plan_part(results):
    rows = []
    for n, v in sorted(results["plan"].items(), key=lambda item: int(item[0])):
        cells = [f"{int(n):,}", f"{v['build_ms']:.1f}", f"{v['update_ms']:.1f}", f"{v['size_bytes'] / 1024:,.0f}", f"{v['instructions']:,.0f}"]
        cells += [f"{v['written_ms']:.1f}", f"{v['p99_ms']:.2f}", f"{v['added_ms']:+.2f}"]
        rows.append(cells)
    head = ["routes", "build (ms of CPU)", "update (ms of CPU)", "size (KiB)", "instructions of a match", "write until all workers serve it (ms)"]
    return grid([*head, "p99 of a request (ms)", "added to it while writes follow each other (ms)"], rows)


def scale_row(row):
    s = row["size"]
    cells = [f"{s['routes']:,}", f"{s['chains']:,}", str(s["filters"]), str(s["workers"]), f"{row['start_cold_ms']:,.0f}", f"{row['start_ms']:,.0f}"]
    return cells + [f"{row['switch_ms']:,.0f}", mib(row["total_kib"]), mib(row["worker"]["pss_kib"]), mib(row["worker"]["private_kib"])]


def scale_part(results):
    head = ["routes", "chains", "filters", "workers", "first start (ms)", "start (ms)", "switch (ms)", "all processes, Pss (MiB)"]
    rows = sorted(results["scale"].values(), key=lambda row: [row["size"][axis] for axis in scale.AXES])
    return grid([*head, "a worker, Pss (MiB)", "a worker, private and written (MiB)"], [scale_row(row) for row in rows])


def scale_plots(results, plots):
    """The names of those that have two points at least."""
    names = []
    for axis in scale.AXES:
        points = scale.curve(results["scale"], axis)
        if len(points) < 2:
            continue
        sized = [("start, ms", lambda row: row["start_ms"]), ("switch, ms", lambda row: row["switch_ms"]),
                 ("all processes, Pss, MiB", lambda row: row["total_kib"] / 1024), ("a worker, Pss, MiB", lambda row: row["worker"]["pss_kib"] / 1024)]
        panels = [(title, [(row["size"][axis], value(row)) for row in points]) for title, value in sized]
        base = ", ".join(f"{n} {other}" for other, n in scale.BASE.items() if other != axis)
        (plots / f"scale-{axis}.svg").write_text(curves(f"{axis} ({base})", panels))
        names.append(axis)
    return names


def growth_part(results):
    rows = []
    for v in results["growth"].values():
        a, b = v["from"], v["to"]
        cells = [v["language"], v["level"], f"{a['requests']:,}", f"{b['requests']:,}", f"{a['rss_kib']:,} to {b['rss_kib']:,}", f"{a['private_kib']:,} to {b['private_kib']:,}"]
        rows.append([*cells, "no" if growth.complaint(v) else "yes"])
    return grid(["filter in", "isolation", "after requests", "and after", "resident (KiB)", "private and written (KiB)", "flat"], rows)


# ---- the page ----


def printed(results, part):
    return f"Printed by `{results['commands'][part]}`." if part in results.get("commands", {}) else ""


def bar_plots(results, plots):
    figures = over(results)
    rows = [(c.name, figures[c.name], f"{figures[c.name]:+,.0f}") for c in CASES if c.name in figures and c.name != "plain"]
    (plots / "over-plain.svg").write_text(bars("Instructions of a request over plain nginx", rows))
    if results.get("workers"):
        held = [(f"{v['language']} {v['level']} {v['filters'] or ''}".strip(), v["private_kib"] / 1024, mib(v["private_kib"])) for v in results["workers"]]
        (plots / "memory.svg").write_text(bars("Private memory of a worker, MiB", held, 200))


def times(results):
    said = [printed(results, part) for part in ("throughput", "latency") if results.get(part)]
    return "Times: " + " ".join(said) if said else "Times are left out: no run on a quiet machine yet."


def not_counted(results):
    names = [f"`{c.name}`" for c in CASES if c.name not in results["request"]]
    return f"Not counted, since valgrind did not answer or something was missing: {', '.join(names)}. " if names else ""


def instructions_text(results):
    missed = missed_part(results)
    text = f"""## Targets

{targets_part(results)}
## A request

{requests_part(results)}
{printed(results, "request")} {not_counted(results)}{times(results)}

![instructions over plain nginx](performance/over-plain.svg)

Where the instructions go, as the difference from plain nginx:

{split_part(results)}{TARGETS_TEXT}
`make bench-profile BENCH_ARGS="filter-rust plain"` shows it by function. A gate in `make test` holds the counts of our own part against
`bench/limits.json`; `python3 bench/gate.py` alone does the same.

How it is compiled was tried as well, with gcc 12 and counted on `filter-c`, `filter-rust` and `chain-10`: link-time optimisation of the module with all libraries
takes 87, 207 and 768 instructions (3 to 5 % of our own share), compiles everything again whenever it is linked and makes profiles harder to read; calls of other libraries
without a table (`-fno-plt`) take 41, 69 and 201 (2 %). Neither is the default.
"""
    return text + (f"\n## Where targets are missed\n\nInstructions of a request by function, nginx and the C library left out.\n{missed}" if missed else "")


def sharing_text(results):
    found = results["sharing"]
    return f"""Workers of a gateway share what they have not written. Here {found['size']['workers']} workers with {found['size']['chains']} chains, filters in C, Rust and Go by turns, isolation `request`;
means over the workers. Compiled code, the plan and images are files that every worker maps: what is resident counts for each, its share is
divided among them, and only pages that an instance wrote are its own.

{kinds_part(found['kinds'])}
{printed(results, "sharing")}
"""


def scale_text(results, plots):
    full = results["scale"].get(scale.key(scale.FULL))
    text = f"## Scale\n\n{scale_part(results)}\n"
    text += "The first start compiles all filters; a switch is a write to the Admin API until all workers serve it, the median of some.\n"
    text += printed(results, "scale") + "\n"
    text += "".join(f"\n![cost by {axis}](performance/scale-{axis}.svg)\n" for axis in scale_plots(results, plots))
    return text + (f"\nA worker of the largest:\n\n{kinds_part(full['kinds'])}" if full else "")


def write(results):
    plots = PAGE.parent / "performance"
    plots.mkdir(exist_ok=True)
    bar_plots(results, plots)
    text = ["""# Performance

Made by `make bench` from `docs/performance/results.json`; do not edit. One worker in front of a local upstream over keep-alive. Instructions
are those of the worker in user space, counted by callgrind, and repeat within some hundreds on any load of the machine; times depend on the
machine and on what else it did, which is why requests per second are ratios to plain nginx in the same round. Latency counts from the time
at which a request was due, at a fixed rate, and is the median of several rounds. `make bench WASMX=<its checkout or its nginx>` adds WasmX.
"""]
    if results.get("request"):
        text.append(instructions_text(results))
    if results.get("body_kib"):
        text.append(f"## Bodies\n\n{body_part(results)}\n{printed(results, 'body_kib')}\n")
    if results.get("workers"):
        text.append(f"## Memory and start\n\n{workers_part(results)}\n{printed(results, 'workers')}\n\n![memory of a worker](performance/memory.svg)\n")
    if results.get("sharing"):
        text.append(sharing_text(results))
    if results.get("growth"):
        text.append(f"## Memory over many requests\n\n{growth_part(results)}\n{printed(results, 'growth')} It fails when memory grew by more than {growth.ALLOWED_KIB['C']} KiB; with Go, whose collector\nbegins at a heap of 4 MiB, by {growth.ALLOWED_KIB['Go']}.\n")
    if results.get("plan"):
        text.append(f"## Switch of plans\n\n{plan_part(results)}\n{printed(results, 'plan')} See [plans](reference/plan.md).\n")
    if results.get("scale"):
        text.append(scale_text(results, plots))
    text.append("What shared state costs is printed by `make bench-shared_state`, what isolation costs without nginx by `make bench-isolation`.\n")
    PAGE.write_text("\n".join(text))
