"""
Documents and bodies as other people's tools send them, and as people who mean harm do: what a document may hold, settings under Kong's names,
options of filters, filters that do not come back, sizes and depths. What is refused is refused in bounded time, and the gateway serves on.
"""

import json
import socket
import threading
import time

import pytest
import yaml
from gateway_helpers import Gateway, document, folder, home, install, one_service, origin_server, wait_for  # noqa: F401
from support import http1
from test_admin_writes import Api, with_store

HEAD = '_format_version: "3.0"\n'


@pytest.fixture(scope="module")
def stateless(origin_server):
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe", "spin", "spin_start", "configfail")
        with Gateway(path, None, workers=1, declarative_config=None).start() as gateway:
            gateway.good = one_service(origin_server.url)
            yield gateway


@pytest.fixture(scope="module")
def stored(origin_server):
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe", "spin", "spin_start")
        with with_store(path, workers=1).start() as gateway:
            gateway.good = one_service(origin_server.url)
            yield gateway


def yaml_of(text):
    return HEAD + text


def refused(gateway, text, content_type="application/yaml", seconds=15):
    """The fields of a refusal, which did not take long; what was served before is served still."""
    gateway.configure(gateway.good)
    started = time.monotonic()
    answer = gateway.post_config(text, content_type)
    assert time.monotonic() - started < seconds
    assert answer.status == 400, answer.text[:500]
    assert gateway.get("/").status == 200
    body = json.loads(answer.body)
    return body.get("fields", body)


# ---- what a document may hold ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "2.1", "3.0"])
def test_every_version_of_the_format_is_taken(stateless, version):
    answer = stateless.post_config(f'_format_version: "{version}"\nservices: [{{name: s, host: h, routes: [{{name: r, paths: ["/a/(b|c)", "/p"]}}]}}]', "application/yaml")
    assert answer.status == 201, answer.text
    (route,) = json.loads(answer.body)["routes"].values()
    assert route["paths"] == ([("/a/(b|c)"), "/p"] if version == "3.0" else ["~/a/(b|c)", "/p"])


@pytest.mark.parametrize(
    "text, fields",
    [
        ("{}", {"_format_version": "required field missing"}),
        ("_format_version: 3.0", {"_format_version": "expected one of: 1.1, 2.1, 3.0"}),
        ('_format_version: "4.0"', {"_format_version": "expected one of: 1.1, 2.1, 3.0"}),
        (yaml_of("_info: {select_tags: [a]}"), {"_info": "unknown field"}),
        (yaml_of("_transform: maybe"), {"_transform": "expected a boolean"}),
        (yaml_of("filter-chains: []"), {"filter-chains": "unknown field"}),
        (yaml_of("vaults: []"), {"vaults": "vaults are not supported by this gateway"}),
        (yaml_of("key_sets: []"), {"key_sets": "key sets are not supported by this gateway"}),
        (yaml_of("services: 1"), {"services": "expected an array"}),
        (yaml_of("services: [1]"), {"services": ["expected a record"]}),
        (yaml_of("routes: [{name: r, paths: [/], service: ghost}]"), {"routes": {"r": ["invalid reference 'service: ghost' (no such entry in 'services')"]}}),
        (yaml_of("services: [{name: s, host: h}, {name: s, host: h}]"), {"services": [None, "uniqueness violation: 'services' entity with name set to 's' already declared"]}),
        (yaml_of("services: [{name: s, host: h, routes: [{paths: [/], service: other}]}]"), {"services": [{"routes": [{"service": "value must be null"}]}]}),
    ],
)
def test_what_is_wrong_with_a_document_is_said_where_it_is(stateless, text, fields):
    assert refused(stateless, text) == fields


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: b: c", "line 1, column 5"),
        ("[1]", "expected an object"),
        (yaml_of("services: &a [*a]"), "alias inside the value that it names"),
        (yaml_of("services: []\nservices: []"), "key 'services' appears twice"),
        (yaml_of("--- \n") + yaml_of(""), "line"),
        (yaml_of("? [a]\n: 1"), "line"),
    ],
)
def test_what_is_no_document_is_named_with_its_line(stateless, text, words):
    assert words in refused(stateless, text)["error"]


