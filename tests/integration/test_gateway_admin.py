"""The Admin API of a running gateway: what it answers, and replacing the configuration while requests are served."""

import hashlib
import json
import os
import re
import signal
import threading
import urllib.parse

import pytest
import yaml
from gateway_helpers import *  # noqa: F403
from gateway_helpers import VERSION, Gateway, chain, document, folder, home, install, multipart, one_service, origin, origin_server, wait_for  # noqa: F401
from support import http1

CHAIN_OF_NESTED = "7d7b8ce3-d533-5a60-8744-5e7449bcabc8"


@pytest.fixture(scope="module")
def gateway(origin_server):
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe", "configfail", "noabi", "badimport", "vmstartfail")
        with Gateway(path, one_service(origin_server.url), workers=2).start() as gateway:
            yield gateway


def greeting(text):
    return ("my-c-filter", json.dumps({"my_greeting": text}))


def read(gateway, path):
    answer = gateway.get_admin(path)
    assert answer.status == 200, answer.text
    return json.loads(answer.body)


# ---- reads ------------------------------------------------------------------------------------------------------------


def test_every_answer_has_the_headers_of_the_admin_api(gateway):
    for path, status in [("/services", 200), ("/nothing", 404), ("/services/nothing", 404)]:
        answer = gateway.get_admin(path)
        assert answer.status == status
        assert answer.get("content-type") == "application/json; charset=utf-8"
        assert answer.get("server") == f"sluice/{VERSION}"
        assert re.fullmatch(r"\d+", answer.get("x-kong-admin-latency"))
        assert answer.get("access-control-allow-origin") == "*"
        assert answer.get("access-control-allow-credentials") == "true"
        assert answer.get("via") is None
    assert gateway.get_admin("/nothing").body == b'{"message":"Not found"}'


def test_root_and_status_tell_of_this_node(gateway):
    # The first worker answers as soon as it is there; the others announce themselves a moment later.
    wait_for(lambda: sorted(read(gateway, "/")["pids"]["workers"]) == gateway.workers(), "every worker is listed")
    root = read(gateway, "/")
    assert root["version"] == VERSION
    assert root["pids"]["master"] == gateway.pid()
    assert root["configuration"]["prefix"] == str(gateway.prefix)
    assert re.fullmatch(r"[0-9a-f-]{36}", root["node_id"])
    assert root["node_id"] == (gateway.prefix / "node.id").read_text()
    status = read(gateway, "/status")
    assert re.fullmatch(r"[0-9a-f]{32}", status["configuration_hash"])
    assert "database" not in status
    server = status["server"]
    assert server["connections_accepted"] >= server["connections_active"] >= 1
    assert server["total_requests"] >= server["connections_handled"] >= 1


def test_the_status_of_an_empty_gateway_is_zeros(home):
    with Gateway(home, declarative_config=None).start() as gateway:
        assert read(gateway, "/status")["configuration_hash"] == "0" * 32
        assert yaml.safe_load(read(gateway, "/config")["config"])["_format_version"] == "3.0"
        assert read(gateway, "/routes") == {"data": [], "next": None}


def test_entities_are_read_by_name_and_by_id(gateway, origin):
    gateway.configure(one_service(origin.url, greeting("x"), name="my-service"))
    service = read(gateway, "/services/my-service")
    assert service["id"] == "0855b320-0dd2-547d-891d-601e9b38647f"
    assert read(gateway, f"/services/{service['id']}") == service
    assert read(gateway, "/services")["data"] == [service]
    route = read(gateway, "/services/my-service/routes")["data"][0]
    assert route == read(gateway, "/routes/r") and route["service"] == {"id": service["id"]}
    chains = read(gateway, "/routes/r/filter-chains")["data"]
    assert chains == read(gateway, "/filter-chains")["data"] and chains[0]["filters"][0]["name"] == "my-c-filter"
    assert read(gateway, "/routes/r/service") == service
    assert read(gateway, "/services/") == read(gateway, "/services")


