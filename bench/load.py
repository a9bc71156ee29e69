"""Times under load: requests per second as a ratio to plain nginx, and latency at a fixed rate. Rounds take turns, so that what else the
machine does meets all cases alike."""
import json
import re
import shutil
import statistics
import subprocess

import rig

OPEN_LOOP = rig.BUILD / "bench" / "open_loop"


def wrk(r, seconds):
    command = ["wrk", "-t1", "-c16", f"-d{seconds}", f"http://127.0.0.1:{r.port}/echo"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise rig.BenchError("wrk saw answers that are not 2xx")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def one(r, case, seconds):
    with r.gateway(case):
        wrk(r, 1)
        return wrk(r, seconds)


def compare(values, plain):
    """Each round is a ratio to plain nginx of the same round."""
    ratios = sorted(v / p for v, p in zip(values, plain, strict=True))
    return {"rps": statistics.median(values), "ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}


def throughput(r, cases, rounds=5, seconds=2):
    """{name: {"ratio": median, "low": .., "high": ..}} to plain of the same round; plain has requests per second."""
    if shutil.which("wrk") is None:
        raise rig.BenchError("wrk is missing")
    rates = {c.name: [] for c in cases}
    for number in range(rounds):
        print(f"requests per second, round {number + 1} of {rounds} ...", flush=True)
        for case in cases:
            rates[case.name].append(one(r, case, seconds))
    return {name: compare(values, rates["plain"]) for name, values in rates.items()}


def one_latency(r, case, rate, seconds, connections):
    with r.gateway(case):
        command = [str(OPEN_LOOP), str(r.port), str(rate), str(seconds), str(connections)]
        subprocess.run([*command[:3], "1", command[4]], capture_output=True, check=True)
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def middle(rounds):
    """Of several rounds: the median of each percentile, and all that failed."""
    out = {name: statistics.median(r[name] for r in rounds) for name in ("p50", "p99", "p999")}
    return out | {"failed": sum(r["failed"] for r in rounds)}


def latency(r, cases, rate=2000, rounds=3, seconds=3, connections=32):
    """{name: {"p50": us, "p99": us, "p999": us, "failed": n, "rate": a second}}"""
    found = {c.name: [] for c in cases}
    for number in range(rounds):
        print(f"latency at {rate} requests a second, round {number + 1} of {rounds} ...", flush=True)
        for case in cases:
            found[case.name].append(one_latency(r, case, rate, seconds, connections))
    return {name: middle(values) | {"rate": rate} for name, values in found.items()}
