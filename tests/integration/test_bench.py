"""What the benchmarks compute: percentiles, ratios, splits, plots. And the one thing that they assert: memory does not grow."""
import json
import os
import socketserver
import subprocess
import sys
import threading
import xml.dom.minidom

import pytest

from support.nginx import FLAVOR, ROOT

sys.path.insert(0, str(ROOT / "bench"))
import cases  # noqa: E402
import growth  # noqa: E402
import instructions  # noqa: E402
import load  # noqa: E402
import memory  # noqa: E402
import page  # noqa: E402
import results  # noqa: E402
import rig  # noqa: E402
import run  # noqa: E402
import scale  # noqa: E402

ANNOTATED = """
2,000 (100.0%)  PROGRAM TOTALS

Ir
1,200 (60.00%)  src/proxywasm/pw_vm.c:call [/somewhere/ngx_http_sluice_module.so]
  600 (30.00%)  ???:0x000000000badcafe []
  200 (10.00%)  ???:0x0000000000000100 [/somewhere/cache/0123.cwasm]
"""
SMAPS = """7f0000000000-7f0000100000 r-xp 00000000 08:01 12 /prefix/state/cache/abc.cwasm
Rss:                1024 kB
Pss:                 256 kB
Private_Dirty:         0 kB
VmFlags: rd ex mr
7f0000200000-7f0000300000 rw-p 00000000 08:01 13 /prefix/state/images/abc.image
Rss:                 100 kB
Pss:                  60 kB
Private_Dirty:        48 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0 
Rss:                   8 kB
Pss:                   8 kB
Private_Dirty:         8 kB
"""


# ---- instructions ----


def test_instructions_are_counted_by_function_and_code_of_guests_has_no_file():
    counts = instructions.functions(ANNOTATED, 100)
    assert counts == {("ngx_http_sluice_module.so", "pw_vm.c:call"): 12, (instructions.GUEST, "0x000000000badcafe"): 6, (instructions.GUEST, "0x0000000000000100"): 2}


def test_an_inlined_function_of_ours_is_the_hosts_though_it_has_no_object():
    shares = [instructions.share_of(*f) for f in [(instructions.GUEST, "sl_buf.h:sl_buf_str"), (instructions.GUEST, "0x00badcafe"), ("libwasmtime.so", "f"), ("nginx", "f")]]
    assert shares == ["host", "guest", "engine", "nginx"]


@pytest.mark.parametrize("line", ["summary: 4200", "totals: 4200"])
def test_the_count_is_what_callgrind_sums_up(line):
    assert instructions.total(f"events: Ir\n{line}\nfn=(1) a\n") == 4200


def test_a_file_without_a_count_is_an_error():
    with pytest.raises(rig.BenchError):
        instructions.total("events: Ir\n")


# ---- times ----


def test_throughput_is_the_median_of_ratios_within_a_round():
    found = load.compare([50, 90, 400], [100, 100, 500])
    assert (found["ratio"], found["low"], found["high"], found["rps"]) == (0.8, 0.5, 0.9, 90)


def test_latency_is_the_median_of_rounds_and_counts_all_failures():
    rounds = [{"p50": a, "p99": 10 * a, "p999": 100 * a, "failed": 1} for a in (3, 1, 2)]
    assert load.middle(rounds) == {"p50": 2, "p99": 20, "p999": 200, "failed": 3}


class Slow(socketserver.StreamRequestHandler):
    """The tenth request is answered late; all others of its connection wait for it."""

    def handle(self):
        while self.rfile.readline():
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            self.server.served += 1
            if self.server.served == 10:
                self.server.late.wait(0.15)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.skipif(not load.OPEN_LOOP.exists(), reason="open_loop is not built")
def test_latency_counts_from_when_a_request_was_due_so_that_a_stall_shows_in_those_behind_it():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads, server.served, server.late = True, 0, threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run([load.OPEN_LOOP, str(server.server_address[1]), "200", "0.25", "1"], capture_output=True, text=True, check=True, timeout=60)
        server.shutdown()
    found = json.loads(done.stdout)
    assert (found["sent"], found["failed"]) == (50, 0)
    assert found["p50"] <= found["p99"] <= found["p999"]
    # 40 requests were due behind the tenth, the last of them long after it was answered; half of all have waited for it.
    assert found["p999"] >= 145_000 and found["p50"] >= 10_000


# ---- memory ----


def test_memory_is_summed_over_mappings():
    assert memory.parse(SMAPS) == {"rss_kib": 1132, "pss_kib": 324, "private_kib": 56}


def test_memory_is_told_apart_by_what_is_mapped():
    kinds = memory.kinds(SMAPS)
    assert kinds["compiled code of filters"] == {"rss_kib": 1024, "pss_kib": 256, "private_kib": 0}
    assert kinds["images of instances"] == {"rss_kib": 100, "pss_kib": 60, "private_kib": 48}
    assert kinds["all else: heap, stacks, shared zones"]["private_kib"] == 8


def test_a_process_holds_what_the_kernel_says():
    found = memory.held(os.getpid())
    assert found["rss_kib"] >= found["pss_kib"] > 0


def row(private, rss=9000):
    start = {"requests": 10000, "rss_kib": 9000, "pss_kib": 1, "private_kib": 500}
    return {"language": "C", "level": "request", "from": start, "to": {"requests": 100000, "rss_kib": rss, "pss_kib": 1, "private_kib": private}}