def test_writes_are_refused_without_a_database(gateway, origin):
    gateway.configure(one_service(origin.url))
    before = gateway.get_admin("/config").body
    body = json.dumps({"name": "new", "url": origin.url}).encode()
    answer = http1.request(gateway.admin, "POST", "/services", [("Content-Type", "application/json")], body)
    assert answer.status == 405
    assert json.loads(answer.body) == {
        "code": 12,
        "name": "operation unsupported",
        "message": "cannot create 'services' entities when not using a database",
    }
    for method, path in [("DELETE", "/services/s"), ("PATCH", "/services/s"), ("PUT", "/services/s")]:
        assert http1.request(gateway.admin, method, path, [("Content-Type", "application/json")], body).status == 405
    assert gateway.get_admin("/config").body == before


def test_head_and_options(gateway):
    head = http1.request(gateway.admin, "HEAD", "/services")
    assert head.status == 200 and head.body == b"" and int(head.get("content-length")) > 10
    options = http1.request(gateway.admin, "OPTIONS", "/services")
    assert options.status == 204 and options.get("allow") == "GET, HEAD, OPTIONS, POST"


# ---- the plan of a route ------------------------------------------------------------------------------------------------


def chained(origin):
    service = chain({"name": "probe", "config": "# service 1"}, {"name": "my-c-filter", "enabled": False}, name="of-service")
    route = chain({"name": "probe", "config": "# route 1"}, {"name": "probe", "config": None, "enabled": False}, {"name": "probe", "config": "# route 3"})
    off = chain({"name": "probe", "config": None}, enabled=False)
    return document(
        {
            "name": "my-service",
            "url": origin.url,
            "filter_chains": [service],
            "routes": [
                {"name": "both", "paths": ["/both"], "filter_chains": [route]},
                {"name": "only-service", "paths": ["/one"]},
                {"name": "off", "paths": ["/off"], "filter_chains": [off]},
            ],
        },
        {"name": "plain", "url": origin.url, "routes": [{"name": "none", "paths": ["/none"]}]},
    )


def test_the_filters_of_a_route_are_listed_in_execution_order(gateway, origin):
    gateway.configure(chained(origin))
    all_of = read(gateway, "/routes/both/filters/all")["filters"]
    short = [(f["name"], f["config"], f["from"], f["enabled"], f["filter_chain"]["name"]) for f in all_of]
    assert short == [
        ("probe", "# service 1", "service", True, "of-service"),
        ("my-c-filter", None, "service", False, "of-service"),
        ("probe", "# route 1", "route", True, None),
        ("probe", None, "route", False, None),
        ("probe", "# route 3", "route", True, None),
    ]
    assert set(all_of[0]) == {"name", "config", "from", "enabled", "filter_chain"} and set(all_of[0]["filter_chain"]) == {"name", "id"}
    assert read(gateway, "/routes/both/filters/enabled")["filters"] == [f for f in all_of if f["enabled"]]
    assert read(gateway, "/routes/both/filters/disabled")["filters"] == [f for f in all_of if not f["enabled"]]
    assert [f["config"] for f in read(gateway, "/routes/only-service/filters/enabled")["filters"]] == ["# service 1"]
    # the flag of the chain counts
    off = read(gateway, "/routes/off/filters/disabled")["filters"]
    assert [(f["from"], f["enabled"]) for f in off] == [("service", False), ("route", False)]
    assert gateway.get_admin("/routes/none/filters/all").body == b'{"filters":[]}'
    assert gateway.get_admin("/routes/absent/filters/all").status == 404
    assert gateway.get_admin("/routes/both/filters/some").status == 404
    ids = {f["filter_chain"]["id"] for f in all_of if f["from"] == "service"}
    assert ids == {CHAIN_OF_NESTED} or len(ids) == 1


def test_the_listed_plan_is_what_runs(gateway, origin):
    def mark(text):
        return {"name": "probe", "config": f"request_headers: add x-seen {text}\nresponse_headers: add x-seen {text}"}

    doc = chained(origin)
    doc["services"][0]["filter_chains"] = [chain(mark("s1"), {**mark("s2"), "enabled": False}, mark("s3"))]
    doc["services"][0]["routes"][0]["filter_chains"] = [chain(mark("r1"), mark("r2"))]
    gateway.configure(doc)
    response = gateway.get("/both")
    seen = [v for n, v in json.loads(response.body)["headers"] if n == "x-seen"]
    assert ", ".join(seen).split(", ") == ["s1", "s3", "r1", "r2"]
    assert ", ".join(response.all("x-seen")).split(", ") == ["s1", "s3", "r1", "r2"]
    names = [f["config"].split()[3] for f in read(gateway, "/routes/both/filters/enabled")["filters"]]
    assert [n.split("\n")[0] for n in names] == ["s1", "s3", "r1", "r2"]