def test_anchors_and_merged_aliases_are_expanded(stateless):
    text = yaml_of("services:\n- &base {name: a, host: h, routes: [{name: r, paths: &p [/x]}]}\n- {name: b, host: h, routes: [{name: q, paths: *p}]}")
    answer = stateless.post_config(text, "application/yaml")
    assert answer.status == 201, answer.text
    assert [r["paths"] for r in json.loads(answer.body)["routes"].values()] == [["/x"], ["/x"]]


def test_what_is_shown_may_be_posted_again_and_changes_nothing(stateless):
    """GET /config is a document; its second coming has the same entities, ids and times."""
    stateless.configure(
        document(
            {"name": "s", "host": "h", "tags": ["t"], "routes": [{"name": "r", "paths": ["~/x(?<n>.)"], "filter_chains": [{"name": "c", "filters": [{"name": "my-c-filter", "config": '{"my_greeting":\n "é"}'}]}]}]},
            upstreams=[{"name": "u.test", "targets": [{"target": "1.2.3.4"}]}],
            consumers=[{"username": "joe"}],
        )
    )
    before = json.loads(stateless.get_admin("/config").body)["config"]
    kinds = ("services", "routes", "filter-chains", "upstreams", "consumers")
    entities = [json.loads(stateless.get_admin(f"/{k}").body)["data"] for k in kinds]
    assert stateless.post_config({"config": before}).status == 201
    after = [json.loads(stateless.get_admin(f"/{k}").body)["data"] for k in kinds]
    for old, new in zip(entities, after, strict=True):
        assert [{k: v for k, v in e.items() if k != "updated_at"} for e in new] == [{k: v for k, v in e.items() if k != "updated_at"} for e in old]
    assert set(yaml.safe_load(before)) == {"_format_version", "_transform", "services", "routes", "filter_chains", "upstreams", "targets", "consumers"}


def test_an_export_imports_into_another_store_as_it_was(stored, tmp_path):
    api = Api(stored)
    api.clear()
    service = api.ok(201, "POST", "/services", {"name": "s", "host": "h", "tags": ["a", "b"]})
    api.ok(201, "POST", "/services/s/routes", {"name": "r", "headers": {"x-a": ["1"]}, "paths": ["~/\\d+"]})
    api.ok(201, "POST", "/routes/r/filter-chains", {"filters": [{"name": "probe", "config": "quiet"}]})
    api.ok(201, "POST", "/services/s/plugins", {"name": "my-c-filter", "config": "{}"})
    api.ok(201, "POST", "/upstreams", {"name": "u.test"})
    api.ok(201, "POST", "/upstreams/u.test/targets", {"target": "a.test:1", "weight": 3})
    exported = stored.run("config", "db_export", tmp_path / "kong.yml")
    assert exported.returncode == 0, exported
    again = stored.run("config", "db_export", tmp_path / "kong.yml")
    assert again.returncode == 1 and "already exists" in again.stderr
    kinds = ("services", "routes", "filter-chains", "plugins", "upstreams", f"upstreams/{api.ok(200, 'GET', '/upstreams/u.test')['id']}/targets")
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe")
        with with_store(path, workers=1).start() as other:
            done = other.run("config", "db_import", tmp_path / "kong.yml")
            assert done.returncode == 0 and "parse successful, beginning import" in done.stdout and "import successful" in done.stdout, done
            wait_for(lambda: other.get_admin("/services/s").status == 200, "what was imported")
            for kind in kinds:
                assert [{**e, "updated_at": 0} for e in Api(other).ok(200, "GET", f"/{kind}")["data"]] == [
                    {**e, "updated_at": 0} for e in api.ok(200, "GET", f"/{kind}")["data"]
                ], kind
            assert other.run("config", "diff", tmp_path / "kong.yml").returncode == 0
    assert api.ok(200, "GET", "/services/s") == service


# ---- settings under Kong's names -------------------------------------------------------------------------------------------


