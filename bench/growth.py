"""Whether a worker's memory grows with the requests that it has served, at each level of isolation."""
import json
import subprocess

import load
import memory
import rig
from cases import Case, GREETING
from workers import FILTERS, LEVELS

CONNECTIONS = 16
# What a heap may still settle by after a tenth of the requests. A leak of two bytes a request is more than that after a million, Go's
# collector does not begin before a heap has 4 MiB.
ALLOWED_KIB = {"C": 1024, "Rust": 1024, "Go": 6144}


def case_of(filter_name, level):
    location = f"proxy_wasm_isolation {level}; proxy_wasm {filter_name} '{GREETING}';"
    return Case(f"{filter_name}-{level}", "", modules=("sluice",), filters=(filter_name,), location=location, shows="x-greeting")


def serve(r, case, n, connections):
    """n requests, as fast as the connections take them; each answer is a success."""
    command = [str(load.OPEN_LOOP), str(r.port), str(n), "1", str(connections)]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if done["sent"] != n or done["failed"]:
        raise rig.BenchError(f"{case.name}: {done['failed']} of {n} requests failed\n{r.log()}")


def one(r, case, requests, connections):
    """{"from", "to": {"requests", "rss_kib", "private_kib", ...}}: after a tenth of the requests, and after all."""
    with r.gateway(case, master=True) as (process, sock):
        with rig.connect(sock, process, 10) as s:
            rig.check(case, rig.Client(s).get())
        (worker,) = memory.children(process.pid)
        marks = {}
        for name, served, more in (("from", requests // 10, requests // 10), ("to", requests, requests - requests // 10)):
            serve(r, case, more, connections)
            marks[name] = {"requests": served} | memory.held(worker)
        if memory.children(process.pid) != [worker]:
            raise rig.BenchError(f"{case.name}: the worker did not live to the end\n{r.log()}")
        return marks


def grown_kib(marks):
    return max(marks["to"][name] - marks["from"][name] for name in ("rss_kib", "private_kib"))


def complaint(row):
    """A text when memory grew, or None."""
    grown = grown_kib(row)
    if grown <= ALLOWED_KIB[row["language"]]:
        return None
    served = row["to"]["requests"] - row["from"]["requests"]
    return f"{row['language']}, {row['level']}: a worker has {grown} KiB more after {served} requests more ({grown * 1024 / served:.1f} bytes each)"


def key(row):
    return f"{row['language']}, {row['level']}"


def measure(r, requests, languages=tuple(FILTERS), levels=LEVELS, connections=CONNECTIONS):
    """Gives {"language", "level", "from", "to"} of each."""
    for language in languages:
        for level in levels:
            case = case_of(FILTERS[language], level)
            if r.why_not(case):
                print(f"{case.name}: left out, {r.why_not(case)}")
                continue
            print(f"memory over {requests} requests, {language}, {level} ...", flush=True)
            yield {"language": language, "level": level} | one(r, case, requests, connections)
