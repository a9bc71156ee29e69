"""Writing through the Admin API of a gateway with its embedded store: verbs, errors, restarts, kills, many writers and many workers."""

import concurrent.futures
import contextlib
import functools
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
import urllib.parse
import uuid

import pytest
from gateway_helpers import Gateway, echoed, folder, home, install, origin, origin_server, sluice, wait_for  # noqa: F401
from support import http1

ABSENT = "11111111-1111-4111-8111-111111111111"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
WORKERS = 3


class Api:
    """Requests to one Admin API, on a connection each."""

    def __init__(self, gateway):
        self.gateway = gateway

    def __call__(self, method, path, body=None, headers=(), form=False):
        headers = list(headers)
        if body is not None:
            headers.append(("Content-Type", "application/x-www-form-urlencoded" if form else "application/json"))
            body = (urllib.parse.urlencode(body) if form else body if isinstance(body, str) else json.dumps(body)).encode()
        return http1.request(self.gateway.admin, method, path, headers, body, timeout=60)

    def ok(self, status, method, path, body=None, **more):
        answer = self(method, path, body, **more)
        assert answer.status == status, f"{method} {path}: {answer.status} {answer.text}"
        return json.loads(answer.body) if answer.body else None

    def error(self, status, method, path, body=None, **more):
        return self.ok(status, method, path, body, **more)

    def clear(self):
        """What clients wrote who went away in the middle may still be on its way."""
        wait_for(self.cleared, "nothing is in the store")

    def cleared(self):
        left = 0
        for path in ("filter-chains", "routes", "services", "consumers", "upstreams", "snis", "certificates", "ca_certificates"):
            for entity in self.ok(200, "GET", f"/{path}?size=1000")["data"]:
                left += self("DELETE", f"/{path}/{entity['id']}").status != 204
        return left == 0


def with_store(path, **more):
    return Gateway(path, **{"declarative_config": None, "database": None, "workers": WORKERS, **more})


@pytest.fixture(scope="module")
def running():
    with folder() as path:
        install(path / "filters", "my-c-filter", "configfail")
        with with_store(path).start() as gateway:
            yield gateway


@pytest.fixture
def api(running):
    api = Api(running)
    api.clear()
    return api


def a_service(**more):
    return {"name": "s", "host": "a.test", **more}


def not_found(**key):
    ((name, value),) = key.items()
    what = f"primary key '{{id=\"{value}\"}}'" if name == "id" else f"'{{{name}=\"{value}\"}}'"
    return {"code": 6, "name": "not found", "message": f"could not find the entity with {what}", "fields": key}


# ---- verbs ------------------------------------------------------------------------------------------------------------


def test_post_creates_with_defaults_and_a_generated_id(api):
    service = api.ok(201, "POST", "/services", a_service(tags=["x", "y", "x"]))
    assert UUID.fullmatch(service["id"])
    assert service["port"] == 80 and service["retries"] == 5 and service["path"] is None and service["tags"] == ["x", "y"]
    assert isinstance(service["created_at"], int) and service["created_at"] == service["updated_at"]
    assert api.ok(200, "GET", "/services/s") == service == api.ok(200, "GET", f"/services/{service['id'].upper()}")
    assert api.ok(200, "GET", "/services") == {"data": [service], "next": None}


def test_post_keeps_an_id_and_a_creation_time_that_the_client_gives(api):
    own = str(uuid.uuid4())
    service = api.ok(201, "POST", "/services", a_service(id=own.upper(), created_at=1000, updated_at=1000))
    assert service["id"] == own and service["created_at"] == 1000 and service["updated_at"] > 1000
    error = api.error(400, "POST", "/services", {"id": own, "name": "other", "host": "b.test"})
    assert error == {
        "code": 3,
        "name": error["name"],
        "message": f"primary key violation on key '{{id=\"{own}\"}}'",
        "fields": {"id": own},
    }


def test_forms_are_typed_by_the_schema(api):
    service = api.ok(201, "POST", "/services", {"name": "f", "url": "https://a.test/p", "retries": "7", "tags[]": "t", "enabled": "false"}, form=True)
    assert (service["protocol"], service["port"], service["path"], service["retries"], service["tags"], service["enabled"]) == ("https", 443, "/p", 7, ["t"], False)
    route = api.ok(201, "POST", "/routes", [("service.name", "f"), ("paths[]", "/a"), ("paths[]", "/b"), ("headers.x[]", "1")], form=True)
    assert route["service"] == {"id": service["id"]} and route["paths"] == ["/a", "/b"] and route["headers"] == {"x": ["1"]}


def test_put_creates_by_name_or_id_and_replaces_with_defaults(api):
    service = api.ok(200, "PUT", "/services/s", {"host": "a.test", "port": 81, "tags": ["x"], "created_at": 1000})
    assert service["name"] == "s" and service["port"] == 81
    again = api.ok(200, "PUT", "/services/s", {"host": "b.test"})
    assert again["id"] == service["id"] and again["port"] == 80 and again["tags"] is None and again["created_at"] == 1000
    own = str(uuid.uuid4())
    assert api.ok(200, "PUT", f"/services/{own}", {"host": "c.test"})["id"] == own
    assert api.ok(200, "PUT", f"/services/{own}", {"host": "c.test", "name": "n"})["name"] == "n"
    assert len(api.ok(200, "GET", "/services")["data"]) == 2
    assert api.error(400, "PUT", "/services/s", {"host": "b.test", "id": own})["fields"] == {"id": "immutable field cannot be updated"}


