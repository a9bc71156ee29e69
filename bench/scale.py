"""How cost grows: a gateway (`sluice start`, SQLite) with more and more routes, chains, filters and workers.

Each filter is a module of its own (templates in C and Rust by turns, made different by a custom section); each chain is on a route of its
own. Needs what the integration tests need.
"""
import json
import pathlib
import statistics
import time

import memory
import plan
import rig

AXES = {"routes": (10, 1000, 10000, 100000), "chains": (1, 10, 100, 1000), "filters": (1, 10, 50, 200), "workers": (1, 4, 16)}
BASE = {"routes": 1000, "chains": 200, "filters": 10, "workers": 2}
FULL = {"routes": 100000, "chains": 1000, "filters": 200, "workers": 16}
WRITES = 5
PATIENCE_S = 600


def leb(n):
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def variant(module, n):
    """The same filter as another module: a custom section more."""
    name, number = b"nth", str(n).encode()
    content = leb(len(name)) + name + number
    return module + b"\0" + leb(len(content)) + content


def install(folder, n, kinds):
    folder.mkdir(mode=0o755, exist_ok=True)
    files = [rig.BUILD / "filters" / f"{kind}.wasm" for kind in kinds]
    modules = [file.read_bytes() for file in files if file.exists()]
    for i in range(n):
        file = folder / f"f{i}.wasm"
        file.write_bytes(variant(modules[i % len(modules)], i))
        file.chmod(0o644)


def document(url, size, isolation):
    routes = [{"name": f"r{i}", "paths": [path(i)]} for i in range(size["routes"])]
    for i in range(min(size["chains"], size["routes"])):
        conf = json.dumps({"my_greeting": f"from chain {i}"})
        routes[i]["filter_chains"] = [{"filters": [{"name": f"f{i % size['filters']}", "config": conf, "isolation": isolation}]}]
    return {"_format_version": "3.0", "services": [{"name": "s", "url": url, "routes": routes}]}


def path(i):
    return f"/api/v{i % 7}/item-{i}"


def start_ms(gateway, last, wait_for):
    began = time.monotonic()
    gateway.launch()
    wait_for(gateway.ready, lambda: f"the gateway does not serve: {gateway.log()[-3000:]}", PATIENCE_S)
    wait_for(lambda: gateway.get(last, timeout=60).status == 200, "the last route", PATIENCE_S)
    return (time.monotonic() - began) * 1000


def switches_ms(gateway, request):
    """Writes to the Admin API; each is answered when all workers serve it."""
    took = []
    for i in range(WRITES):
        began = time.monotonic()
        body = json.dumps({"paths": [f"/written-{i}"]}).encode()
        answer = request(gateway.admin, "PATCH", "/routes/r0", [("Content-Type", "application/json")], body, timeout=PATIENCE_S)
        took.append((time.monotonic() - began) * 1000)
        if answer.status != 200 or gateway.get(f"/written-{i}").status != 200:
            raise rig.BenchError(f"a write was not served: {answer.status} {answer.text}")
    return statistics.median(took)


def in_use(gateway, size):
    """A request of each of some hundred chains, on connections of their own, so that they spread over the workers."""
    for i in range(1, min(size["chains"], size["routes"], 500)):
        answer = gateway.get(path(i))
        if answer.status != 200 or answer.get("x-greeting") != f"from chain {i}":
            raise rig.BenchError(f"chain {i} did not answer: {answer.status} {answer.headers}")


def held(gateway):
    workers = gateway.workers()
    smaps = [pathlib.Path(f"/proc/{pid}/smaps").read_text() for pid in workers]
    mine = [memory.parse(text) for text in smaps]
    names = sorted({kind for text in smaps for kind in memory.kinds(text)})
    none = dict.fromkeys(memory.FIELDS.values(), 0)
    by_kind = {name: memory.mean([memory.kinds(text).get(name, none) for text in smaps]) for name in names}
    total = sum(m["pss_kib"] for m in mine) + memory.held(gateway.pid())["pss_kib"]
    return {"total_kib": total, "worker": memory.mean(mine), "kinds": by_kind}


def one(size, kinds=("my-c-filter", "my-rust-filter"), isolation="shared"):
    """Of one size: {"start_cold_ms", "start_ms", "switch_ms", "total_kib", "worker": {..}, "kinds": {kind: {..}}}; memory of a worker is a mean."""
    from gateway_helpers import Gateway, folder, free_port, http1, sluice, wait_for

    with folder() as where, plan.origin(where, free_port()) as url:
        install(where / "filters", size["filters"], kinds)
        file = where / "document.json"
        file.write_text(json.dumps(document(url, size, isolation)))
        file.chmod(0o644)
        gateway = Gateway(where, workers=size["workers"], database="sqlite", declarative_config=None, log_level="notice")
        done = sluice("config", "db_import", file, env=gateway.env, timeout=PATIENCE_S)
        if done.returncode != 0:
            raise rig.BenchError(done.stderr)
        found = {}
        last = path(size["routes"] - 1)
        for name in ("start_cold_ms", "start_ms"):
            with gateway:
                found[name] = start_ms(gateway, last, wait_for)
                if name == "start_ms":
                    wait_for(lambda: len(gateway.workers()) == size["workers"], "all workers", PATIENCE_S)
                    in_use(gateway, size)
                    found["switch_ms"] = switches_ms(gateway, http1.request)
                    found |= held(gateway)
        return found


def sharing():
    """Thirty chains of filters in C, Rust and Go, four workers, an instance as new for each request: what workers share."""
    size = {"routes": 30, "chains": 30, "filters": 3, "workers": 4}
    print("what workers share ...", flush=True)
    return {"size": size} | one(size, ("my-c-filter", "my-rust-filter", "my-go-filter"), "request")


def sizes(axes=AXES):
    """The points of all curves, each once, and the full size at the end."""
    points = [BASE | {axis: n} for axis, values in axes.items() for n in values] + [FULL]
    return [p for i, p in enumerate(points) if p not in points[:i]]


def key(size):
    return "/".join(str(size[axis]) for axis in AXES)


def curve(rows, axis):
    """The points of a curve: those that differ from the base in nothing else, by size."""
    points = [row for row in rows.values() if all(row["size"][other] == BASE[other] for other in AXES if other != axis)]
    return sorted(points, key=lambda row: row["size"][axis])


def measure(only=None):
    """Gives {key: {"size", ...}} of each size, or of those whose keys are named."""
    for size in sizes():
        if only and key(size) not in only:
            continue
        print("scale, " + ", ".join(f"{n} {axis}" for axis, n in size.items()) + " ...", flush=True)
        row = {"size": size} | one(size)
        print(f"    start {row['start_ms']:.0f} ms, switch {row['switch_ms']:.0f} ms, all {row['total_kib'] / 1024:.0f} MiB", flush=True)
        yield {key(size): row}
