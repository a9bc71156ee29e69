"""What a worker holds and how long nginx takes to start, with more and more filters, at each level of isolation."""
import dataclasses
import pathlib
import time

import memory
import rig
from cases import Case, GREETING

LEVELS = ("shared", "filter", "request")
FILTERS = {"C": "my-c-filter", "Rust": "my-rust-filter", "Go": "my-go-filter"}


def with_filters(filter_name, n, level):
    """n routes with a filter each, all with the same module."""
    locations = [f"location = /r{i} {{ proxy_wasm {filter_name} '{GREETING}'; return 200 hello; }}" for i in range(n)]
    case = Case(f"{filter_name}-{n}", "", modules=("sluice",), filters=(filter_name,), http=f"proxy_wasm_isolation {level};")
    return dataclasses.replace(case, location="} " + "\n".join(locations) + " location /last {")


def ask(s, case, n):
    """Once of each route: from here on each has what it needs for requests."""
    for i in range(n):
        head = rig.Client(s, f"/r{i}").get()
        if b"x-greeting" not in head.lower():
            raise rig.BenchError(f"{case.name}: no answer of the filter: {head.decode()}")


def one(r, case, n=0):
    began = time.monotonic()
    with r.gateway(case, master=True) as (process, sock), rig.connect(sock, process, 10) as s:
        rig.check(case, rig.Client(s).get())
        took = time.monotonic() - began
        ask(s, case, n)
        return memory.held(memory.children(process.pid)[0]) | {"start_ms": took * 1000}


def cold_ms(r, filter_name):
    """A start that finds no compiled code."""
    kept, r.cache = r.cache, pathlib.Path(r.folder, f"cold-{filter_name}")
    try:
        return one(r, with_filters(filter_name, 1, "shared"), 1)["start_ms"]
    finally:
        r.cache = kept


def measure(r, counts=(1, 10, 100)):
    """[{"language", "level", "filters", "rss_kib", "pss_kib", "private_kib", "start_ms", "cold_ms"}]; the first is nginx alone."""
    rows = [{"language": "plain nginx", "level": "", "filters": 0} | one(r, Case("plain", ""))]
    for language, name in FILTERS.items():
        if r.why_not(with_filters(name, 1, "shared")):
            print(f"{name}: left out, {r.why_not(with_filters(name, 1, 'shared'))}")
            continue
        cold = cold_ms(r, name)
        one(r, with_filters(name, 1, "shared"))  # the compiled module is in the cache from here on
        for level in LEVELS:
            print(f"memory and start, {language}, {level} ...", flush=True)
            for n in counts:
                rows.append({"language": language, "level": level, "filters": n, "cold_ms": cold} | one(r, with_filters(name, n, level), n))
    return rows
