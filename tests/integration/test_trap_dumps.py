"""Trap dumps: files that filters leave when they trap."""

import os
import pathlib
import pwd
import stat
import subprocess

import pytest

from gateway_helpers import Gateway, folder, home, install, one_service, origin, origin_server, sluice, wait_for  # noqa: F401
from support import http1
from support.nginx import filter_path

MODULES = f"module hostile {filter_path('hostile')};"
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    location / { proxy_wasm hostile; proxy_wasm_breaker_traps off; return 200 served; }
}
"""


def written(path):
    return sorted(p for p in pathlib.Path(path).iterdir() if p.name.startswith("trap-"))


def text_of(path):
    return path.read_bytes().split(b"\n\n", 1)[0].decode()


def memory_of(path):
    text = text_of(path)
    return path.read_bytes()[-int(text.rsplit("memory: ", 1)[1]) :]


@pytest.fixture
def dumps(nginx):
    path = pathlib.Path(nginx.folder) / "dumps"

    def start(options=""):
        nginx.workers, nginx.level = 1, "notice"
        nginx.start(SERVERS, wasm=MODULES + f"trap_dumps {path} {options};")
        return path

    return start


def trap(nginx, path="/", action="trap"):
    assert http1.get(nginx.port(), path, headers=[("x-do", action), ("x-secret", "hunter2")]).status == 500


def test_a_trap_leaves_a_file(nginx, dumps):
    path = dumps()
    assert written(path) == []
    trap(nginx, "/some/path?a=b")
    nginx.wait_log("trap dump written: ")
    (dump,) = written(path)
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600 and stat.S_IMODE(path.stat().st_mode) == 0o700
    text = text_of(dump)
    for part in ("filter: hostile", "callback: proxy_on_request_headers", "reason: unreachable code was reached", "  at proxy_on_request_headers",
                 "/some/path?a=b", "  proxy_get_header_map_value(0, ", "globals:\n  0 i32 "):
        assert part in text
    assert "request: GET" in text
    memory = memory_of(dump)
    assert len(memory) % 65536 == 0 and b"trap\0" in memory  # the header that it has read
    shown = subprocess.run(["sed", "/^$/q", str(dump)], capture_output=True, check=True).stdout.decode()
    assert shown.startswith("sluice trap dump 1\n") and shown.endswith("\n\n")


def test_the_command_line_shows_a_dump_and_takes_its_memory_out(nginx, dumps, tmp_path):
    path = dumps()
    trap(nginx)
    nginx.wait_log("trap dump written: ")
    (dump,) = written(path)
    out = tmp_path / "memory"
    shown = sluice("filters", "dump", dump, "--memory", out)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, text_of(dump) + "\n", "")
    assert out.read_bytes() == memory_of(dump) and stat.S_IMODE(out.stat().st_mode) == 0o600
    again = sluice("filters", "dump", dump, "--memory", out)  # it is there
    assert again.returncode == 1 and str(out) in again.stderr


def test_files_that_are_no_dumps_are_refused_and_cannot_move_the_cursor(tmp_path):
    head = b"sluice trap dump 1\n"
    for bad in (b"", b"\0" * 5000, head, head + b"memory: 1\n\n", head + b"memory: 4096\n\n" + b"\0" * 4000, head + b"memory: 99999999999999999999\n\n"):
        (tmp_path / "bad").write_bytes(bad)
        answer = sluice("filters", "dump", tmp_path / "bad")
        assert answer.returncode == 1 and answer.stdout == "" and "bad: it is " in answer.stderr
    assert "no such file" in sluice("filters", "dump", tmp_path / "none").stderr.lower()
    (tmp_path / "evil").write_bytes(head + b"filter: \x1b[2J\x9b\x07\0 \xc3\xa9\nmemory: 0\n\n")
    shown = sluice("filters", "dump", tmp_path / "evil")
    assert (shown.returncode, shown.stdout) == (0, "sluice trap dump 1\nfilter: ?[2J??? \u00e9\nmemory: 0\n")


def test_a_filter_leaves_no_more_than_one_a_second_and_old_ones_go(nginx, dumps):
    path = dumps("max=8m count=2")
    for _ in range(20):
        trap(nginx)
    nginx.wait_log("trap dump written: ")
    first = written(path)
    assert 1 <= len(first) <= 2

    def two_more():
        trap(nginx)
        return len(nginx.log_lines("trap dump written: ")) >= len(first) + 2

    wait_for(two_more, "two more dumps")
    assert len(written(path)) == 2 and first[0] not in written(path)


def test_without_the_directive_nothing_is_written(nginx):
    nginx.start(SERVERS, wasm=MODULES)
    trap(nginx)
    assert not nginx.log_lines("trap dump")


@pytest.mark.parametrize("wrong", ["max=1k", "max=x", "count=0", "count=-1", "other"])
def test_options_that_are_none_are_refused(nginx, wrong):
    nginx.write("", wasm=f"trap_dumps {nginx.folder}/dumps {wrong};")
    result = nginx.check()
    assert result.returncode == 1 and f'invalid option "{wrong}"' in result.stderr


def test_a_folder_that_cannot_be_is_refused(nginx):
    nginx.write("", wasm="trap_dumps /proc/no/such/folder;")
    result = nginx.check()
    assert result.returncode == 1 and "trap_dumps: " in result.stderr and "/proc/no" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_link_in_the_place_of_the_folder_is_not_followed(nginx, slash):
    """Who may write to the folder above it could have root give away any folder of the machine."""
    precious = nginx.folder / "precious"
    precious.mkdir()
    (nginx.folder / "dumps").symlink_to(precious)
    nginx.write(SERVERS, wasm=MODULES + f"trap_dumps {nginx.folder}/dumps{slash};", main="user nobody nogroup;")
    nginx.conf.write_text(nginx.conf.read_text().replace("user root;", ""))
    result = nginx.check()
    assert result.returncode == 1 and "must be a folder and no link" in result.stderr
    assert precious.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_the_folder_becomes_the_workers_and_is_in_their_reach(nginx):
    nginx.write(SERVERS, wasm=MODULES + f"trap_dumps {nginx.folder}/some/where/dumps;", main="user nobody nogroup;")
    nginx.conf.write_text(nginx.conf.read_text().replace("user root;", ""))
    result = nginx.check()
    assert result.returncode == 0, result.stderr
    path = nginx.folder / "some/where/dumps"
    assert path.stat().st_uid == pwd.getpwnam("nobody").pw_uid and stat.S_IMODE(path.stat().st_mode) == 0o700
    assert path.parent.stat().st_uid == 0 and stat.S_IMODE(path.parent.stat().st_mode) & 0o011 == 0o011
    os.chown(path, 1, -1)
    result = nginx.check()
    assert result.returncode == 1 and "belongs to user 1" in result.stderr


def test_the_gateway_has_it_as_a_setting(origin_server):
    with folder() as path:
        install(path / "filters", "hostile")
        doc = one_service(origin_server.url, {"name": "hostile", "config": "trap"})
        with Gateway(path, doc, wasm_trap_dumps=str(path / "dumps")).start() as gateway:
            assert gateway.get("/x").status == 500
            (dump,) = wait_for(lambda: written(path / "dumps") and "memory: " in text_of(written(path / "dumps")[0]) and written(path / "dumps"), "a dump")[:1]
            assert "request: GET" in text_of(dump) and " /x\n" in text_of(dump)
            if os.geteuid() == 0:
                assert dump.stat().st_uid == (path / "dumps").stat().st_uid