def test_without_wasm_the_paths_of_filters_say_so(home, origin):
    with Gateway(home, one_service(origin.url), wasm="off").start() as gateway:
        for path in ("/filter-chains", "/routes/r/filters/enabled", "/routes/absent/filter-chains", "/services/s/filter-chains"):
            answer = gateway.get_admin(path)
            assert (answer.status, answer.body) == (400, b'{"message":"this endpoint is only available when wasm is enabled"}')
        answer = gateway.post_config(one_service(origin.url, ("probe", None)))
        assert answer.status == 400 and "wasm support is not enabled" in answer.text
        assert gateway.get("/").status == 200


# ---- POST /config ---------------------------------------------------------------------------------------------------------


def encodings(doc):
    as_json, as_yaml = json.dumps(doc), yaml.safe_dump(doc, sort_keys=False)
    return {
        "a JSON document": (as_json, "application/json"),
        "YAML": (as_yaml, "application/yaml"),
        "YAML as text": (as_yaml, "text/yaml"),
        "JSON that holds YAML": (json.dumps({"config": as_yaml}), "application/json"),
        "JSON that holds JSON": (json.dumps({"config": as_json}), "application/json"),
        "a form that holds YAML": (urllib.parse.urlencode({"config": as_yaml}), "application/x-www-form-urlencoded"),
        "a form that holds JSON": (urllib.parse.urlencode({"config": as_json}), "application/x-www-form-urlencoded"),
        "a file in a form": multipart("config", as_yaml),
        "a JSON file in a form": multipart("config", as_json),
    }


@pytest.mark.parametrize("form", encodings({}))
def test_a_configuration_comes_in_each_form(gateway, origin, form):
    config = '{ "my_greeting":  "in ' + form + '" }'
    doc = one_service(origin.url, ("my-c-filter", config))
    answer = gateway.post_config(*encodings(doc)[form])
    assert answer.status == 201, answer.text
    entities = json.loads(answer.body)
    assert set(entities) == {"services", "routes", "filter_chains"}
    (chain_id, entry), *_ = entities["filter_chains"].items()
    assert entry["id"] == chain_id and entry["filters"][0] == {"name": "my-c-filter", "enabled": True, "config": config}
    assert entry["tags"] is None and "ws_id" not in entry
    assert gateway.get("/").get("x-greeting") == "in " + form
    assert read(gateway, "/routes/r/filters/enabled")["filters"][0]["config"] == config


def test_what_was_read_can_be_posted_again(gateway, origin):
    gateway.configure(chained(origin))
    first = read(gateway, "/config")["config"]
    document_of = yaml.safe_load(first)
    assert document_of["_format_version"] == "3.0" and document_of["_transform"] is False
    assert gateway.post_config(first, "application/yaml").status == 201
    second = yaml.safe_load(read(gateway, "/config")["config"])
    for doc in (document_of, second):
        for entities in doc.values():
            for entity in entities if isinstance(entities, list) else []:
                entity.pop("updated_at", None)
    assert second == document_of


def test_an_unchanged_text_is_304_when_asked_for(gateway, origin):
    text = yaml.safe_dump(one_service(origin.url, greeting("hash")))
    assert gateway.post_config({"config": text}).status == 201
    assert read(gateway, "/status")["configuration_hash"] == hashlib.md5(text.encode()).hexdigest()
    again = gateway.post_config({"config": text}, query="?check_hash=1")
    assert (again.status, again.body) == (304, b"")
    assert gateway.post_config({"config": text}).status == 201
    assert gateway.post_config({"config": text + "# changed\n"}, query="?check_hash=1").status == 201