def test_patch_merges_and_refuses_what_is_absent(api):
    service = api.ok(201, "POST", "/services", a_service(port=81, tags=["x"]))
    patched = api.ok(200, "PATCH", "/services/s", {"path": "/p", "tags": None})
    assert {**patched, "updated_at": 0} == {**service, "path": "/p", "tags": None, "updated_at": 0}
    assert api.ok(200, "PATCH", "/services/s", {"url": "https://z.test"})["port"] == 443
    assert api.error(404, "PATCH", "/services/absent", {"port": 1}) == not_found(name="absent")
    assert api.error(404, "PATCH", f"/services/{ABSENT}", {"port": 1}) == not_found(id=ABSENT)
    assert api.error(400, "PATCH", "/services/s", {"port": -1})["fields"] == {"port": "value should be between 0 and 65535"}
    assert api.error(400, "PATCH", "/services/s", {"id": ABSENT})["fields"] == {"id": "immutable field cannot be updated"}
    upstream = api.ok(201, "POST", "/upstreams", {"name": "up.test", "healthchecks": {"active": {"concurrency": 3, "timeout": 2}}})
    merged = api.ok(200, "PATCH", f"/upstreams/{upstream['id']}", {"healthchecks": {"active": {"timeout": 5}}})
    assert merged["healthchecks"]["active"]["concurrency"] == 3 and merged["healthchecks"]["active"]["timeout"] == 5


def test_delete_answers_204_even_when_there_is_nothing(api):
    api.ok(201, "POST", "/services", a_service())
    for path in ("/services/s", "/services/s", f"/services/{ABSENT}", "/snis/absent", "/certificates/absent"):
        answer = api("DELETE", path)
        assert answer.status == 204 and answer.body == b""
    assert api("GET", "/services/s").status == 404


def test_methods_that_a_path_does_not_have(api):
    api.ok(201, "POST", "/services", a_service())
    for method in ("PUT", "PATCH", "DELETE"):
        assert api.error(405, method, "/services", {}) == {"message": "Method not allowed"}
    assert api.error(405, "POST", "/services/s", {}) == {"message": "Method not allowed"}
    assert api.error(400, "POST", "/config", {}) == {"message": "this endpoint is only available when Kong is configured to not use a database"}
    assert api.error(400, "GET", "/config") == {"message": "this endpoint is only available when Kong is configured to not use a database"}


def test_bad_bodies_change_nothing(api):
    assert api.error(400, "POST", "/services", "{") == {"message": "Cannot parse JSON body"}
    assert http1.request(api.gateway.admin, "POST", "/services", [("Content-Type", "text/plain")], b"x").status == 415
    error = api.error(400, "POST", "/services", {"name": "a b", "port": 70000, "unknown": 1})
    assert error["code"] == 2 and error["name"] == "schema violation" and error["message"].startswith("4 schema violations (host: required field missing; ")
    assert error["fields"] == {
        "host": "required field missing",
        "name": "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~",
        "port": "value should be between 0 and 65535",
        "unknown": "unknown field",
    }
    assert api.ok(200, "GET", "/services")["data"] == []


# ---- what must be unique, what must be there ----------------------------------------------------------------------------


def test_unique_fields_answer_409(api):
    api.ok(201, "POST", "/services", a_service())
    expected = {"code": 5, "name": "unique constraint violation", "message": "UNIQUE violation detected on '{name=\"s\"}'", "fields": {"name": "s"}}
    assert api.error(409, "POST", "/services", a_service()) == expected
    assert api.error(409, "PUT", f"/services/{ABSENT}", a_service()) == expected
    api.ok(201, "POST", "/services", a_service(name="t"))
    assert api.error(409, "PATCH", "/services/t", {"name": "s"}) == expected
    api.ok(201, "POST", "/consumers", {"username": "u", "custom_id": "c"})
    assert api.error(409, "POST", "/consumers", {"username": "v", "custom_id": "c"})["fields"] == {"custom_id": "c"}


def test_a_reference_to_nothing_is_refused(api):
    error = api.error(400, "POST", "/routes", {"paths": ["/"], "service": {"id": ABSENT}})
    assert error == {
        "code": 4,
        "name": "foreign key violation",
        "message": f"the foreign key '{{id=\"{ABSENT}\"}}' does not reference an existing 'services' entity.",
        "fields": {"service": {"id": ABSENT}},
    }
    error = api.error(400, "POST", "/routes", {"paths": ["/"], "service": {"name": "ghost"}})
    text = "the foreign key cannot be resolved with '{name=\"ghost\"}' for an existing 'services' entity"
    assert error == {
        "code": 13,
        "name": "foreign keys unresolved",
        "message": f"foreign key unresolved (service.name: {text})",
        "fields": {"service": {"name": text}},
    }
    assert api.ok(200, "GET", "/routes")["data"] == []


