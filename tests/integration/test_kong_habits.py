"""
What scripts and tools written for Kong's Admin API do: dump, compare, synchronise and reset over HTTP, forms of all kinds, filters that are
configured as plugins.
"""

import json
import subprocess
import urllib.parse
import uuid

import pytest
from gateway_helpers import Gateway, document, folder, install, one_service, origin_server, sluice  # noqa: F401
from support import http1
from test_admin_writes import Api, with_store

# As a tool goes through them: what is referred to first. Targets and SNIs are read below or after their parents.
ORDER = ["certificates", "ca_certificates", "services", "routes", "consumers", "upstreams", "snis", "plugins", "filter-chains"]


@pytest.fixture(scope="module")
def running():
    with folder() as path:
        install(path / "filters", "my-c-filter", "configfail", "probe")
        with with_store(path, workers=2).start() as gateway:
            yield gateway


@pytest.fixture
def api(running):
    api = Api(running)
    api.clear()
    for plugin in api.ok(200, "GET", "/plugins?size=1000")["data"]:
        api.ok(204, "DELETE", f"/plugins/{plugin['id']}")
    return api


# ---- a tool that keeps a gateway like a file -------------------------------------------------------------------------------


def pages(api, path, tags=None, size=3):
    """Every entity of a collection, page by page, as the offset says."""
    found, offset = [], None
    while True:
        query = {"size": size, **({"tags": ",".join(tags)} if tags else {}), **({"offset": offset} if offset else {})}
        page = api.ok(200, "GET", f"{path}?{urllib.parse.urlencode(query)}")
        assert len(page["data"]) <= size
        found += page["data"]
        offset = page.get("offset")
        assert (offset is None) == (page["next"] is None)
        if offset is None:
            return found


def dump(api, tags=None, size=3):
    """{collection: {id: entity}}, targets below their upstreams included."""
    state = {kind: {e["id"]: e for e in pages(api, f"/{kind}", tags, size)} for kind in ORDER}
    state["targets"] = {t["id"]: t for u in state["upstreams"] for t in pages(api, f"/upstreams/{u}/targets", None, size)}
    return state


def path_of(kind, entity):
    return f"/upstreams/{entity['upstream']['id']}/targets/{entity['id']}" if kind == "targets" else f"/{kind}/{entity['id']}"


TIMES = ("created_at", "updated_at")


def differs(wanted, found):
    return any(found.get(k) != v for k, v in wanted.items() if k not in TIMES)


def sync(api, wanted, tags=None):
    """Makes the gateway like `wanted`; answers what it had to do."""
    found, done = dump(api, tags), []
    for kind in [*ORDER, "targets"]:
        for key, entity in wanted.get(kind, {}).items():
            if key not in found[kind] or differs(entity, found[kind][key]):
                api.ok(200, "PUT", path_of(kind, entity), {k: v for k, v in entity.items() if k not in TIMES})
                done.append(("put", kind, key))
    for kind in ["targets", *reversed(ORDER)]:
        for key, entity in found[kind].items():
            if key not in wanted.get(kind, {}):
                api.ok(204, "DELETE", path_of(kind, entity))
                done.append(("delete", kind, key))
    return done


