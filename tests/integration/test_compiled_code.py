"""Compiled code of a gateway's filters: compiled once, by whoever is first; loaded from the cache by all others; never more than the cache may hold."""

import ctypes
import os
import re
import resource
import signal
import struct
import time

from gateway_helpers import *  # noqa: F403
from gateway_helpers import FILTERS, Gateway, home, one_service, origin, origin_server, wait_for  # noqa: F401

WORKERS = 4


def leb(n):
    out = b""
    while True:
        n, low = n >> 7, n & 0x7F
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


def variant(module, n):
    """The same filter with other bytes: a custom section more."""
    content = leb(3) + b"nth" + str(n).encode()
    return module + b"\0" + leb(len(content)) + content


def install_many(path, n, name="my-c-filter"):
    """n modules that differ, of one filter."""
    module = (FILTERS / f"{name}.wasm").read_bytes()
    path.mkdir(mode=0o755, exist_ok=True)
    for i in range(n):
        (path / f"f{i}.wasm").write_bytes(variant(module, i))
        (path / f"f{i}.wasm").chmod(0o644)
    return [f"f{i}" for i in range(n)]


def code(gateway):
    """inode by name: a file that is compiled again is another one"""
    return {f.name: f.stat().st_ino for f in (gateway.prefix / "state/cache").glob("*.cwasm")}


class Stored:
    """Counts, by name, the files that are moved into a folder."""

    MOVED_TO = 0x80

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.libc.inotify_add_watch(self.fd, os.fsencode(folder), self.MOVED_TO) >= 0

    def names(self):
        found = []
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return found
            while data:
                _, _, _, size = struct.unpack_from("iIII", data)
                found.append(data[16 : 16 + size].rstrip(b"\0").decode())
                data = data[16 + size :]

    def close(self):
        os.close(self.fd)


def restart_workers(gateway):
    before = gateway.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(gateway.workers()) == len(before) and not set(gateway.workers()) & set(before), "new workers")
    for pid in gateway.workers():
        gateway.wait_log(f"{pid}#{pid}: [sluice] generation")


def test_workers_that_find_no_compiled_code_compile_each_module_once(home, origin):
    names = install_many(home / "filters", 6, "my-rust-filter" if (FILTERS / "my-rust-filter.wasm").exists() else "my-c-filter")
    with Gateway(home, one_service(origin.url, *[{"name": n} for n in names]), workers=WORKERS).start() as gateway:
        wait_for(lambda: len(gateway.workers()) == WORKERS, "all workers")
        gateway.allowed = ["exited on signal 9"]
        cache = gateway.prefix / "state/cache"
        assert len(code(gateway)) == len(names)
        for f in cache.glob("*"):
            f.unlink()
        stored = Stored(cache)
        restart_workers(gateway)
        found = stored.names()
        stored.close()
        assert gateway.get("/x").status == 200
        assert sorted(found) == sorted(code(gateway)) and len(found) == len(names)
        assert not [f for f in os.listdir(cache) if f.endswith(".lock") and f != "prune.lock"]


def test_fifty_cached_filters_start_within_a_second(home, origin):
    names = install_many(home / "filters", 50)
    gateway = Gateway(home, one_service(origin.url, *[{"name": n} for n in names]), workers=1).start()
    gateway.stop()
    compiled = code(gateway)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with gateway.start():
        took = time.monotonic() - begin
        assert gateway.get("/x").status == 200
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"50 cached filters: serving {took:.2f} s after `sluice start`, {cpu:.2f} s of CPU for all of the gateway's life")
    assert code(gateway) == compiled and len(compiled) == 50  # nothing was compiled again
    assert cpu < 2  # 0.1 s here; sanitizers take more


def test_a_cache_over_its_ceiling_loses_what_is_not_in_service(home, origin):
    names = install_many(home / "filters", 4)
    with Gateway(home, one_service(origin.url, *[{"name": n} for n in names]), wasm_cache_size="1k").start() as gateway:
        cache = gateway.prefix / "state/cache"
        first = code(gateway)
        long_ago = time.time() - 100000
        for name in first:
            os.utime(cache / name, (long_ago, long_ago))
        gateway.write(one_service(origin.url, {"name": names[0]}))
        assert gateway.run("reload").returncode == 0
        gateway.wait_log("are in use, more than its ceiling")
        wait_for(lambda: len(code(gateway)) <= 4, "files in service only")
        assert gateway.get("/x").status == 200
    # nobody has any of them in service now
    for name in code(gateway):
        os.utime(cache / name, (long_ago, long_ago))
    (home / "filters/f9.wasm").write_bytes(variant((FILTERS / "my-c-filter.wasm").read_bytes(), 9))
    gateway.write(one_service(origin.url, {"name": "f9"}))
    with gateway.start():
        gateway.wait_log("removed")
        wait_for(lambda: len(code(gateway)) == 1, lambda: f"the file of f9 alone: {code(gateway)}")
        assert re.search(r"\d+ files with \d+ bytes removed, 1 with \d+ kept", gateway.log())
        assert gateway.get("/x").status == 200


def test_without_room_for_compiled_code_filters_run_and_the_log_says_so(home, origin):
    names = install_many(home / "filters", 2)
    with Gateway(home, one_service(origin.url, *[{"name": n} for n in names]), workers=2).start() as gateway:
        gateway.allowed = ["exited on signal 9", "cache of compiled code"]
        cache = gateway.prefix / "state/cache"
        for f in cache.glob("*"):
            f.unlink()
        cache.rmdir()
        cache.write_text("in the way")
        restart_workers(gateway)
        gateway.wait_log("cache of compiled code", times=2)
        wait_for(lambda: gateway.get("/x").status == 200, "answers")
        cache.unlink()