def test_what_others_refer_to_is_kept_or_takes_them_along(api):
    api.ok(201, "POST", "/services", a_service())
    api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
    api.ok(201, "POST", "/services/s/filter-chains", {"name": "c", "filters": [{"name": "my-c-filter"}]})
    error = api.error(400, "DELETE", "/services/s")
    assert error == {
        "code": 4,
        "name": "foreign key violation",
        "message": "an existing 'routes' entity references this 'services' entity",
        "fields": {"@referenced_by": "routes"},
    }
    api.ok(204, "DELETE", "/routes/r")
    api.ok(204, "DELETE", "/services/s")
    assert api.ok(200, "GET", "/filter-chains")["data"] == []


# ---- nested and foreign endpoints ------------------------------------------------------------------------------------------


def test_children_are_created_and_changed_below_their_parent_only(api):
    one = api.ok(201, "POST", "/services", a_service(name="one"))
    two = api.ok(201, "POST", "/services", a_service(name="two"))
    route = api.ok(201, "POST", "/services/one/routes", {"name": "r", "paths": ["/"], "service": {"id": two["id"]}})
    assert route["service"] == {"id": one["id"]}
    assert api.ok(200, "GET", "/services/one/routes")["data"] == [route] and api.ok(200, "GET", "/services/two/routes")["data"] == []
    assert api.ok(200, "GET", "/services/one/routes/r") == route
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert api(method, "/services/two/routes/r", None if method in ("GET", "DELETE") else {"paths": ["/x"]}).status == 404
    assert api.ok(200, "PATCH", "/services/one/routes/r", {"paths": ["/y"]})["paths"] == ["/y"]
    assert api.ok(200, "PUT", "/services/two/routes/q", {"paths": ["/q"]})["service"] == {"id": two["id"]}
    assert api.error(404, "POST", "/services/absent/routes", {"paths": ["/"]}) == {"message": "Not found"}
    api.ok(204, "DELETE", "/services/one/routes/r")
    assert [r["name"] for r in api.ok(200, "GET", "/routes")["data"]] == ["q"]


def test_the_parent_is_read_changed_and_made_through_the_child(api):
    api.ok(201, "POST", "/routes", {"name": "r", "paths": ["/"]})
    assert api("GET", "/routes/r/service").status == 404
    assert api("PATCH", "/routes/r/service", {"port": 1}).status == 404
    assert api("DELETE", "/routes/r/service").status == 404
    made = api.ok(200, "PUT", "/routes/r/service", a_service())
    assert api.ok(200, "GET", "/routes/r")["service"] == {"id": made["id"]}
    assert api.ok(200, "GET", "/routes/r/service") == made
    assert api.ok(200, "PATCH", "/routes/r/service", {"port": 81})["port"] == 81
    again = api.ok(200, "PUT", "/routes/r/service", {"host": "b.test"})
    assert again["id"] == made["id"] and again["port"] == 80 and again["name"] is None
    assert api("DELETE", "/routes/r/service").status == 405
    assert api("PUT", "/routes/absent/service", {"host": "x"}).status == 404


def test_lists_have_pages_and_tags(api):
    for i in range(7):
        api.ok(200, "PUT", f"/services/s{i}", {"host": "a.test", "tags": ["even"] if i % 2 == 0 else ["odd", "a"]})
    names, path = [], "/services?size=3"
    while path:
        page = api.ok(200, "GET", path)
        assert len(page["data"]) <= 3 and ("offset" in page) == (page["next"] is not None)
        names += [s["name"] for s in page["data"]]
        path = page["next"]
    assert sorted(names) == [f"s{i}" for i in range(7)]
    tagged, path = [], "/services?tags=even&size=1"
    while path:
        page = api.ok(200, "GET", path)
        tagged += [s["name"] for s in page["data"]]
        path = page["next"]
    assert sorted(tagged) == ["s0", "s2", "s4", "s6"]
    assert len(api.ok(200, "GET", "/services?tags=even/a")["data"]) == 7
    rows = api.ok(200, "GET", "/tags/odd")["data"]
    assert len(rows) == 3 and all(r["tag"] == "odd" and r["entity_name"] == "services" for r in rows)
    assert len(api.ok(200, "GET", "/tags")["data"]) == 4 + 2 * 3


# ---- the entities one by one -------------------------------------------------------------------------------------------------


def test_filter_chains_one_per_parent_and_whole_lists(api):
    service = api.ok(201, "POST", "/services", a_service())
    filters = [{"name": "my-c-filter", "config": json.dumps({"my_greeting": "a"})}]
    chain = api.ok(201, "POST", "/services/s/filter-chains", {"name": "c", "filters": filters})
    assert chain["filters"] == [{"name": "my-c-filter", "enabled": True, "config": filters[0]["config"]}]
    error = api.error(409, "POST", "/filter-chains", {"service": {"name": "s"}, "filters": filters})
    assert error["fields"] == {"route": None, "service": {"id": service["id"]}}
    assert error["message"] == f"UNIQUE violation detected on '{{route=null,service={{id=\"{service['id']}\"}}}}'"
    assert api.ok(200, "PATCH", "/filter-chains/c", {"filters": [{"name": "my-c-filter"}]})["filters"] == [{"name": "my-c-filter", "enabled": True, "config": None}]
    error = api.error(400, "POST", "/filter-chains", {"service": {"name": "s"}, "filters": [{"name": "my-c-filter"}, {"name": "ghost"}]})
    assert error["fields"] == {"filters": [None, {"name": "no such filter"}]}
    error = api.error(400, "POST", "/filter-chains", {"filters": filters})
    assert error["fields"] == {"@entity": ["at least one of these fields must be non-empty: 'service', 'route'"]}
    assert api.ok(200, "GET", "/filter-chains/c/service")["id"] == service["id"]
    assert [c["id"] for c in api.ok(200, "GET", "/services/s/filter-chains")["data"]] == [chain["id"]]


