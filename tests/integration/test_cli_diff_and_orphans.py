"""sluice config diff and db_import; what a killed master leaves behind, and who holds a port."""

import json
import os
import signal
import socket

import pytest
import yaml
from gateway_helpers import Gateway, chain, document, folder, install, one_service, origin, origin_server, sluice, wait_for  # noqa: F401
from support import http1


def put(gateway, path, body):
    answer = http1.request(gateway.admin, "PUT", path, [("Content-Type", "application/json")], json.dumps(body).encode())
    assert answer.status == 200, answer.text


def diff(gateway, doc):
    gateway.write(doc)
    done = gateway.run("config", "diff", gateway.file)
    return done.returncode, done.stdout.splitlines(), done.stderr


SERVICE = {"name": "s", "url": "http://a.test", "routes": [{"name": "r", "paths": ["/x"]}], "filter_chains": [chain(("probe", "request_headers: get x"))]}


def test_the_difference_to_the_store_is_told_whether_it_runs_or_not():
    with folder() as path:
        install(path / "filters", "probe")
        with Gateway(path, declarative_config=None, database=None).start() as gateway:
            put(gateway, "/services/s", {"url": "http://a.test"})
            put(gateway, "/services/s/routes/r", {"paths": ["/x"]})
            put(gateway, "/consumers/c", {"custom_id": "1"})
            chained = {"filters": [{"name": "probe", "config": "request_headers: get x"}], "service": {"name": "s"}}
            answer = http1.request(gateway.admin, "POST", "/filter-chains", [("Content-Type", "application/json")], json.dumps(chained).encode())
            assert answer.status == 201, answer.text
            # ids of the store are made up, those of the document come from names
            assert diff(gateway, document(SERVICE, consumers=[{"username": "c", "custom_id": "1"}])) == (0, ["0 added, 0 changed, 0 removed"], "")
            other = {**SERVICE, "retries": 2, "routes": [{"name": "r", "paths": ["/x", "/y"]}, {"name": "new", "paths": ["/n"]}]}
            expected = (
                1,
                ["~ service s", "    retries: 5 -> 2", "+ route new", "~ route r", '    paths: ["/x"] -> ["/x","/y"]', "- consumer c", "1 added, 2 changed, 1 removed"],
                "",
            )
            code, lines, stderr = diff(gateway, document(other))
            assert (code, sorted(lines), stderr) == (expected[0], sorted(expected[1]), expected[2])
            moved = document(SERVICE, {"name": "t", "url": "http://b.test"}, routes=[])
            moved["services"][0] = {**SERVICE, "routes": []}
            moved["routes"] = [{"name": "r", "paths": ["/x"], "service": "t"}]
            assert any(line.startswith("    service: ") for line in diff(gateway, moved)[1])
        assert diff(gateway, document(other))[0] == 1
        code, _, stderr = diff(gateway, {"_format_version": "3.0", "services": [{}]})
        assert code == 2 and "required field missing" in stderr
        assert gateway.run("config", "diff", path / "none.yml").returncode == 2
        assert gateway.run("config", "diff").returncode == 2


def test_the_difference_to_a_node_without_a_store_is_told(origin_server):
    with folder() as path:
        config = one_service(origin_server.url)
        with Gateway(path, config).start() as gateway:
            assert diff(gateway, config)[0] == 0
            code, lines, _ = diff(gateway, one_service(origin_server.url, strip_path=False))
            assert code == 1 and lines == ["~ route r", "    strip_path: true -> false", "0 added, 1 changed, 0 removed"]


def test_secrets_are_not_printed():
    with folder() as path:
        import subprocess

        def pair(name):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", path / "k", "-out", path / "c"], check=True, capture_output=True)
            return {"id": "11111111-1111-4111-8111-111111111111", "cert": (path / "c").read_text(), "key": (path / "k").read_text()}

        with Gateway(path, declarative_config=None, database=None).start() as gateway:
            put(gateway, "/certificates/11111111-1111-4111-8111-111111111111", pair("a"))
            code, lines, _ = diff(gateway, {"_format_version": "3.0", "certificates": [pair("b")]})
            assert code == 1 and "    key: ****** -> ******" in lines and "PRIVATE KEY" not in "\n".join(lines)


def test_an_import_that_takes_long_says_how_far_it_is():
    consumers = [{"username": f"c{i}"} for i in range(60000)]
    with folder() as path:
        gateway = Gateway(path, declarative_config=None, database=None)
        gateway.write(json.dumps({"_format_version": "3.0", "consumers": consumers}))
        done = gateway.run("config", "db_import", gateway.file)
        assert done.returncode == 0 and done.stdout.splitlines() == ["parse successful, beginning import", "import successful"], done
        for line in done.stderr.splitlines():
            assert line.endswith(" of 60000 entities") and line.split()[0].isdigit(), line


# ---- orphans ----------------------------------------------------------------------------------------------------------------


def kill_master(gateway):
    pid, workers = gateway.pid(), gateway.workers()
    assert pid and workers
    os.kill(pid, signal.SIGKILL)
    gateway.process.wait(20)
    gateway.process = None
    return workers


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("command", ["stop", "quit"])
def test_workers_of_a_killed_master_are_named_and_ended(origin_server, command):
    with folder() as path:
        gateway = Gateway(path, one_service(origin_server.url), workers=2).start()
        wait_for(lambda: len(gateway.workers()) == 2, "both workers")
        workers = kill_master(gateway)
        try:
            assert gateway.get("/").status == 200  # they go on
            done = gateway.run("start")
            assert done.returncode == 1, done
            assert all(f"process {pid} (nginx)" in done.stderr for pid in workers), done.stderr
            assert f"sluice stop -p {gateway.prefix}" in done.stderr and "killed" in done.stderr
            done = gateway.run(command)
            assert done.returncode == 0 and "2 of its workers" in done.stdout, done
            assert not any(map(is_alive, workers))
        finally:
            for pid in workers:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
        with gateway.start():
            assert gateway.get("/").status == 200


def test_another_process_on_the_port_is_named(origin_server):
    with folder() as path, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = Gateway(path, one_service(origin_server.url), proxy_listen=f"127.0.0.1:{port}").run("start")
        assert done.returncode == 1 and f"process {os.getpid()} (" in done.stderr and "SLUICE_PROXY_LISTEN" in done.stderr, done.stderr
        assert "sluice stop" not in done.stderr


def test_stop_without_anything_to_stop_says_so():
    with folder() as path:
        gateway = Gateway(path, document())
        (path / "prefix").mkdir()
        done = gateway.run("stop")
        assert done.returncode == 1 and "is not running" in done.stderr
        assert yaml.safe_load(gateway.file.read_text())["_format_version"] == "3.0"
        assert sluice("stop", "-p", path / "none").returncode == 1
