"""Backtraces in the log: names of functions as they were written, and file and line where there is debug information."""

import re
import shutil
import subprocess

import pytest

from support import http1
from support.nginx import filter_path

SOURCE = """
#include <stdint.h>
#define EXPORT(name) extern "C" __attribute__((export_name(#name))) __attribute__((used))
namespace shop {
struct Cart {
    template <class T> __attribute__((noinline)) T total(T x) {
        if (x != 0) __builtin_trap();
        return x;
    }
};
__attribute__((noinline)) int checkout(Cart &cart, int x) { return cart.total<int>(x) + 1; }
}
EXPORT(proxy_abi_version_0_2_1) void version() {}
EXPORT(proxy_on_memory_allocate) void *allocate(uint32_t) { return (void *)1024; }
EXPORT(proxy_on_request_headers) uint32_t headers(uint32_t id, uint32_t, uint32_t) { shop::Cart c; return shop::checkout(c, (int)id); }
"""
COMPILER = shutil.which("clang++-19") or shutil.which("clang++")


def build(folder, *flags):
    (folder / "crash.cpp").write_text(SOURCE)
    subprocess.run(
        [COMPILER, "--target=wasm32", "-O1", "-nostdlib", "-Wl,--no-entry", *flags, "-o", "crash.wasm", "crash.cpp"], cwd=folder, check=True
    )
    return folder / "crash.wasm"


def backtrace(nginx, module, extra=""):
    nginx.workers = 1
    servers = "server { listen 127.0.0.1:@PORT@; location / { proxy_wasm crash; return 200; } }"
    nginx.start(servers, wasm=f"module crash {module}; {extra}")
    assert http1.get(nginx.port()).status == 500
    nginx.wait_log("unreachable code was reached")
    nginx.wait_log("at headers (")
    return nginx.log()


@pytest.mark.skipif(COMPILER is None, reason="no compiler for C++")
def test_names_are_demangled_and_positions_are_there_by_default(nginx, tmp_path):
    log = backtrace(nginx, build(tmp_path, "-g"))
    inner, outer = log.index("at int shop::Cart::total<int>(int) ("), log.index("at shop::checkout(shop::Cart&, int) (")
    assert inner < outer
    assert "crash.cpp:7:" in log[inner:outer] and "crash.cpp:11:" in log[outer:]


@pytest.mark.skipif(COMPILER is None, reason="no compiler for C++")
def test_without_debug_information_there_are_names(nginx, tmp_path):
    log = backtrace(nginx, build(tmp_path))
    assert "at shop::checkout(shop::Cart&, int) (" in log and "crash.cpp" not in log


@pytest.mark.skipif(COMPILER is None, reason="no compiler for C++")
def test_positions_can_be_left_out(nginx, tmp_path):
    log = backtrace(nginx, build(tmp_path, "-g"), "backtraces off;")
    assert "at shop::checkout(shop::Cart&, int) (" in log and "crash.cpp:" not in log


# ---- languages ----

LOCATION = "server { listen 127.0.0.1:@PORT@; location / { proxy_wasm guest; return 200; } }"
CALLBACK = "trap in proxy_on_request_headers"


def trapped(nginx, name, order):
    """What the log has of a filter that fails as it is told: all of it, and the lines of the backtrace."""
    if not filter_path(name).exists():
        pytest.skip(f"not built, this machine has no toolchain for it: {name}")
    nginx.workers = 1
    nginx.start(LOCATION, wasm=f"module guest {filter_path(name)};")
    assert http1.get(nginx.port(), headers=[("x-do", order)]).status == 500
    nginx.wait_log("proxy_on_request_headers (")  # the last frame, the guest's export
    log = nginx.log()
    return log, re.findall(r"  at (.*?), client: ", log[log.index(CALLBACK) :])


# The function that fails, the line of lib.rs, and what the panic says of itself.
RUST = {
    "index": ("<traced::Shop>::price", 16, "index out of bounds: the len is 2 but the index is 5"),
    "expect": ("<traced::Shop>::discount", 21, "a discount"),
    "abort": ("traced::parse::<u32>", 29, ""),
}


@pytest.mark.parametrize("order", RUST)
def test_rust_has_names_as_they_are_written_and_lines(nginx, order):
    function, line, said = RUST[order]
    log, frames = trapped(nginx, "sdk_rust_traced", order)
    assert said in log
    assert not [frame for frame in frames if frame.startswith(("_R", "_Z")) or re.search(r"h?[0-9a-f]{16}", frame)]
    own = [re.sub(r" \(inlined: .*", "", frame) for frame in frames if "lib.rs:" in frame]
    assert re.fullmatch(re.escape(function) + rf" \(.*\) \S*/rust/traced/lib.rs:{line}:\d+", own[0])
    assert own[1].startswith("<traced::Shop as proxy_wasm::traits::HttpContext>::on_http_request_headers (")
    assert re.search(r"/rust/traced/lib.rs:4[123]:\d+$", own[1])


def test_rust_without_debug_information_has_names(nginx):
    nginx.allowed = ["panicked at"]
    log, frames = trapped(nginx, "sdk_rust_current", "panic")
    assert "as asked" in log and not [frame for frame in frames if frame.startswith("_R")]
    assert [frame for frame in frames if frame.startswith("core::panicking::panic_fmt (")]
    assert [frame for frame in frames if "HttpContext>::on_http_request_headers (" in frame or "Dispatcher" in frame]


def test_go_has_names_of_functions(nginx):
    log, frames = trapped(nginx, "sdk_go_matrix", "panic")
    assert "as asked" in log
    assert [frame.split(" ")[0] for frame in frames][:2] == ["runtime.abort", "runtime.fatalpanic"]
    assert [frame for frame in frames if frame.startswith("main.") and "OnHttpRequestHeaders (" in frame]


def test_assemblyscript_has_names_of_functions(nginx):
    nginx.allowed = ["as asked at: assembly/index.ts"]
    _, frames = trapped(nginx, "sdk_as", "panic")
    assert [frame for frame in frames if frame.startswith("assembly/index/Stream#")]