def test_a_filter_that_does_not_start_is_refused_with_its_name(api):
    api.ok(201, "POST", "/services", a_service())
    for _ in range(2):
        error = api.error(400, "POST", "/services/s/filter-chains", {"name": "c", "filters": [{"name": "configfail", "config": "x"}]})
        assert error["code"] == 2 and "configfail" in error["fields"]["@entity"][0] and "configfail" in error["message"]
    assert api.ok(200, "GET", "/filter-chains")["data"] == []
    api.ok(201, "POST", "/services/s/filter-chains", {"name": "c", "filters": [{"name": "configfail", "config": "x", "enabled": False}]})
    error = api.error(400, "PATCH", "/filter-chains/c", {"filters": [{"name": "configfail", "config": "x"}]})
    assert "configfail" in error["message"]
    assert api.ok(200, "GET", "/filter-chains/c")["filters"][0]["enabled"] is False


def test_upstreams_and_targets(api):
    upstream = api.ok(201, "POST", "/upstreams", {"name": "up.test"})
    assert api.error(400, "POST", "/upstreams", {"name": "127.0.0.1"})["fields"] == {"name": "Invalid name ('127.0.0.1'); no ip addresses allowed"}
    for i in range(5):
        target = api.ok(201, "POST", "/upstreams/up.test/targets", {"target": f"t{i}", "weight": i})
        assert target["target"] == f"t{i}:8000" and target["upstream"] == {"id": upstream["id"]} and isinstance(target["created_at"], float)
    error = api.error(409, "POST", "/upstreams/up.test/targets", {"target": "t1:8000"})
    assert error["fields"] == {"upstream": {"id": upstream["id"]}, "target": "t1:8000"}
    assert [t["target"] for t in api.ok(200, "GET", "/upstreams/up.test/targets")["data"]] == [f"t{i}:8000" for i in (4, 3, 2, 1, 0)]
    page = api.ok(200, "GET", "/upstreams/up.test/targets?size=3")
    assert [t["target"] for t in api.ok(200, "GET", page["next"])["data"]] == ["t1:8000", "t0:8000"]
    assert api.ok(200, "PATCH", "/upstreams/up.test/targets/t2:8000", {"weight": 0})["weight"] == 0
    assert api.ok(200, "GET", f"/upstreams/up.test/targets/{target['id']}")["target"] == "t4:8000"
    api.ok(204, "DELETE", "/upstreams/up.test/targets/t2:8000")
    assert len(api.ok(200, "GET", "/upstreams/up.test/targets/all")["data"]) == 4
    assert api("GET", "/targets").status == 404 and api("POST", "/targets", {}).status == 404
    other = api.ok(201, "POST", "/upstreams", {"name": "other.test"})
    api.ok(201, "POST", f"/upstreams/{other['id']}/targets", {"target": "t1"})
    api.ok(204, "DELETE", "/upstreams/up.test")
    assert [t["target"] for t in api.ok(200, "GET", "/upstreams/other.test/targets")["data"]] == ["t1:8000"]


def test_consumers(api):
    consumer = api.ok(200, "PUT", "/consumers/jane", {"custom_id": "7"})
    assert consumer["username"] == "jane" and api.ok(200, "GET", "/consumers/jane") == consumer
    assert api.ok(200, "GET", "/consumers?custom_id=7") == {"data": [consumer], "next": None}
    assert api.ok(200, "GET", "/consumers?custom_id=8") == {"data": [], "next": None}
    error = api.error(400, "POST", "/consumers", {"tags": ["x"]})
    assert error["fields"] == {"@entity": ["at least one of these fields must be non-empty: 'custom_id', 'username'"]}
    assert api.ok(200, "PATCH", "/consumers/jane", {"username": None})["username"] is None
    assert api("GET", "/consumers/jane").status == 404


@functools.cache
def a_pair(name, ca=False):
    """A certificate and its key as PEM."""
    with folder() as path:
        more = ["-addext", "basicConstraints=critical,CA:TRUE"] if ca else []
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
            + ["-subj", f"/CN={name}", "-keyout", path / "key", "-out", path / "cert", *more],
            check=True,
            capture_output=True,
        )
        return (path / "cert").read_text(), (path / "key").read_text()


