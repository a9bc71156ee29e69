"""Calls of filters in the gateway: upstreams with targets and services by their names, hosts of the hosts file, and the settings of shared memory."""

import collections
import json

import pytest
from gateway_helpers import Gateway, document, folder, home, install, one_service, origin, origin_server, wait_for  # noqa: F401
from support import probe
from support.rawserver import RawServer

READ = ("call_response: get@call :status x-call", "call_response: body@call x-body", "call_response: resume", probe.EXEC)


def filter_of(*lines):
    return {"name": "probe", "config": "\n".join((*lines, *READ))}


def upstream(name, *targets):
    return {"name": name, "targets": [{"target": target, "weight": weight} for target, weight in targets]}


@pytest.fixture
def start():
    """A gateway with these upstreams and services, whose route runs the probe."""
    with folder() as path:
        install(path / "filters", "probe")
        started = []

        def go(*lines, upstreams=(), services=(), family="SLUICE", url="http://127.0.0.1:1", **settings):
            doc = one_service(url, filter_of(*lines))
            doc["services"] += services
            doc["upstreams"] = list(upstreams)
            started.append(Gateway(path, doc, family=family, **settings).start())
            return started[0]

        yield go
        for gateway in started:
            gateway.stop()


def call_body(gateway, name, *words):
    lines = (f"request_headers: http_call {name} a.test /x 5000 {' '.join(words)}", "request_headers: pause", "call_response: body@call", "call_response: reply 200 $value")
    return gateway.get("/", probe.do(*lines)).text.strip()


def server_of(text):
    def serve(connection):
        while connection.request() is not None:
            connection.answer(text)

    return RawServer(serve)


def test_the_targets_of_an_upstream_share_the_calls_by_their_weights(start):
    with server_of(b"one") as one, server_of(b"two") as two, server_of(b"none") as none:
        targets = [(f"127.0.0.1:{one.port}", 300), (f"127.0.0.1:{two.port}", 100), (f"127.0.0.1:{none.port}", 0)]
        gateway = start(upstreams=[upstream("backend", *targets)])
        answers = collections.Counter(call_body(gateway, "backend") for _ in range(400))
        assert answers == {"one": 300, "two": 100}


def test_the_next_target_is_tried(start):
    with server_of(b"alive") as server:
        gateway = start(upstreams=[upstream("backend", ("127.0.0.1:1", 100), (f"127.0.0.1:{server.port}", 1))])
        assert [call_body(gateway, "backend") for _ in range(4)] == ["alive"] * 4


def test_an_upstream_without_targets_is_a_503(start):
    gateway = start(upstreams=[upstream("backend")])
    assert "connection failure" in call_body(gateway, "backend")


def test_targets_may_be_hosts_of_the_hosts_file(start, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 named.here\n::1 six.here\n")
    hosts.chmod(0o644)
    tmp_path.chmod(0o755)
    with server_of(b"named") as server:
        gateway = start(upstreams=[upstream("backend", (f"named.here:{server.port}", 100))], dns_hostsfile=hosts)
        assert call_body(gateway, "backend") == "named"
        assert call_body(gateway, f"named.here:{server.port}") == "named"


def test_a_service_is_called_by_its_name(start):
    with server_of(b"service") as server:
        gateway = start(services=[{"name": "other", "url": f"http://127.0.0.1:{server.port}/ignored"}])
        assert call_body(gateway, "other") == "service"


def test_a_filter_calls_an_upstream_of_its_own_configuration_when_it_starts(start):
    with server_of(b"early") as server:
        gateway = start("configure: http_call backend a.test /x 5000", "call_response: log got-$size", upstreams=[upstream("backend", (f"127.0.0.1:{server.port}", 1))])
        gateway.wait_log("got-5")


def test_a_new_configuration_moves_an_upstream(start):
    with server_of(b"before") as before, server_of(b"after") as after:
        gateway = start(upstreams=[upstream("backend", (f"127.0.0.1:{before.port}", 1))])
        assert call_body(gateway, "backend") == "before"
        doc = one_service("http://127.0.0.1:1", filter_of())
        doc["upstreams"] = [upstream("backend", (f"127.0.0.1:{after.port}", 1))]
        gateway.configure(doc)
        wait_for(lambda: call_body(gateway, "backend") == "after", "calls go to the new target")


# ---- settings ----


def run(gateway, *lines):
    """The status of each host call; the first of the run was that of exec, which reads the header."""
    response = gateway.get("/", probe.do(*(f"request_headers: {line}" for line in lines), "request_headers: reply 200 $statuses"))
    return response.text.strip().split(",", 1)[1]


def test_the_size_of_shared_data_and_its_eviction_can_be_set(start):
    gateway = start(wasm_shm_kv_size="12k", wasm_shm_kv_eviction="none")
    statuses = [run(gateway, f"shared_set k{i} {'v' * 1000}") for i in range(12)]
    stored = statuses.count("0")
    assert 3 <= stored < 12 and statuses[stored:] == ["10"] * (12 - stored)


def test_the_size_of_queues_and_metrics_can_be_set(start):
    gateway = start("configure: queue_register q", wasm_shm_queue_size="12k", wasm_shm_metrics_size="12k")
    statuses = [run(gateway, "queue_resolve \\e q", f"enqueue {'i' * 1000}") for _ in range(12)]
    assert statuses[0] == "0,0" and statuses[-1] == "0,10"
    statuses = [run(gateway, *(f"metric counter m{i}_{j}" for j in range(5))) for i in range(40)]
    assert statuses[0] == "0,0,0,0,0" and statuses[-1] == "10,10,10,10,10"


@pytest.mark.parametrize("family", ["SLUICE", "KONG"])
def test_zones_have_kongs_settings(start, family):
    gateway = start(family=family, nginx_wasm_shm_kv_mine="12k", nginx_wasm_shm_kv="1m", nginx_wasm_wasmtime_wasm_simd="on")
    statuses = [run(gateway, f"shared_set mine/k{i} {'v' * 1000}") for i in range(12)]
    assert statuses == ["0"] * 12
    assert run(gateway, "shared_get mine/k0") == "1"
    assert run(gateway, "shared_set other v", "shared_get other") == "0,0"


def test_zones_are_what_operators_see(start):
    gateway = start(wasm_shm_kv_size="64k")
    run(gateway, "shared_set a b")
    text = gateway.get_admin("/metrics").text
    assert 'sluice_shared_entries{kind="kv",zone="*"} 1' in text
    assert int(next(line for line in text.splitlines() if line.startswith('sluice_shared_bytes{kind="kv"')).split()[-1]) <= 65536
    assert [entry["key"] for entry in json.loads(gateway.get_admin("/shared-data").body)["data"]] == ["a"]