def test_kongs_variables_are_enough(home, origin_server):
    gateway = Gateway(
        home,
        None,
        family="KONG",
        listens=False,
        declarative_config=None,
        declarative_config_string=json.dumps(one_service(origin_server.url)),
        nginx_proxy_add_header="X-Injected yes always",
        nginx_http_keepalive_requests="7",
        nginx_http_large_client_header_buffers="8 64k",
        nginx_upstream_keepalive="3",
        nginx_location_proxy_next_upstream="off",
        nginx_events_multi_accept="off",
        nginx_http_tcp_nopush="NONE",
        anonymous_reports="off",
    )
    gateway.env.update(
        KONG_PROXY_LISTEN=f"127.0.0.1:{gateway.proxy} reuseport backlog=512 so_keepalive=on",
        KONG_ADMIN_LISTEN=f"127.0.0.1:{gateway.admin} deferred",
        KONG_LOG_LEVEL="warn",
    )
    with gateway.start():
        answer = gateway.get("/")
        assert answer.status == 200 and answer.get("x-injected") == "yes"
        text = (gateway.prefix / "nginx.conf").read_text()
        assert "keepalive_requests 7;" in text and "keepalive_requests 10000;\n    proxy" not in text and "tcp_nopush" not in text
        for line in ("large_client_header_buffers 8 64k;", "keepalive 3;", "proxy_next_upstream off;", "multi_accept off;"):
            assert [given.strip() for given in text.splitlines() if given.split()[:1] == line.split()[:1]] == [line]
        assert gateway.get("/", [("X-Long", "x" * 40_000)]).status == 200
        assert "backlog=512" in text and "so_keepalive=on" in text and "deferred" in text
        assert "KONG_ANONYMOUS_REPORTS is not known" in gateway.stderr()
        shown = json.loads(gateway.get_admin("/").body)["configuration"]
        assert shown["log_level"] == "warn" and shown["declarative_config_string"] == "******"


@pytest.mark.parametrize("name, value", [("KONG_PG_HOST", "db"), ("KONG_DATABASE", "postgres"), ("KONG_ROUTER_FLAVOR", "expressions"), ("KONG_LOG_LEVEL", "loud"), ("KONG_WASM", "maybe"), ("KONG_ROLE", "data_plane"), ("KONG_STREAM_LISTEN", "127.0.0.1:9000"), ("KONG_HEADERS", "x-no-such"), ("KONG_HEADERS_UPSTREAM", "via"), ("KONG_PORT_MAPS", "80")])
def test_what_cannot_be_had_is_refused_by_name(home, name, value):
    gateway = Gateway(home, document(), family="KONG")
    gateway.env.pop("KONG_DATABASE", None)
    gateway.env[name] = value
    done = gateway.run("start")
    assert done.returncode == 1 and name in done.stderr, done


# ---- options of filters, filters that do not come back -----------------------------------------------------------------------


OPTIONS = [
    ({"memory_budget": "1k"}, "memory_budget", "a size such as 64m"),
    ({"memory_budget": -1}, "memory_budget", "a size such as 64m"),
    ({"memory_budget": [1]}, "memory_budget", "expected"),
    ({"cpu_budget_ms": -1}, "cpu_budget_ms", "value should be between 0 and 3600000"),
    ({"cpu_budget_ms": "5"}, "cpu_budget_ms", "expected an integer"),
    ({"start_budget_ms": 3600001}, "start_budget_ms", "value should be between 0 and 3600000"),
    ({"isolation": "x"}, "isolation", "expected one of"),
    ({"grants": "default"}, "grants", "expected an array"),
    ({"slice": 1}, "slice", "expected a boolean"),
    ({"no_such_option": 1}, "no_such_option", "unknown field"),
]


@pytest.mark.parametrize("options, name, words", OPTIONS, ids=[f"{n}-{i}" for i, (_, n, _) in enumerate(OPTIONS)])
def test_bad_options_are_named_by_config_and_by_import(stateless, stored, tmp_path, options, name, words):
    bad = one_service("http://127.0.0.1:1", {"name": "probe", "config": "quiet", **options})
    fields = refused(stateless, json.dumps(bad), "application/json")
    assert words in fields["services"][0]["routes"][0]["filter_chains"][0]["filters"][0][name]
    (tmp_path / "kong.yml").write_text(json.dumps(bad))
    revision = stored.get_admin("/plan").body
    done = stored.run("config", "db_import", tmp_path / "kong.yml")
    assert done.returncode == 1 and f"services[0].routes[0].filter_chains[0].filters[0].{name}: " in done.stderr and words in done.stderr, done
    assert "Traceback" not in done.stderr and stored.get_admin("/plan").body == revision