def test_certificates_and_their_server_names(api):
    cert, key = a_pair("one")
    one = api.ok(201, "POST", "/certificates", {"cert": cert, "key": key, "snis": ["b.test", "a.test"]})
    assert sorted(one["snis"]) == ["a.test", "b.test"] and one["cert"] == cert
    assert api.ok(200, "GET", "/certificates/a.test")["id"] == one["id"]
    assert sorted(api.ok(200, "GET", "/certificates")["data"][0]["snis"]) == ["a.test", "b.test"]
    assert {s["name"] for s in api.ok(200, "GET", f"/certificates/{one['id']}/snis")["data"]} == {"a.test", "b.test"}
    error = api.error(400, "POST", "/certificates", {"cert": cert, "key": key, "snis": ["c.test", "a.test"]})
    assert error["fields"] == {"snis": f"a.test already associated with existing certificate '{one['id']}'"}
    error = api.error(400, "POST", "/certificates", {"cert": cert, "key": key, "snis": ["c.test", "c.test"]})
    assert error["fields"] == {"snis": "c.test is duplicated"}
    assert {s["name"] for s in api.ok(200, "GET", "/snis")["data"]} == {"a.test", "b.test"}
    assert sorted(api.ok(200, "PATCH", "/certificates/a.test", {"snis": ["b.test", "d.test"]})["snis"]) == ["b.test", "d.test"]
    assert {s["name"] for s in api.ok(200, "GET", "/snis")["data"]} == {"b.test", "d.test"}
    assert sorted(api.ok(200, "PATCH", f"/certificates/{one['id']}", {"tags": ["t"]})["snis"]) == ["b.test", "d.test"]
    made = api.ok(200, "PUT", "/certificates/new.test", {"cert": cert, "key": key})
    assert made["snis"] == ["new.test"] and api.ok(200, "PUT", "/certificates/new.test", {"cert": cert, "key": key})["id"] == made["id"]
    other = a_pair("two")[1]
    assert api.error(400, "POST", "/certificates", {"cert": cert, "key": other})["fields"] == {"@entity": ["certificate does not match key"]}
    api.ok(204, "DELETE", f"/certificates/{one['id']}")
    assert [s["name"] for s in api.ok(200, "GET", "/snis")["data"]] == ["new.test"]
    sni = api.ok(200, "PUT", "/snis/z.test", {"certificate": {"id": made["id"]}})
    assert api.ok(200, "GET", "/snis/z.test") == sni
    assert api.error(409, "POST", "/snis", {"name": "z.test", "certificate": {"id": made["id"]}})["fields"] == {"name": "z.test"}
    assert api.error(400, "POST", "/snis", {"name": "y.test", "certificate": {"id": ABSENT}})["code"] == 4


def test_ca_certificates(api):
    cert = a_pair("ca", ca=True)[0]
    ca = api.ok(201, "POST", "/ca_certificates", {"cert": cert})
    assert re.fullmatch(r"[0-9a-f]{64}", ca["cert_digest"])
    assert api.error(409, "POST", "/ca_certificates", {"cert": cert})["fields"] == {"cert_digest": ca["cert_digest"]}
    error = api.error(400, "PUT", "/ca_certificates/no-id", {"cert": cert})
    assert error["code"] == 1 and error["message"] == "invalid primary key: '{id=\"no-id\"}'"
    api.ok(204, "DELETE", f"/ca_certificates/{ca['id']}")


# ---- conditions and transactions -----------------------------------------------------------------------------------------------


def test_conditional_writes_go_by_the_revision(api):
    made = api("POST", "/services", a_service())
    tag = made.get("etag")
    assert re.fullmatch(r'"\d+"', tag) and api("GET", "/services/s").get("etag") == tag
    assert api("GET", "/services/s", headers=[("If-None-Match", tag)]).status == 304
    changed = api("PATCH", "/services/s", {"port": 81}, headers=[("If-Match", tag)])
    assert changed.status == 200 and changed.get("etag") != tag and changed.get("etag") == api("GET", "/services/s").get("etag")
    for method, body in (("PATCH", {"port": 82}), ("PUT", {"host": "b.test"}), ("DELETE", None)):
        refused = api(method, "/services/s", body, headers=[("If-Match", tag)])
        assert refused.status == 412 and refused.get("etag") == changed.get("etag")
    assert api("PUT", "/services/new", {"host": "a"}, headers=[("If-Match", "*")]).status == 412
    assert api("PUT", "/services/s", {"host": "a"}, headers=[("If-None-Match", "*")]).status == 412
    assert api.ok(200, "GET", "/services/s")["port"] == 81
    assert api("DELETE", "/services/s", headers=[("If-Match", f'"0", {changed.get("etag")}')]).status == 204