def a_state(tag):
    """Ids as a tool makes them: before anything is sent."""
    ids = {name: str(uuid.uuid4()) for name in ("s1", "s2", "r1", "r2", "r3", "c", "u", "t1", "t2", "p", "f1", "f2")}
    tagged = {"tags": [tag]}

    def by_id(*entities):
        return {e["id"]: e for e in entities}

    return ids, {
        "services": by_id(
            {"id": ids["s1"], "name": "one", "host": "one.test", "protocol": "http", "port": 80, "retries": 2, **tagged},
            {"id": ids["s2"], "name": "two", "host": "u.test", "path": "/base", **tagged},
        ),
        "routes": by_id(
            {"id": ids["r1"], "name": "r1", "paths": ["/1"], "service": {"id": ids["s1"]}, "protocols": ["http", "https"], **tagged},
            {"id": ids["r2"], "paths": ["~/2/(?<n>\\d+)$"], "regex_priority": 7, "service": {"id": ids["s2"]}, **tagged},
            {"id": ids["r3"], "name": "r3", "headers": {"x-a": ["1", "2"]}, "methods": ["GET"], "service": None, **tagged},
        ),
        "consumers": by_id({"id": ids["c"], "username": "joe", "custom_id": "7", **tagged}),
        "upstreams": by_id({"id": ids["u"], "name": "u.test", "algorithm": "round-robin", "slots": 100, **tagged}),
        "targets": by_id(
            {"id": ids["t1"], "target": "127.0.0.1:9001", "weight": 10, "upstream": {"id": ids["u"]}, **tagged},
            {"id": ids["t2"], "target": "127.0.0.1:9002", "weight": 0, "upstream": {"id": ids["u"]}, **tagged},
        ),
        "plugins": by_id({"id": ids["p"], "name": "my-c-filter", "route": {"id": ids["r3"]}, "config": "{}", **tagged}),
        "filter-chains": by_id(
            {"id": ids["f1"], "name": "of-service", "service": {"id": ids["s1"]}, "filters": [{"name": "my-c-filter", "enabled": True, "config": None}], **tagged},
            {"id": ids["f2"], "route": {"id": ids["r2"]}, "enabled": False, "filters": [{"name": "probe", "enabled": True, "config": ""}], **tagged},
        ),
    }


def test_a_second_sync_has_nothing_to_do(api):
    _, wanted = a_state("team")
    done = sync(api, wanted, ["team"])
    assert len(done) == sum(len(v) for v in wanted.values()) and all(what == "put" for what, *_ in done)
    assert sync(api, wanted, ["team"]) == []


def test_what_was_dumped_is_what_a_sync_leaves_alone(api):
    """All fields, nulls and defaults included, may be sent back as they came."""
    sync(api, a_state("team")[1])
    whole = dump(api, size=1000)
    assert sync(api, whole) == []
    for kind in [*ORDER, "targets"]:
        for entity in whole[kind].values():
            again = api.ok(200, "PUT", path_of(kind, entity), entity)
            assert {k: v for k, v in again.items() if k != "updated_at"} == {k: v for k, v in entity.items() if k != "updated_at"}, kind
    assert sync(api, whole) == []


def test_a_sync_changes_only_what_differs(api):
    ids, wanted = a_state("team")
    sync(api, wanted)
    wanted["services"][ids["s1"]]["retries"] = 3
    wanted["targets"].pop(ids["t2"])
    wanted["routes"].pop(ids["r3"])  # takes its plugin along
    wanted["plugins"].clear()
    assert sorted(sync(api, wanted)) == sorted([("put", "services", ids["s1"]), ("delete", "targets", ids["t2"]), ("delete", "routes", ids["r3"]), ("delete", "plugins", ids["p"])])
    assert sync(api, wanted) == []


def test_a_field_that_the_file_leaves_out_returns_to_its_default(api):
    ids, wanted = a_state("team")
    sync(api, wanted)
    wanted["services"][ids["s1"]].pop("retries")
    api.ok(200, "PUT", f"/services/{ids['s1']}", wanted["services"][ids["s1"]])
    assert api.ok(200, "GET", f"/services/{ids['s1']}")["retries"] == 5


def test_a_sync_by_tag_leaves_the_entities_of_others_alone(api):
    other = api.ok(201, "POST", "/services", {"name": "theirs", "host": "x.test", "tags": ["others"]})
    _, wanted = a_state("team")
    sync(api, wanted, ["team"])
    sync(api, {}, ["team"])
    assert list(dump(api)["services"]) == [other["id"]]


def test_a_reset_in_reverse_order_empties_the_gateway(api):
    sync(api, a_state("team")[1])
    sync(api, {})
    assert not any(dump(api).values())


def test_a_new_name_is_free_and_the_old_one_too(api):
    ids, wanted = a_state("team")
    sync(api, wanted)
    service = {**wanted["services"][ids["s1"]], "name": "renamed"}
    assert api.ok(200, "PUT", f"/services/{ids['s1']}", service)["name"] == "renamed"
    assert api("GET", "/services/one").status == 404
    taken = api.error(409, "PUT", f"/services/{ids['s1']}", {**service, "name": "two"})
    assert taken["code"] == 5 and taken["fields"] == {"name": "two"}
    assert api.ok(200, "GET", f"/services/{ids['s1']}")["name"] == "renamed"


