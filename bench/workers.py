"""What a worker holds and how long nginx takes to start, with more and more filters."""
import dataclasses
import pathlib
import time

import rig
from cases import Case, GREETING


def with_filters(filter_name, n, own_vms):
    """n routes with a filter each; they share an instance unless each has a vm_id of its own."""
    locations = []
    for i in range(n):
        vm = f" vm_id={i}" if own_vms else ""
        locations.append(f"location /r{i} {{ proxy_wasm {filter_name} '{GREETING}'{vm}; return 204; }}")
    case = Case(f"{filter_name}-{n}", "", modules=("sluice",), filters=(filter_name,))
    return dataclasses.replace(case, location="} " + "\n".join(locations) + " location /last {")


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def pss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise rig.BenchError("the kernel shows no Pss")


def one(r, case):
    began = time.monotonic()
    with r.gateway(case, master=True) as (process, sock):
        with rig.connect(sock, process, 10) as s:
            rig.check(case, rig.Client(s).get())
            took = time.monotonic() - began
            return {"pss_kib": pss_kib(children(process.pid)[0]), "start_ms": took * 1000}


def measure(r, filters=("my-c-filter", "my-rust-filter", "my-go-filter"), counts=(1, 10, 100)):
    """{"filter, shared instance": {n: {"pss_kib", "start_ms"}}}; 0 is nginx with the module and no filter."""
    out = {"plain nginx": {"0": one(r, Case("plain", ""))}}
    for name in filters:
        if r.why_not(with_filters(name, 1, False)):
            continue
        one(r, with_filters(name, 1, False))  # the compiled module is in the cache from here on
        for own_vms in (False, True):
            title = f"{name}, {'an instance each' if own_vms else 'one instance'}"
            print(f"memory and start, {title} ...", flush=True)
            out[title] = {str(n): one(r, with_filters(name, n, own_vms)) for n in counts}
    return out