def test_a_transaction_is_all_or_nothing(api):
    operations = [
        {"op": "post", "path": "/routes", "body": {"name": "r", "paths": ["/"], "service": {"id": ABSENT}}},
        {"op": "put", "path": f"/services/{ABSENT}", "body": {"name": "s", "host": "a.test"}},
        {"op": "patch", "path": "/services/s", "body": {"port": 81}},
        {"op": "put", "path": "/services/s/filter-chains/c", "body": {"filters": [{"name": "my-c-filter"}]}},
        {"op": "delete", "path": "/consumers/absent"},
    ]
    results = api.ok(200, "POST", "/transactions", {"operations": operations})["results"]
    assert [r["status"] for r in results] == [201, 200, 200, 200, 204]
    assert results[2]["body"]["port"] == 81 and results[4]["body"] is None
    assert api.ok(200, "GET", "/routes/r/service")["port"] == 81
    before = api("GET", "/services/s").get("etag")
    error = api.error(409, "POST", "/transactions", {"operations": [{"op": "patch", "path": "/services/s", "body": {"port": 1}}, {"op": "post", "path": "/services", "body": a_service()}]})
    assert error["index"] == 1 and error["error"]["code"] == 5
    assert error["message"].startswith("operation 1 failed, nothing was changed: UNIQUE violation")
    error = api.error(400, "POST", "/transactions", {"operations": [{"op": "put", "path": "/services/t", "body": {"host": "h"}}, {"op": "patch", "path": "/routes/r", "body": {"service": {"id": str(uuid.UUID(int=7))}}}]})
    assert error["index"] == 1 and error["error"]["code"] == 4
    error = api.error(400, "POST", "/transactions", {"operations": [{"op": "patch", "path": "/filter-chains/c", "body": {"filters": [{"name": "configfail", "config": ""}]}}]})
    assert "configfail" in error["message"]
    stale = {"op": "delete", "path": "/routes/r", "if_match": '"0"'}
    assert api.error(412, "POST", "/transactions", {"operations": [stale]})["index"] == 0
    for bad in ([], {"operations": {}}, {"operations": [{"op": "get", "path": "/services"}]}, {"operations": [{"op": "put", "path": "x"}]}, {"operations": [1]}):
        assert api("POST", "/transactions", bad).status == 400
    assert api.error(404, "POST", "/transactions", {"operations": [{"op": "delete", "path": "/status"}]})["index"] == 0
    assert api("GET", "/services/s").get("etag") == before and api("GET", "/services/t").status == 404


# ---- all workers -------------------------------------------------------------------------------------------------------------


def status_everywhere(gateway, path, times=12):
    """Statuses from new connections, which go to all workers."""
    return {gateway.get(path).status for _ in range(times)}


def test_what_was_answered_is_served_by_all_workers(api, origin):
    api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
    for i in range(20):
        api.ok(201, "POST", "/services/s/routes", {"name": f"r{i}", "paths": [f"/p{i}-"]})
        assert status_everywhere(api.gateway, f"/p{i}-") == {200}
        api.ok(200, "PATCH", f"/routes/r{i}", {"paths": [f"/q{i}-"]})
        assert status_everywhere(api.gateway, f"/p{i}-") == {404} and status_everywhere(api.gateway, f"/q{i}-") == {200}
    api.ok(201, "POST", "/services/s/filter-chains", {"name": "c", "filters": [{"name": "my-c-filter", "config": json.dumps({"my_greeting": "hello"})}]})
    for _ in range(12):
        assert "hello" in str(api.gateway.get("/q1-").headers)
    api.ok(200, "PATCH", "/services/s", {"enabled": False})
    assert status_everywhere(api.gateway, "/q1-") == {404}


def test_many_writers_at_once_lose_nothing(api, origin):
    api.ok(201, "POST", "/services", {"name": "s", "url": origin.url, "retries": 0})

    def write(writer):
        for i in range(12):
            answer = api("PUT", f"/routes/w{writer}-{i}", {"paths": [f"/w{writer}-{i}-"], "service": {"name": "s"}})
            assert answer.status == 200, answer.text
            assert api.gateway.get(f"/w{writer}-{i}-").status == 200
            while True:  # one more retry, unless somebody else was faster
                now = api("GET", "/services/s")
                more = api("PATCH", "/services/s", {"retries": json.loads(now.body)["retries"] + 1}, headers=[("If-Match", now.get("etag"))])
                if more.status == 200:
                    break
                assert more.status == 412, more.text

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        for done in [pool.submit(write, writer) for writer in range(10)]:
            done.result()
    names = {r["name"] for r in api.ok(200, "GET", "/routes?size=1000")["data"]}
    assert names == {f"w{w}-{i}" for w in range(10) for i in range(12)}
    assert api.ok(200, "GET", "/services/s")["retries"] == 120


def test_traffic_goes_on_while_the_configuration_changes(api, origin):
    api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
    api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/r"]})
    bad, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            status = api.gateway.get("/r").status
            if status != 200:
                bad.append(status)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(40):
            api.ok(200, "PUT", f"/consumers/u{i % 3}", {"custom_id": f"c{i}"})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert bad == []


def test_clients_that_go_away_disturb_nothing(api, origin):
    api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
    for i in range(60):
        body = json.dumps({"paths": [f"/gone{i}-"], "service": {"name": "s"}}).encode()
        head = f"PUT /routes/gone{i} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", api.gateway.admin)) as connection:
            if i % 3 == 0:  # a reset instead of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(head + body)
            if i % 3 == 1:
                connection.recv(1)
    wait_for(lambda: status_everywhere(api.gateway, "/gone58-") == {200}, "what was written before the client went")
    assert len(api.gateway.workers()) == WORKERS and api.ok(200, "GET", "/status")["database"]["reachable"]


def test_head_and_options(api):
    api.ok(201, "POST", "/services", a_service())
    head = api("HEAD", "/services/s")
    assert head.status == 200 and head.body == b"" and int(head.get("content-length")) > 100 and head.get("etag")
    assert api("OPTIONS", "/services/s").get("allow") == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    assert api("OPTIONS", "/transactions").get("allow") == "OPTIONS, POST"