def test_pages_are_whole_while_others_write(api):
    """What was there at the beginning and is not deleted is seen once."""
    made = [api.ok(201, "POST", "/consumers", {"username": f"u{i}"})["id"] for i in range(25)]
    seen, offset, extra = [], "", 0
    while offset is not None:
        page = api.ok(200, "GET", "/consumers?size=4" + (f"&offset={urllib.parse.quote(offset)}" if offset else ""))
        seen += [e["id"] for e in page["data"]]
        offset = page.get("offset")
        api.ok(201, "POST", "/consumers", {"username": f"extra{extra}"})
        extra += 1
        assert extra < 100
    assert len(seen) == len(set(seen)) and set(made) <= set(seen)


def test_next_is_a_path_that_keeps_size_and_tags_below_a_parent_too(api):
    service = api.ok(201, "POST", "/services", {"name": "s", "host": "a.test"})
    for i in range(5):
        api.ok(201, "POST", "/services/s/routes", {"paths": [f"/{i}"], "tags": ["even" if i % 2 == 0 else "odd"]})
    found, path = [], "/services/s/routes?size=2&tags=even"
    while path is not None:
        page = api.ok(200, "GET", path)
        found += page["data"]
        path = page["next"]
        assert path is None or (path.startswith("/services/") and "size=2" in path and "tags=even" in path)
    assert sorted(e["paths"][0] for e in found) == ["/0", "/2", "/4"]
    assert all(e["service"] == {"id": service["id"]} for e in found)


# ---- forms -----------------------------------------------------------------------------------------------------------------


def form(api, method, path, text):
    return http1.request(api.gateway.admin, method, path, [("Content-Type", "application/x-www-form-urlencoded")], text.encode())


@pytest.mark.parametrize(
    "text, expected",
    [
        ("paths[]=/a&paths[]=/b", {"paths": ["/a", "/b"]}),
        ("paths[1]=/a&paths[2]=/b", {"paths": ["/a", "/b"]}),
        ("paths[2]=/b&paths[1]=/a", {"paths": ["/a", "/b"]}),
        ("paths=/a&paths=/b", {"paths": ["/a", "/b"]}),
        ("paths=/a", {"paths": ["/a"]}),
        ("paths%5B%5D=%2Fa", {"paths": ["/a"]}),
        ("paths=/a&headers.x-a=1", {"headers": {"x-a": ["1"]}}),
        ("paths=/a&headers.x-a[]=1&headers.x-a[]=2", {"headers": {"x-a": ["1", "2"]}}),
        ("paths=/a&headers[x-a]=1", {"headers": {"x-a": ["1"]}}),
        ("paths=/a&strip_path=false&regex_priority=3", {"strip_path": False, "regex_priority": 3}),
        ("paths=/a&hosts=&tags=", {"hosts": None, "tags": None}),
        ("paths=/a&service=", {"service": None}),
        ("paths=/a%2Bb+c", {"paths": ["/a+b c"]}),
    ],
)
def test_a_form_becomes_the_same_route_as_json(api, text, expected):
    answer = form(api, "POST", "/routes", text)
    assert answer.status == 201, answer.text
    route = json.loads(answer.body)
    assert {k: route[k] for k in expected} == expected


def test_an_empty_value_in_a_form_clears_a_list(api):
    api.ok(201, "POST", "/routes", {"name": "r", "paths": ["/"], "hosts": ["a.test"], "tags": ["t"]})
    assert form(api, "PATCH", "/routes/r", "hosts=&tags=").status == 200
    route = api.ok(200, "GET", "/routes/r")
    assert route["hosts"] is None and route["tags"] is None and route["paths"] == ["/"]


def test_chains_come_as_forms_in_both_ways_of_writing(api):
    api.ok(201, "POST", "/services", {"name": "s", "host": "a.test"})
    for text in ("filters[1].name=my-c-filter&filters[1].config={}&filters[2].name=probe", "filters[1][name]=my-c-filter&filters[1][config]={}&filters[2][name]=probe"):
        answer = form(api, "PUT", "/filter-chains/c", text + "&service.name=s")
        assert answer.status == 200, answer.text
        assert [(f["name"], f["config"]) for f in json.loads(answer.body)["filters"]] == [("my-c-filter", "{}"), ("probe", None)]