SPINNING = [{"name": "spin", "config": "configure", "start_budget_ms": 100}, {"name": "spin_start", "start_budget_ms": 100}]


@pytest.mark.parametrize("entry", SPINNING, ids=["configure", "start"])
def test_a_filter_that_does_not_come_back_from_its_start_is_refused_everywhere(stateless, stored, tmp_path, entry):
    words = "the CPU budget of 100 ms is used up"
    bad = one_service("http://127.0.0.1:1", entry)
    assert words in refused(stateless, json.dumps(bad), "application/json", 30)["error"]
    (tmp_path / "kong.yml").write_text(json.dumps(bad))
    done = stored.run("config", "db_import", tmp_path / "kong.yml")
    assert done.returncode == 1 and words in done.stderr, done
    api = Api(stored)
    api.clear()
    api.ok(201, "POST", "/services", {"name": "s", "host": "h"})
    error = api.error(400, "POST", "/services/s/filter-chains", {"filters": [entry]})
    assert words in error["fields"]["@entity"][0]
    assert api.ok(200, "GET", "/filter-chains")["data"] == []


def test_an_upload_whose_start_spins_is_refused_when_a_chain_would_run_it(origin_server):
    """The upload replaces a version that runs: it is started with the chains there are, under the budget of the node."""
    with folder() as path:
        install(path / "filters", "my-c-filter", "spin_start")
        with with_store(path, workers=1, wasm_start_budget_ms=200).start() as gateway:
            api = Api(gateway)
            api.ok(201, "POST", "/services", {"name": "s", "url": origin_server.url})
            api.ok(201, "POST", "/services/s/routes", {"paths": ["/"]})

            def upload(name):
                module = (path / "filters" / f"{name}.wasm").read_bytes()
                return http1.request(gateway.admin, "PUT", "/filters/up", [("Content-Type", "application/wasm")], module, timeout=60)

            assert upload("my-c-filter").status == 201
            api.ok(201, "POST", "/services/s/filter-chains", {"filters": [{"name": "up"}]})
            answer = upload("spin_start")
            assert answer.status == 400 and "the CPU budget of 200 ms is used up" in answer.text, answer.text
            assert gateway.get("/").get("x-greeting") is not None
            assert api.ok(200, "GET", "/filters/up")["number"] == 1


# ---- sizes, depths, bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, content_type",
    [
        ("[" * 100_000, "application/json"),
        ('{"_format_version":"3.0","_ignore":' + "[" * 5000 + "]" * 5000 + "}", "application/json"),
        ("{" * 100_000, "application/yaml"),
        ("- " * 50_000, "application/yaml"),
        (HEAD + "_ignore:\n" + "".join(f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else 'x'}]\n" for i in range(12)), "application/yaml"),
        (b'{"_format_version":"3.0","_comment":"\xff\xfe"}', "application/json"),
        (b'_format_version: "3.0"\n_comment: "\xff\xfe"', "application/yaml"),
        (b'_format_version: "3.0"\n_comment: "a\x00b"', "application/yaml"),
        ('{"_format_version":"3.0","services":[{"name":"\\ud800","host":"h"}]}', "application/json"),
    ],
    ids=["open", "deep", "deep-yaml", "dashes", "billion-laughs", "not-utf8", "not-utf8-yaml", "nul", "half-a-pair"],
)
def test_hostile_texts_are_refused_in_no_time(stateless, text, content_type):
    refused(stateless, text, content_type)