@pytest.mark.parametrize("grown", [row(500 + 2 * growth.ALLOWED_KIB["C"]), row(500, 9000 + 2 * growth.ALLOWED_KIB["C"])])
def test_memory_that_grew_is_a_complaint_with_the_bytes_of_a_request(grown):
    assert "C, request" in growth.complaint(grown) and "23.3 bytes each" in growth.complaint(grown)


def test_memory_that_has_settled_is_none():
    assert growth.complaint(row(600)) is None


@pytest.mark.skipif(FLAVOR != "debian", reason="sanitizers keep what was freed; measured once")
@pytest.mark.skipif(not load.OPEN_LOOP.exists(), reason="open_loop is not built")
@pytest.mark.parametrize(
    "language, requests, connections",
    # With isolation `request`, each connection may have an instance in the end: few of them have all of theirs soon.
    [("C", 6000, 3), *[pytest.param(language, 1_000_000, growth.CONNECTIONS, marks=pytest.mark.soak) for language in growth.FILTERS]],
)
def test_the_memory_of_a_worker_does_not_grow_with_requests(language, requests, connections):
    with rig.Rig() as r:
        rows = list(growth.measure(r, requests, (language,), connections=connections))
    assert len(rows) == len(growth.LEVELS)
    assert [c for c in map(growth.complaint, rows) if c] == []


# ---- scale ----


def test_the_sizes_are_each_measured_once_and_the_largest_is_what_was_asked_for():
    keys = [scale.key(size) for size in scale.sizes()]
    assert len(keys) == len(set(keys)) and keys[-1] == "100000/1000/200/16"


def test_a_curve_has_the_points_that_differ_in_its_axis_alone():
    rows = {scale.key(size): {"size": size} for size in reversed(scale.sizes())}
    for axis, values in scale.AXES.items():
        assert {p["size"][axis] for p in scale.curve(rows, axis)} >= set(values)
        assert [p["size"][axis] for p in scale.curve(rows, axis)] == sorted(p["size"][axis] for p in scale.curve(rows, axis))
    assert scale.FULL not in [p["size"] for p in scale.curve(rows, "routes")]


def test_a_variant_of_a_module_is_the_module_with_a_custom_section():
    module = b"\0asm\1\0\0\0"
    assert scale.variant(module, 7) == module + b"\0\5\3nth7" and scale.leb(300) == b"\xac\2"


def test_a_document_has_a_chain_on_a_route_each_and_its_filters_by_turns():
    routes = scale.document("http://127.0.0.1:1", {"routes": 5, "chains": 3, "filters": 2, "workers": 1}, "shared")["services"][0]["routes"]
    assert [r["filter_chains"][0]["filters"][0]["name"] for r in routes if "filter_chains" in r] == ["f0", "f1", "f0"]


# ---- the page ----


def found(**totals):
    return {"request": {name.replace("_", "-"): {"total": n, "shares": {"nginx": n}, "top": [["pw_vm.c:call (module)", 9.0]]} for name, n in totals.items()}}


def test_a_target_is_met_below_its_limit_over_plain_nginx_alone():
    rows = page.targets(found(plain=20000, lua=23000, filter_rust=23000, filter_c=21499, no_filters=20300))
    assert {case: (reached, limit, met) for _, case, reached, limit, _, met in rows} == {
        "filter-rust": (3000, 3000, False), "filter-c": (1499, 1500, True), "no-filters": (300, 400, True)}


def test_a_target_that_is_missed_is_shown_with_its_functions():
    text = page.missed_part(found(plain=20000, filter_c=23000))
    assert "`filter-c`" in text and "pw_vm.c:call" in text
    assert page.missed_part(found(plain=20000, filter_c=21000)) == ""


def test_a_part_measured_again_keeps_the_cases_that_were_not():
    before = {"request": {"plain": 1, "lua": 2}, "workers": [1]}
    after = results.merged(results.merged(before, "request", {"plain": 3}, "make bench"), "workers", [2], "make bench")
    assert after["request"] == {"plain": 3, "lua": 2} and after["workers"] == [2] and after["commands"]["request"] == "make bench"


def test_a_command_is_kept_without_paths():
    assert run.command(["--part", "scale", "--size", "10/200/10/2"]) == 'make bench BENCH_ARGS="--part scale --size 10/200/10/2"'
    assert "/" not in run.command(["--nginx", "/some/where/nginx"]) and run.command([]) == "make bench"


def test_plots_are_well_formed_and_their_curves_rise_with_the_values():
    xml.dom.minidom.parseString(page.bars("a < b", [("x & y", 3, "3"), ("less", -1, "-1")]))
    svg = xml.dom.minidom.parseString(page.curves("routes", [("ms <", [(10, 1), (1000, 5), (100000, 50)])]))
    points = [tuple(map(float, p.split(","))) for p in svg.getElementsByTagName("polyline")[0].getAttribute("points").split()]
    assert points == sorted(points) and [y for _, y in points] == sorted((y for _, y in points), reverse=True)


# ---- WasmX ----


def test_wasmx_is_found_in_its_checkout_and_compared_at_its_levels(tmp_path):
    binary = tmp_path / "work/buildroot/nginx"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    assert cases.wasmx_nginx(tmp_path) == cases.wasmx_nginx(binary) == str(binary)
    levels = cases.wasmx(str(binary))
    assert [c.name for c in levels] == ["wasmx-none", "wasmx-stream", "wasmx-filter"] and {c.nginx for c in levels} == {str(binary)}


def test_a_checkout_without_a_binary_is_said(tmp_path):
    with pytest.raises(SystemExit, match="work/buildroot/nginx"):
        cases.wasmx_nginx(tmp_path)