def test_another_process_may_write_into_the_store(api, origin, tmp_path):
    api.ok(201, "POST", "/services", {"name": "kept", "url": origin.url})
    document = tmp_path / "more.yml"
    document.write_text(f"_format_version: '3.0'\nservices: [{{name: imported, url: '{origin.url}', routes: [{{name: i, paths: [/imported]}}]}}]\n")
    done = api.gateway.run("config", "db_import", document)
    assert done.returncode == 0 and done.stdout == "parse successful, beginning import\nimport successful\n", done
    wait_for(lambda: status_everywhere(api.gateway, "/imported") == {200}, "the imported route")
    assert {s["name"] for s in api.ok(200, "GET", "/services")["data"]} == {"kept", "imported"}
    exported = tmp_path / "out.yml"
    done = api.gateway.run("config", "db_export", exported)
    assert done.returncode == 0, done
    assert "name: kept" in exported.read_text() and "name: imported" in exported.read_text()
    done = api.gateway.run("config", "db_export", exported)
    assert done.returncode == 1 and done.stderr == f"Error: {exported} already exists.\nWill not overwrite it.\n"
    api.clear()
    assert api.gateway.run("config", "db_import", exported).returncode == 0
    assert {s["name"] for s in api.ok(200, "GET", "/services")["data"]} == {"kept", "imported"}


# ---- restarts, kills, damage ---------------------------------------------------------------------------------------------------


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            s.listen()
        except OSError:
            return False
    return True


def kill_everything(gateway):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    gateway.process = None
    wait_for(lambda: is_free(gateway.proxy) and is_free(gateway.admin), "the workers to be gone")


def test_a_restart_keeps_what_was_written(home, origin):
    gateway = with_store(home)
    api = Api(gateway)
    with gateway.start():
        assert api.ok(200, "GET", "/services") == {"data": [], "next": None}
        assert api.ok(200, "GET", "/status")["database"] == {"reachable": True}
        service = api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
        api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
    store = gateway.prefix / "state/sluice.db"
    assert os.readlink(gateway.prefix / "sluice.db") == "state/sluice.db"
    assert store.stat().st_mode & 0o777 == 0o600 and store.stat().st_uid == (gateway.prefix / "state").stat().st_uid
    with gateway.start():
        assert api.ok(200, "GET", "/services/s") == service and gateway.get("/x").status == 200
        assert gateway.run("reload").returncode == 0
        api.ok(200, "PUT", "/routes/q", {"hosts": ["q.test"], "paths": ["/"], "service": {"name": "s"}})
        api.ok(204, "DELETE", "/routes/r")
        wait_for(lambda: status_everywhere(gateway, "/x") == {404}, "the workers of the reload")


def test_reloads_during_writes_lose_nothing(home, origin):
    gateway = with_store(home)
    api, acknowledged, stop = Api(gateway), [], threading.Event()
    with gateway.start():
        api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})

        def write(writer):
            for i in range(100000):
                if stop.is_set():
                    return
                with contextlib.suppress(OSError, http1.Closed):
                    answer = api("PUT", f"/routes/w{writer}-{i}", {"paths": [f"/w{writer}-{i}-"], "service": {"name": "s"}})
                    assert answer.status == 200, answer.text
                    acknowledged.append(f"/w{writer}-{i}-")

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(write, writer) for writer in range(3)]
            for _ in range(5):
                before = len(acknowledged)
                wait_for(lambda before=before: len(acknowledged) > before + 10, "writes")
                assert gateway.run("reload").returncode == 0
            stop.set()
            for writer in writers:
                writer.result()
        wait_for(lambda: all(status_everywhere(gateway, path, 3) == {200} for path in acknowledged), "all acknowledged routes")


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_kill_9_of_everything_loses_nothing_that_was_acknowledged(home, rounds):
    gateway = with_store(home, workers=2)
    api, acknowledged, tried = Api(gateway), {}, {}
    for number in range(rounds):
        gateway.start()
        found = {}
        path = "/services?size=1000"
        while path:
            page = api.ok(200, "GET", path)
            found.update({s["name"]: s["port"] for s in page["data"]})
            path = page["next"]
        assert {n: p for n, p in acknowledged.items() if found.get(n) not in (p, tried.get(n))} == {}
        acknowledged = dict(found)
        enough = threading.Semaphore(0)

        def write(writer, number=number, enough=enough):
            for i in range(10000):
                name, port = f"w{writer}-{i % 5}", number * 1000 % 60000 + i % 1000
                tried[name] = port
                try:
                    answer = api("PUT", f"/services/{name}", {"host": "a.test", "port": port})
                except (OSError, http1.Closed):
                    return
                if answer.status != 200:
                    return
                acknowledged[name] = port
                enough.release()

        threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5 + 7 * (number % 5)):
            assert enough.acquire(timeout=30)
        kill_everything(gateway)
        for thread in threads:
            thread.join()
    assert len(acknowledged) > 10


def test_a_worker_that_dies_during_writes_loses_nothing(home, origin):
    gateway = with_store(home, workers=2)
    gateway.allowed.append("exited on signal 9")
    api = Api(gateway)
    with gateway.start():
        api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
        acknowledged = []
        for i in range(30):
            if i % 5 == 2:
                os.kill(gateway.workers()[0], signal.SIGKILL)
            try:
                answer = api("PUT", f"/routes/r{i}", {"paths": [f"/r{i}-"], "service": {"name": "s"}})
            except (OSError, http1.Closed):
                continue
            assert answer.status == 200, answer.text
            acknowledged.append(i)
        assert len(acknowledged) > 15

        def served():
            try:
                return all(gateway.get(f"/r{i}-").status == 200 for i in acknowledged)
            except (OSError, http1.Closed):
                return False

        wait_for(served, "all acknowledged routes")


