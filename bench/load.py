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


def throughput(r, cases, rounds=5, seconds=2):
    """{name: {"ratio": median, "low": .., "high": ..}} to plain of the same round; plain has requests per second."""
    if shutil.which("wrk") is None:
        raise rig.BenchError("wrk is missing")
    rates = {c.name: [] for c in cases}
    for number in range(rounds):
        print(f"requests per second, round {number + 1} of {rounds} ...", flush=True)
        for case in cases:
            rates[case.name].append(one(r, case, seconds))
    out = {}
    for name, values in rates.items():
        ratios = sorted(v / p for v, p in zip(values, rates["plain"]))
        out[name] = {"rps": statistics.median(values), "ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}
    return out


def latency(r, cases, rate=2000, seconds=5, connections=32):
    """{name: {"p50": us, "p99": us, "p999": us, "failed": n}}"""
    out = {}
    for case in cases:
        print(f"latency at {rate} requests a second, {case.name} ...", flush=True)
        with r.gateway(case):
            command = [str(OPEN_LOOP), str(r.port), str(rate), str(seconds), str(connections)]
            subprocess.run([*command[:3], "1", command[4]], capture_output=True, check=True)
            out[case.name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return out