BAD = {
    "nothing": ("", "application/json", "expected a declarative configuration"),
    "an empty text": (json.dumps({"config": ""}), "application/json", "expected a declarative configuration"),
    "broken JSON": ('{"a":', "application/json", "Cannot parse JSON body"),
    "broken YAML": ("services: [", "text/yaml", "declarative config"),
    "a list": ("[1, 2]", "text/yaml", "declarative config"),
    "no version": ("services: []", "text/yaml", "_format_version"),
    "an unknown key": ("_format_version: '3.0'\nserwices: []\n", "text/yaml", "serwices"),
    "an unknown field": ("_format_version: '3.0'\nservices:\n- name: s\n  host: h\n  hots: h\n", "text/yaml", "hots"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_text_that_is_refused_leaves_everything_as_it_was(gateway, origin, case):
    gateway.configure(one_service(origin.url, greeting("stays")))
    before, status = gateway.get_admin("/config").body, read(gateway, "/status")["configuration_hash"]
    body, kind, says = BAD[case]
    answer = gateway.post_config(body, kind)
    assert answer.status == 400, answer.text
    assert says in answer.text
    assert gateway.get_admin("/config").body == before
    assert read(gateway, "/status")["configuration_hash"] == status
    assert gateway.get("/").get("x-greeting") == "stays"


CHAINS = {
    "an unknown filter": ([chain(("no-such", None))], "no such filter"),
    "a filter that refuses its configuration": ([chain(("configfail", "please"))], "configfail: refused on purpose: please"),
    "a filter that does not start": ([chain(("vmstartfail", None))], "vmstartfail"),
    "a module without the ABI's marker": ([chain(("noabi", None))], "noabi"),
    "a module with an unknown import": ([chain(("badimport", None))], "no_such_function"),
    "two chains on one route": ([chain(("probe", None)), chain(("probe", None))], "uniqueness violation: 'filter_chains' entity with primary key set to"),
    "no filters": ([{"filters": []}], "filters"),
    "a configuration that is no text": ([{"filters": [{"name": "probe", "config": {"a": 1}}]}], "wrong type: expected one of string, null, got object"),
}


@pytest.mark.parametrize("case", CHAINS)
def test_a_chain_that_is_refused_leaves_everything_as_it_was(gateway, origin, case):
    gateway.configure(one_service(origin.url, greeting("stays")))
    before = gateway.get_admin("/config").body
    chains, says = CHAINS[case]
    doc = one_service(origin.url)
    doc["services"][0]["routes"][0]["filter_chains"] = chains
    answer = gateway.post_config(doc)
    assert answer.status == 400, answer.text
    error = json.loads(answer.body)
    assert (error["code"], error["name"]) == (14, "invalid declarative configuration")
    assert says in answer.text
    assert gateway.get_admin("/config").body == before
    assert gateway.get("/").get("x-greeting") == "stays"


def test_a_chain_needs_exactly_one_of_service_and_route(gateway, origin):
    before = gateway.get_admin("/config").body
    for owners, says in [({}, "at least one of these fields must be non-empty: 'service', 'route'"), ({"service": "s", "route": "r"}, "only one or none")]:
        doc = one_service(origin.url)
        doc["filter_chains"] = [chain(("probe", None), **owners)]
        answer = gateway.post_config(doc)
        assert answer.status == 400, answer.text
        assert says in answer.text or "mutually exclusive" in answer.text
    assert gateway.get_admin("/config").body == before


def test_errors_can_be_flattened(gateway, origin):
    doc = one_service(origin.url, name="named")
    doc["services"][0]["tags"] = ["t1"]
    doc["services"][0]["retries"] = -1
    doc["services"][0]["routes"][0]["filter_chains"] = [chain(("probe", None), ("no-such", None))]
    answer = gateway.post_config(doc, query="?flatten_errors=1")
    assert answer.status == 400
    error = json.loads(answer.body)
    assert error["fields"] == {}
    by_type = {e["entity_type"]: e for e in error["flattened_errors"]}
    assert by_type["service"]["entity_name"] == "named" and by_type["service"]["entity_tags"] == ["t1"]
    assert by_type["service"]["errors"] == [{"type": "field", "field": "retries", "message": "value should be between 0 and 32767"}]
    assert by_type["filter_chain"]["errors"] == [{"type": "field", "field": "filters.2.name", "message": "no such filter"}]
    plain = json.loads(gateway.post_config(doc).body)
    assert "flattened_errors" not in plain
    assert plain["fields"]["services"][0]["retries"] == "value should be between 0 and 32767"


def test_content_types_that_are_not_known_are_415(gateway):
    before = gateway.get_admin("/config").body
    answer = gateway.post_config("a", "application/octet-stream")
    assert (answer.status, answer.body) == (415, b"")
    both = [("Content-Type", "application/json"), ("Content-Type", "text/yaml")]
    assert http1.request(gateway.admin, "POST", "/config", both, b"{}").status == 400
    assert gateway.get_admin("/config").body == before


def test_a_large_configuration_is_taken(gateway, origin):
    doc = one_service(origin.url)
    text = "x" * 200
    doc["services"][0]["routes"] += [
        {"name": f"r{i}", "paths": [f"/path-{i}"], "tags": [text], "filter_chains": [chain(("probe", f"response_headers: add x-is {i % 10}"))]}
        for i in range(2000)
    ]
    answer = gateway.post_config(yaml.safe_dump(doc), "text/yaml")
    assert answer.status == 201
    assert gateway.get("/path-1234/x").get("x-is") == "4"
    page = read(gateway, "/routes?size=1000")
    rest = read(gateway, page["next"])
    assert len(page["data"]) == len(rest["data"]) - 1 == 1000 or len(page["data"]) + len(read(gateway, "/routes?size=1000")["data"]) == 2000
    gateway.configure(one_service(origin.url))


def test_a_new_filter_file_is_found_by_the_next_configuration(gateway, origin):
    doc = one_service(origin.url, ("installed-later", json.dumps({"my_greeting": "later"})))
    assert gateway.post_config(doc).status == 400
    install(gateway.filters, installed_later="my-c-filter")
    os.rename(gateway.filters / "installed_later.wasm", gateway.filters / "installed-later.wasm")
    gateway.configure(doc)
    assert gateway.get("/").get("x-greeting") == "later"


def test_a_new_version_of_a_filter_file_is_taken_by_the_next_configuration(gateway, origin):
    install(gateway.filters, versioned="my-c-filter")
    doc = one_service(origin.url, ("versioned", json.dumps({"my_greeting": "first"})))
    gateway.configure(doc)
    assert gateway.get("/").get("x-greeting") == "first"
    install(gateway.path / "new", versioned="probe")
    os.rename(gateway.path / "new/versioned.wasm", gateway.filters / "versioned.wasm")
    gateway.configure(one_service(origin.url, ("versioned", "response_headers: add x-version 2")))
    assert gateway.get("/").get("x-version") == "2"
    gateway.configure(one_service(origin.url))


# ---- under load -------------------------------------------------------------------------------------------------------------


class Load:
    """Connections that keep asking; `wrong` holds what was not 200, or had a greeting that nobody had configured."""

    def __init__(self, port, n=6, known=None, keep=True):
        self.port, self.known, self.keep = port, known, keep
        self.stop, self.count, self.wrong, self.seen = threading.Event(), 0, [], set()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join()

    def run(self, number):
        while not self.stop.is_set():
            try:
                with http1.Connection(self.port) as c:
                    for _ in range((50 if number % 2 else 5) if self.keep else 1):
                        c.send_request("POST" if number % 3 == 0 else "GET", "/load", body=b"a body" if number % 3 == 0 else None)
                        response = c.read_response()
                        self.count += 1
                        text = response.get("x-greeting")
                        self.seen.add(text)
                        if response.status != 200 or not response.complete or (self.known and text not in self.known):
                            self.wrong.append((response.status, text, response.body[:200]))
                        if self.stop.is_set():
                            return
            except Exception as e:  # noqa: BLE001 # whatever happened to a request is a failed request
                self.wrong.append(repr(e))


def test_no_request_fails_while_the_configuration_is_replaced_many_times(home, origin):
    install(home / "filters", "my-c-filter")
    known = {f"generation {i}" for i in range(25)}
    with Gateway(home, one_service(origin.url, greeting("generation 0")), workers=4).start() as gateway:
        with Load(gateway.proxy, known=known) as load:
            for i in range(1, 25):
                wait_for(lambda i=i: load.count >= i * 8, "requests between two replacements")
                gateway.configure(one_service(origin.url, greeting(f"generation {i}")))
                # the answer comes when every worker serves it
                assert {gateway.get("/now").get("x-greeting") for _ in range(8)} == {f"generation {i}"}
        assert load.wrong == []
        assert load.count > 200 and len(load.seen) > 10


def test_of_two_replacements_at_once_each_is_whole(home, origin):
    install(home / "filters", "my-c-filter")
    with Gateway(home, one_service(origin.url, greeting("0")), workers=2).start() as gateway:
        answers = []
        for turn in range(5):
            start = threading.Barrier(4)

            def post(i, turn=turn, start=start):
                doc = one_service(origin.url, greeting(f"{turn}-{i}"))
                doc["services"][0]["routes"] += [{"name": f"more-{n}", "paths": [f"/more-{n}"]} for n in range(200)]
                start.wait()
                answers.append((f"{turn}-{i}", gateway.post_config(doc)))

            threads = [threading.Thread(target=post, args=(i,)) for i in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            taken = {name for name, answer in answers if answer.status == 201}
            assert taken and gateway.get("/").get("x-greeting") in taken
        for _, answer in answers:
            assert answer.status in (201, 429)
            if answer.status == 429:
                assert json.loads(answer.body) == {"message": "Currently loading previous configuration"}
                assert int(answer.get("retry-after")) >= 1
        gateway.configure(one_service(origin.url, greeting("at last")))


def test_a_request_in_flight_finishes_on_the_configuration_it_began_with(home, origin):
    install(home / "filters", "my-c-filter")
    with Gateway(home, one_service(origin.url, greeting("old"))).start() as gateway, http1.Connection(gateway.proxy) as c:
        c.send_request("GET", "/hold/1")
        assert origin.held.acquire(timeout=20)
        gateway.configure(one_service("http://127.0.0.1:1", greeting("new")))
        assert gateway.get("/x").status == 502
        origin.go.set()
        response = c.read_response()
        assert response.status == 200 and response.get("x-greeting") == "old"


def test_a_killed_worker_is_replaced_and_serves_what_was_posted(home, origin):
    install(home / "filters", "my-c-filter")
    with Gateway(home, one_service(origin.url, greeting("file")), workers=2).start() as gateway:
        gateway.allowed += ["exited on signal 9"]
        gateway.configure(one_service(origin.url, greeting("posted")))
        for _ in range(2):
            old = gateway.workers()
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda old=old: len(set(gateway.workers()) - set(old)) == 2, "new workers")
            wait_for(gateway.ready, "ready")
            assert {gateway.get("/").get("x-greeting") for _ in range(6)} == {"posted"}
        wait_for(lambda: sorted(read(gateway, "/")["pids"]["workers"]) == gateway.workers(), "the list of workers is right")
        gateway.configure(one_service(origin.url, greeting("and again")))
        assert {gateway.get("/").get("x-greeting") for _ in range(6)} == {"and again"}


def test_reloads_and_replacements_at_once_end_in_one_configuration(home, origin):
    """Both write the plan; whoever comes last, all workers and their successors serve the same."""
    install(home / "filters", "my-c-filter")
    with Gateway(home, one_service(origin.url, greeting("file")), workers=2).start() as gateway:
        gateway.allowed += ["exited on signal 9"]
        stop, answers = threading.Event(), []

        def post():
            while not stop.is_set():
                answers.append(gateway.post_config(one_service(origin.url, greeting("posted"))).status)

        poster = threading.Thread(target=post)
        # nginx's old workers close idle connections at a reload, so none is kept
        with Load(gateway.proxy, n=3, known={"file", "posted"}, keep=False) as load:
            poster.start()
            for _ in range(6):
                done = gateway.run("reload")
                assert done.returncode == 0, done
            stop.set()
            poster.join()
        assert load.wrong == []
        assert set(answers) <= {201, 429}

        def served():
            return {gateway.get("/").get("x-greeting") for _ in range(8)}, yaml.safe_load(read(gateway, "/config")["config"])["filter_chains"][0]["filters"]

        def settled():
            texts, filters = served()
            return len(texts) == 1 and list(texts)[0] in filters[0]["config"] and texts

        before = wait_for(settled, "all workers serve one configuration")
        old = gateway.workers()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(gateway.workers()) - set(old)) == 2, "new workers")
        wait_for(gateway.ready, "ready")
        assert served()[0] == before
