"""What filters do with the gateway's own properties: where a request goes, and what it is told about node and request."""

import json

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import Gateway, Origin, chain, document, echoed, folder, free_port, install, origin, origin_server, wait_for  # noqa: F401


@pytest.fixture(scope="module")
def gateway(origin_server):
    with folder() as path:
        install(path / "filters", "probe", "trap_all")
        log = {"nginx_http_log_format": "ids '$status $kong_request_id'", "proxy_access_log": "logs/ids.log ids"}
        with Gateway(path, document(), **log).start() as gateway:
            yield gateway


@pytest.fixture(scope="module")
def second():
    server = Origin()
    yield server
    server.stop()


def lines(*words):
    return {"name": "probe", "config": "\n".join(("quiet", *words))}


def upstream(name, server):
    return {"name": name, "targets": [{"target": f"127.0.0.1:{server.port}"}]}


def one(host, *filters, upstreams=(), port=80, **more):
    route = {"name": "r", "paths": ["/"], "filter_chains": [chain(*filters)]}
    return document({"name": "s", "host": host, "port": port, "routes": [route], **more}, upstreams=list(upstreams))


def test_a_target_that_a_filter_names_is_taken_whatever_the_services_upstream_has(gateway, origin, second):
    gateway.configure(one("up.test", lines(f"request_headers: set_prop kong.service.target 127.0.0.1:{second.port}", "request_headers: status x-status"), upstreams=[upstream("up.test", origin)]))
    response = gateway.get("/")
    assert response.get("x-status") == "0"
    assert echoed(response)["headers"]["host"] == f"127.0.0.1:{second.port}"


def test_an_upstream_that_a_filter_names_gets_the_request(gateway, origin, second):
    filters = lines("request_headers: set_prop kong.service.upstream second.test", "request_headers: status x-status")
    gateway.configure(one("127.0.0.1", filters, port=origin.port, upstreams=[upstream("first.test", origin), upstream("second.test", second)]))
    for _ in range(3):
        response = gateway.get("/")
        assert response.get("x-status") == "0"
        assert echoed(response)["headers"]["host"] == f"127.0.0.1:{second.port}"


@pytest.mark.parametrize("name", ["nobody.test", "\\e"])
def test_an_upstream_that_does_not_exist_is_refused_and_changes_nothing(gateway, origin, name):
    gateway.configure(one("127.0.0.1", lines(f"request_headers: set_prop kong.service.upstream {name}", "request_headers: status x-status"), port=origin.port))
    response = gateway.get("/")
    assert response.get("x-status") == "2"
    assert echoed(response)["headers"]["host"] == f"127.0.0.1:{origin.port}"


def test_the_last_choice_counts_and_outlives_a_changed_path(gateway, origin, second):
    words = ("set_prop kong.service.upstream first.test", f"set_prop kong.service.target 127.0.0.1:{second.port}", "set :path /elsewhere")
    gateway.configure(one("127.0.0.1", lines(*(f"request_headers: {w}" for w in words)), port=free_port(), upstreams=[upstream("first.test", origin)]))
    answer = echoed(gateway.get("/x"))
    assert answer["headers"]["host"] == f"127.0.0.1:{second.port}" and answer["path"] == "/elsewhere"


def test_an_upstream_goes_on_while_the_configuration_changes(gateway, origin, second):
    filters = lines("request_headers: set_prop kong.service.upstream second.test")
    for retries in (1, 2, 3):
        gateway.configure(one("127.0.0.1", filters, port=origin.port, retries=retries, upstreams=[upstream("second.test", second)]))
        assert echoed(gateway.get("/"))["headers"]["host"] == f"127.0.0.1:{second.port}"


def test_the_nodes_memory_is_told_as_in_status(gateway, origin):
    gateway.configure(one("127.0.0.1", lines("request_headers: prop kong.node.memory_stats x-memory"), port=origin.port))
    memory = json.loads(gateway.get("/").get("x-memory"))
    assert [row["pid"] for row in memory["workers_lua_vms"]] == gateway.workers()
    assert memory["lua_shared_dicts"] == {}


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_a_trap_is_answered_with_the_gateways_headers_in_each_phase(gateway, origin, phase):
    gateway.configure(one("127.0.0.1", {"name": "trap_all", "config": f"{phase} x-trap"}, port=origin.port))
    response = gateway.get("/", [("x-trap", "1"), ("Accept", "application/json")])
    assert response.status == 500
    assert response.all("x-kong-request-id") == [json.loads(response.body)["request_id"]]
    assert len(response.all("server")) == 1 and response.get("server").startswith("sluice/")


def test_log_formats_know_the_requests_id_by_kongs_name(gateway, origin):
    gateway.configure(one("127.0.0.1", lines("request_headers: get host"), port=origin.port))
    line = f"200 {gateway.get('/').get('x-kong-request-id')}\n"
    wait_for(lambda: line in (gateway.prefix / "logs/ids.log").read_text(), line)