def workers_kib(gateway):
    return max(int(line.split()[1]) for pid in gateway.workers() for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM"))


def test_a_document_of_a_million_entities_is_refused_within_time_and_memory(stateless):
    """Each is wrong: a thousand are reported."""
    entities = ",".join(['{"port":-1}'] * 1_000_000)
    body = f'{{"_format_version":"3.0","services":[{entities}]}}'
    stateless.configure(stateless.good)
    with socket.create_connection(("127.0.0.1", stateless.admin), timeout=100) as s:
        head = f"POST /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        s.sendall(head.encode() + body.encode())
        first = s.recv(64)
        while s.recv(1 << 20):
            pass
    assert first.startswith(b"HTTP/1.1 400 ")
    assert stateless.get("/").status == 200 and stateless.get_admin("/services").status == 200
    assert workers_kib(stateless) < 1 << 20


def test_a_body_over_the_limit_is_413(home):
    with Gateway(home, document(), workers=1, nginx_admin_client_max_body_size="64k").start() as gateway:
        answer = gateway.post_config("#" * 70_000, "application/yaml")
        assert answer.status == 413 and gateway.get_admin("/status").status == 200


def test_slow_and_silent_clients_hold_nobody_up(stateless):
    """Heads and bodies that come byte by byte, or not at all: others are served meanwhile."""
    socks = []
    try:
        for i in range(40):
            s = socket.create_connection(("127.0.0.1", stateless.admin))
            s.sendall([b"", b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Le", b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"][i % 3])
            socks.append(s)
        for s in socks:
            s.sendall(b"n" if socks.index(s) % 3 else b"G")
        started = time.monotonic()
        for _ in range(20):
            assert stateless.get_admin("/services").status == 200
        assert time.monotonic() - started < 20
    finally:
        for s in socks:
            s.close()
    stateless.configure(stateless.good)
    assert stateless.get("/").status == 200


def test_loads_at_the_same_time_leave_one_whole_configuration(stateless):
    """Some are told to come again (429); what is served in the end is one of them."""
    statuses = []

    def load(i):
        statuses.append(stateless.post_config(document({"name": f"s{i}", "host": "h", "routes": [{"name": f"r{i}", "paths": ["/"]}]})).status)

    threads = [threading.Thread(target=load, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(statuses) <= {201, 429} and 201 in statuses
    (service,) = json.loads(stateless.get_admin("/services").body)["data"]
    (route,) = json.loads(stateless.get_admin("/routes").body)["data"]
    assert service["name"][1:] == route["name"][1:]


@pytest.mark.parametrize(
    "content_type, body, status",
    [
        ("application/json", b"", 400),
        ("application/json; charset=utf-8", b'{"host":"h"}', 201),
        ("APPLICATION/JSON", b'{"host":"h"}', 201),
        ("application/jsonx", b'{"host":"h"}', 415),
        ("text/json", b'{"host":"h"}', 415),
        ("application/yaml", b"host: h", 415),
        ("", b"host=h", 415),
        ("application/json", b'{"host":"h"} x', 400),
        ("application/json", b'{"host":"h","host":"g"}', 400),
        ("application/json", b'\xef\xbb\xbf{"host":"h"}', 201),  # a byte order mark is let pass
        ("application/json", b'{"host":"h\\u0000"}', 400),
        ("application/json", b'{"host":"h","retries":1e400}', 400),
        ("application/json", b'{"host":"h","retries":5.0}', 201),
        ("application/json", b'{"host":"h","port":18446744073709551617}', 400),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n", 400),
        ("application/x-www-form-urlencoded", b"host=h&name=%ff", 400),
        ("application/x-www-form-urlencoded", b"host=h&" + b"[" * 1000 + b"=1", 400),
        ("application/x-www-form-urlencoded", b"host=h&a" + b".b" * 1000 + b"=1", 400),
        ("application/x-www-form-urlencoded", b"host=h&tags[99999999999999999999]=1", 400),
    ],
)
def test_bodies_are_what_their_type_says_or_refused(stored, content_type, body, status):
    Api(stored).clear()
    answer = http1.request(stored.admin, "POST", "/services", [("Content-Type", content_type)] if content_type else [], body)
    assert answer.status == status, answer.text
    assert (answer.body == b"") == (status == 415)
    assert len(Api(stored).ok(200, "GET", "/services")["data"]) == (status == 201)