# ---- keys in paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/services/a%20b", "/routes/a%20b/plugins/x", "/filter-chains/%3F", "/services/s/routes/a%2Fb"])
def test_what_can_be_no_name_is_refused_as_a_key(api, method, path):
    api.ok(201, "POST", "/services", {"name": "s", "host": "h"})
    error = api.error(400, method, path, {"host": "h"} if method in ("PUT", "PATCH") else None)
    assert error["code"] == 10 and error["name"] == "invalid unique name" and error["message"] == error["fields"]["name"]
    assert "the only accepted ascii characters are" in error["message"]


def test_a_ca_certificate_that_a_service_names_is_kept(api, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "key", "-out", tmp_path / "cert", "-days", "2", "-subj", "/CN=ca"],
        check=True,
        capture_output=True,
    )
    ca = api.ok(201, "POST", "/ca_certificates", {"cert": (tmp_path / "cert").read_text()})
    for i in range(3):
        api.ok(201, "POST", "/services", {"name": f"plain{i}", "host": "h"})
    service = api.ok(201, "POST", "/services", {"name": "tls", "url": "https://h", "ca_certificates": [ca["id"]]})
    error = api.error(400, "DELETE", f"/ca_certificates/{ca['id']}")
    assert error == {"code": 19, "name": "referenced by others", "message": f"ca certificate {ca['id']} is still referenced by services (id = {service['id']})"}
    api.ok(200, "PATCH", "/services/tls", {"ca_certificates": None})
    api.ok(204, "DELETE", f"/ca_certificates/{ca['id']}")


# ---- filters as plugins -----------------------------------------------------------------------------------------------------


@pytest.fixture
def routed(api, origin_server):
    api.ok(201, "POST", "/services", {"name": "s", "url": origin_server.url})
    api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
    return api


def greeting(api):
    return http1.request(api.gateway.proxy, "GET", "/").get("x-greeting")


@pytest.mark.parametrize("owner", ["services/s", "routes/r"])
def test_a_filter_as_a_plugin_runs(routed, owner):
    plugin = routed.ok(201, "POST", f"/{owner}/plugins", {"name": "my-c-filter", "config": '{"my_greeting": "as a plugin"}', "instance_name": "mine"})
    assert greeting(routed) == "as a plugin"
    assert routed.ok(200, "GET", "/plugins/mine") == plugin == routed.ok(200, "GET", f"/{owner}/plugins/{plugin['id']}")
    assert routed.ok(200, "GET", "/routes/r/filters/all") == {"filters": []}
    routed.ok(200, "PATCH", "/plugins/mine", {"config": '{"my_greeting": "changed"}'})
    assert greeting(routed) == "changed"
    routed.ok(200, "PATCH", "/plugins/mine", {"enabled": False})
    assert greeting(routed) is None
    routed.ok(204, "DELETE", "/plugins/mine")
    assert routed.ok(200, "GET", "/plugins")["data"] == []


def test_a_filter_as_a_plugin_runs_after_the_chain_and_stops_with_it(routed):
    routed.ok(201, "POST", "/routes/r/filter-chains", {"name": "c", "filters": [{"name": "my-c-filter", "config": '{"my_greeting": "chain"}'}]})
    routed.ok(201, "POST", "/routes/r/plugins", {"name": "my-c-filter", "config": '{"my_greeting": "plugin"}'})
    assert greeting(routed) == "plugin"
    routed.ok(200, "PATCH", "/filter-chains/c", {"enabled": False})
    assert greeting(routed) is None