def test_a_damaged_store_leaves_the_last_good_plan(home, origin):
    gateway = with_store(home)
    api = Api(gateway)
    with gateway.start():
        api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
        api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
    store = gateway.prefix / "state/sluice.db"
    store.write_bytes(b"not a database" * 1000)
    gateway.allowed.append("cannot be published")
    with gateway.start():
        assert gateway.get("/x").status == 200
        assert "the last good configuration is served" in gateway.stderr()
        error = api.error(500, "GET", "/services")
        assert error["message"] == "An unexpected error occurred" and "sluice.db" in error["reason"]
        assert gateway.get("/x").status == 200
    (gateway.prefix / "state/plan").unlink()
    gateway.launch()
    assert gateway.process.wait(30) == 1
    assert "sluice.db" in gateway.stderr().splitlines()[-1]
    gateway.process = None


def test_a_store_that_is_moved_away_takes_no_writes_until_one_is_put_back(home, origin):
    gateway = with_store(home)
    gateway.allowed.append("cannot be published")
    gateway.allowed.append("moved away or deleted")
    api = Api(gateway)
    state = gateway.prefix / "state"
    with gateway.start():
        api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
        api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
        for path in state.glob("sluice.db*"):
            path.rename(home / path.name)
        assert "moved away or deleted" in api.error(500, "POST", "/services", {"name": "lost", "url": origin.url})["reason"]
        assert not (state / "sluice.db").exists()
        assert gateway.get("/x").status == 200
        for name in ("sluice.db-wal", "sluice.db-shm", "sluice.db"):
            if (home / name).exists():
                (home / name).rename(state / name)
        api.ok(201, "POST", "/services", {"name": "kept", "url": origin.url})
        assert gateway.get("/x").status == 200
    with gateway.start():
        assert [s["name"] for s in api.ok(200, "GET", "/services")["data"] if s["name"] != "s"] == ["kept"]
        assert gateway.get("/x").status == 200


@pytest.fixture
def small_disk(home):
    """A file system of 3 MB where the gateway keeps its state."""
    state = home / "prefix/state"
    state.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", state], capture_output=True).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield home
    subprocess.run(["umount", "-l", state], check=True)


def test_a_full_disk_is_an_error_that_says_so_and_traffic_goes_on(small_disk, origin):
    gateway = with_store(small_disk)
    gateway.allowed.append("cannot be published")
    api = Api(gateway)
    with gateway.start():
        api.ok(201, "POST", "/services", {"name": "s", "url": origin.url})
        api.ok(201, "POST", "/services/s/routes", {"name": "r", "paths": ["/r"]})
        kept, large = [], {"host": "a.test", "tags": [f"{i}-" + "x" * 200 for i in range(200)]}
        for i in range(100):
            answer = api("PUT", f"/services/large{i}", large)
            if answer.status != 200:
                break
            kept.append(f"large{i}")
        assert answer.status == 500 and "no space left" in json.loads(answer.body)["reason"]
        assert status_everywhere(gateway, "/r") == {200}
        assert {s["name"] for s in api.ok(200, "GET", "/services?size=1000")["data"]} == {"s", *kept}


# ---- settings and commands ---------------------------------------------------------------------------------------------------------


def test_what_the_database_setting_means(home):
    for settings, word in (
        ({"database": "postgres"}, "postgres"),
        ({"pg_host": "db.test"}, "PostgreSQL"),
        ({"database": "sqlite", "declarative_config": "/nothing.yml"}, "db_import"),
    ):
        gateway = with_store(home, **settings).launch()
        assert gateway.process.wait(30) == 1
        gateway.process = None
        assert word in gateway.stderr().splitlines()[-1]
    gateway = Gateway(home, declarative_config=None)
    done = gateway.run("config", "db_export", home / "x.yml")
    assert done.returncode == 1 and "there is no database" in done.stderr and not (home / "x.yml").exists()


def test_config_init_and_parse(tmp_path):
    assert sluice("config", "init", cwd=tmp_path).returncode == 0
    done = sluice("config", "init", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == "Error: kong.yml already exists.\nWill not overwrite it.\n"
    done = sluice("config", "parse", "kong.yml", "-p", tmp_path / "prefix", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "parse successful\n", done
    (tmp_path / "bad.yml").write_text("_format_version: '3.0'\nservices: [{name: x}]\n")
    done = sluice("config", "parse", "bad.yml", cwd=tmp_path)
    assert done.returncode == 1 and "services[0].host: required field missing" in done.stderr
    assert sluice("config").returncode == 2 and sluice("config", "parse").returncode == 2


def test_the_store_is_readable_for_other_tools(running):
    """What an operator may look at: an ordinary SQLite file."""
    Api(running).ok(200, "PUT", "/services/looked-at", {"host": "a.test"})
    with contextlib.closing(sqlite3.connect(f"file:{running.prefix}/sluice.db?mode=ro", uri=True)) as db:
        assert any("looked-at" in row[0] for row in db.execute("SELECT json FROM entities"))
