"""Backtraces in the log: names of functions as they were written, and file and line where there is debug information."""

import shutil
import subprocess

import pytest

from support import http1

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