def test_a_filter_as_a_plugin_is_for_one_service_or_route(routed):
    def refused(fields, **more):
        error = routed.error(400, "POST", "/plugins", {"name": "my-c-filter", **more})
        assert error["code"] == 2 and error["fields"] == fields

    route, service = {"route": {"name": "r"}}, {"service": {"name": "s"}}
    refused({"@entity": ["at least one of these fields must be non-empty: 'service', 'route'"]})
    refused({"@entity": ["only one or none of these fields must be set: 'service', 'route'"]}, **route, **service)
    routed.ok(201, "POST", "/consumers", {"username": "joe"})
    refused({"consumer": "value must be null"}, consumer={"username": "joe"}, **route)
    refused({"protocols": "must match the associated route's protocols"}, protocols=["tcp"], **route)
    refused({"protocols": "must match the protocols of at least one route pointing to this Plugin's service"}, protocols=["tcp"], **service)
    refused({"config": "wrong type: expected one of string, null, got object"}, config={"a": 1}, **route)
    assert routed.ok(200, "GET", "/plugins")["data"] == []


def test_one_filter_is_once_a_plugin_of_a_route(routed):
    first = {"name": "my-c-filter", "route": {"name": "r"}}
    plugin = routed.ok(201, "POST", "/plugins", first)
    error = routed.error(409, "POST", "/plugins", first)
    assert error["code"] == 5 and error["fields"] == {"name": "my-c-filter", "route": plugin["route"], "service": None, "consumer": None}


def test_a_plugin_that_does_not_start_is_refused_with_its_place(routed):
    error = routed.error(400, "POST", "/routes/r/plugins", {"name": "configfail"})
    assert "plugin 'configfail' of route" in error["fields"]["@entity"][0]
    assert routed.ok(200, "GET", "/plugins")["data"] == []


def test_a_route_takes_its_plugins_along(routed):
    routed.ok(201, "POST", "/routes/r/plugins", {"name": "my-c-filter"})
    routed.ok(204, "DELETE", "/routes/r")
    assert routed.ok(200, "GET", "/plugins")["data"] == []


def test_an_upload_that_a_plugin_needs_is_kept(routed, running):
    module = (running.filters / "my-c-filter.wasm").read_bytes()
    answer = http1.request(running.admin, "PUT", "/filters/uploaded", [("Content-Type", "application/wasm")], module, timeout=60)
    assert answer.status in (200, 201), answer.text
    plugin = routed.ok(201, "POST", "/routes/r/plugins", {"name": "uploaded"})
    shown = routed.ok(200, "GET", "/filters/uploaded")
    assert (shown["plugins"], shown["filter_chains"]) == ([plugin["id"]], [])
    assert routed.ok(200, "GET", "/")["plugins"]["enabled_in_cluster"] == ["uploaded"]
    error = routed.error(400, "DELETE", "/filters/uploaded")
    assert error["code"] == 4 and error["fields"] == {"@referenced_by": "plugins"}
    routed.ok(204, "DELETE", "/routes/r")
    routed.ok(204, "DELETE", "/filters/uploaded")


def test_the_schema_of_a_filter_is_also_that_of_a_plugin(api):
    schema = api.ok(200, "GET", "/schemas/plugins/my-c-filter")
    config = next(f["config"] for f in schema["fields"] if "config" in f)
    assert config["json_schema"] == api.ok(200, "GET", "/schemas/filters/my-c-filter")
    assert api.error(404, "GET", "/schemas/plugins/rate-limiting") == {"message": "No plugin named 'rate-limiting'"}


def test_filters_are_the_plugins_that_are_enabled(api):
    assert api.ok(200, "GET", "/plugins/enabled") == {"enabled_plugins": ["configfail", "my-c-filter", "probe"]}
    plugins = api.ok(200, "GET", "/")["plugins"]
    assert sorted(plugins["available_on_server"]) == ["configfail", "my-c-filter", "probe"] and plugins["enabled_in_cluster"] == []


def test_plugins_of_a_document_run_and_are_tried(origin_server):
    with folder() as path:
        install(path / "filters", "my-c-filter", "configfail")
        doc = one_service(origin_server.url)
        doc["services"][0]["routes"][0]["plugins"] = [{"name": "my-c-filter", "config": '{"my_greeting": "declared"}'}]
        with Gateway(path, doc, workers=1).start() as gateway:
            assert gateway.get("/").get("x-greeting") == "declared"
            bad = one_service(origin_server.url)
            bad["plugins"] = [{"name": "configfail", "route": "r"}]
            answer = gateway.post_config(bad)
            assert answer.status == 400 and "plugin 'configfail' of route 'r'" in answer.text
            assert gateway.get("/").get("x-greeting") == "declared"
