"""Filters through the Admin API: uploads, versions, switching under load, what must not get in, what survives."""

import contextlib
import functools
import json
import os
import signal
import threading
import time

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import FILTERS, Gateway, echoed, folder, free_port, install, one_service, origin, origin_server, sluice, wait_for  # noqa: F401
from support import http1, http2

WORKERS = 3


@functools.cache
def original():
    return (FILTERS / "versioned.wasm").read_bytes()


def version(n):
    """The module of a version: what it says of itself is the only difference."""
    return original().replace(b"version-000000", b"version-%06d" % n)


def name_of(n):
    return "version-%06d" % n


class Api:
    def __init__(self, gateway):
        self.gateway = gateway

    def __call__(self, method, path, body=None, content_type=None):
        headers = []
        if body is not None:
            content_type = content_type or ("application/wasm" if isinstance(body, bytes) else "application/json")
            headers.append(("Content-Type", content_type))
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return http1.request(self.gateway.admin, method, path, headers, body, timeout=60)

    def ok(self, status, method, path, body=None, content_type=None):
        answer = self(method, path, body, content_type)
        assert answer.status == status, f"{method} {path}: {answer.status} {answer.text[:1000]}"
        return json.loads(answer.body) if answer.body else None


def with_store(path, **more):
    return Gateway(path, **{"declarative_config": None, "database": None, "workers": WORKERS, **more})


def a_chain(api, url, **entry):
    """A service and a route for every path, with a filter."""
    api.ok(200, "PUT", "/services/s", {"url": url})
    api.ok(200, "PUT", "/services/s/routes/r", {"paths": ["/"]})
    return api.ok(200, "PUT", "/routes/r/filter-chains/c", {"filters": [{"name": "v", **entry}]})


def runs(gateway):
    """The versions that requests meet, over a few connections, so that each worker is asked."""
    return {echoed(gateway.get("/"))["headers"].get("x-version") for _ in range(4 * WORKERS)}


@pytest.fixture(scope="module")
def running(origin_server):  # noqa: F811
    with folder() as path:
        install(path / "filters", filed="versioned")
        with with_store(path).start() as gateway:
            yield gateway


@pytest.fixture
def api(running):
    api = Api(running)
    for path in ("filter-chains", "routes", "services"):
        for entity in api.ok(200, "GET", f"/{path}?size=1000")["data"]:
            api.ok(204, "DELETE", f"/{path}/{entity['id']}")
    for entity in api.ok(200, "GET", "/filters")["data"]:
        if entity["source"] == "store":
            api.ok(204, "DELETE", f"/filters/{entity['name']}")
    return api


# ---- what there is -----------------------------------------------------------------------------------------------------


def test_files_and_uploads_are_listed_with_who_uses_them(api, origin_server):
    uploaded = api.ok(201, "PUT", "/filters/v?version=1.0.0", version(1))
    assert (uploaded["source"], uploaded["version"], uploaded["number"] >= 1, uploaded["current"]) == ("store", "1.0.0", True, True)
    chain = a_chain(api, origin_server.url)
    filed, v = api.ok(200, "GET", "/filters")["data"]
    assert (filed["name"], filed["source"], filed["version"], filed["filter_chains"]) == ("filed", "file", None, [])
    assert filed["abi"] == v["abi"] == "0.2.1"
    assert (v["name"], v["filter_chains"], v["versions"]) == ("v", [chain["id"]], ["1.0.0"])
    assert v["size_bytes"] == len(original()) and len(v["sha256"]) == 64 and v["sha256"] != filed["sha256"]
    assert api.ok(200, "GET", "/endpoints")["data"].count("/filters/{filters}/versions/{versions}") == 1


def test_filters_and_versions_are_shown_in_pages(api):
    for name in "cab":
        api.ok(201, "PUT", f"/filters/{name}", version(1))
    for i in range(2, 5):
        api.ok(201, "PUT", "/filters/a", version(i))
    for path, key in (("/filters", "name"), ("/filters/a/versions", "number")):
        whole = api.ok(200, "GET", path)
        assert whole["next"] is None and "offset" not in whole and len(whole["data"]) == 4
        for size in (1, 2, 3, 4):
            seen, following = [], f"{path}?size={size}"
            while following:
                page = api.ok(200, "GET", following)
                assert 1 <= len(page["data"]) <= size and (page["next"] is None) == ("offset" not in page)
                seen += page["data"]
                following = page["next"]
            assert seen == whole["data"] and len({e[key] for e in seen}) == 4
        assert json.loads(api("GET", f"{path}?size=0").body)["code"] == 9
        assert json.loads(api("GET", f"{path}?offset=!").body)["code"] == 7


def test_compiled_code_goes_with_its_version(api, origin_server, running):
    def code():
        return len(list((running.prefix / "state/cache").glob("*.cwasm")))

    before = code()
    one = api.ok(201, "PUT", "/filters/v", version(41))["number"]
    a_chain(api, origin_server.url)
    api.ok(201, "PUT", "/filters/v", version(42))
    api.ok(201, "PUT", "/filters/w", version(42))
    assert code() == before + 2 and runs(running) == {name_of(42)}
    api.ok(204, "DELETE", f"/filters/v/versions/{one}")
    assert code() == before + 1
    api.ok(204, "DELETE", "/filters/w")
    assert code() == before + 1  # v has the same bytes
    assert runs(running) == {name_of(42)}
    for chain in api.ok(200, "GET", "/filter-chains")["data"]:
        api.ok(204, "DELETE", f"/filter-chains/{chain['id']}")
    api.ok(204, "DELETE", "/filters/v")
    assert code() == before


def test_a_filter_is_inspected(api):
    api.ok(201, "PUT", "/filters/v", version(1))
    v = api.ok(200, "GET", "/filters/v")
    assert {"module": "env", "name": "proxy_get_buffer_bytes", "kind": "func", "type": "iiiii:i"} in v["imports"]
    assert "proxy_abi_version_0_2_1" in [e["name"] for e in v["exports"]]
    assert set(v["needed_grants"]) >= {"headers-write"}
    assert "producers" in [c["name"] for c in v["custom_sections"]]
    assert (v["problem"], v["schema"], v["has_dwarf"], v["wasi"]) == (None, None, False, [])
    assert api("GET", "/filters/none").status == 404
    assert api("GET", "/filters/v/versions/none").status == 404


def test_an_upload_shadows_the_file_of_its_name_until_it_is_deleted(api, origin_server, running):
    api.ok(200, "PUT", "/services/s", {"url": origin_server.url})
    api.ok(200, "PUT", "/services/s/routes/r", {"paths": ["/"]})
    api.ok(200, "PUT", "/routes/r/filter-chains/c", {"filters": [{"name": "filed"}]})
    assert runs(running) == {name_of(0)}
    assert api.ok(201, "PUT", "/filters/filed", version(7))["shadows_file"] is True
    assert runs(running) == {name_of(7)}
    assert [v["source"] for v in api.ok(200, "GET", "/filters/filed/versions")["data"]] == ["store", "file"]
    running.wait_log("shadows the file")
    api.ok(204, "DELETE", "/filters/filed")
    assert runs(running) == {name_of(0)}
    api.ok(400, "DELETE", "/filters/filed")


# ---- versions ------------------------------------------------------------------------------------------------------------


def test_an_upload_and_a_rollback_change_what_runs(api, origin_server, running):
    api.ok(201, "PUT", "/filters/v?version=a", version(1))
    a_chain(api, origin_server.url)
    assert runs(running) == {name_of(1)}
    second = api.ok(201, "PUT", "/filters/v?version=b", version(2))
    assert runs(running) == {name_of(2)}
    api.ok(200, "PATCH", "/filters/v", {"version": "a"})
    assert runs(running) == {name_of(1)}
    api.ok(200, "PATCH", "/filters/v", {"version": second["number"]})
    assert runs(running) == {name_of(2)}
    api.ok(201, "PUT", "/filters/v?version=c&activate=false", version(3))
    assert runs(running) == {name_of(2)}
    assert api.ok(200, "PUT", "/filters/v?version=a", version(1))["version"] == "a"  # again: nothing new
    assert runs(running) == {name_of(1)}
    answer = api.ok(409, "PUT", "/filters/v?version=a", version(4))
    assert answer["code"] == 5 and "do not change" in answer["message"]
    api.ok(404, "PATCH", "/filters/v", {"version": "none"})
    api.ok(400, "PATCH", "/filters/v", {"version": ["a"]})


def test_an_entry_keeps_to_the_version_that_it_names(api, origin_server, running):
    first = api.ok(201, "PUT", "/filters/v?version=a", version(1))
    chain = a_chain(api, origin_server.url, version="a")
    assert chain["filters"][0]["version"] == "a" and "sha256" not in chain["filters"][0]
    api.ok(201, "PUT", "/filters/v?version=b", version(2))
    assert runs(running) == {name_of(1)}
    answer = api.ok(400, "DELETE", "/filters/v/versions/a")
    assert (answer["code"], answer["fields"]) == (4, {"@referenced_by": "filter_chains"})
    a_chain(api, origin_server.url, sha256=first["sha256"])
    assert runs(running) == {name_of(1)}
    api.ok(400, "DELETE", f"/filters/v/versions/{first['number']}")
    a_chain(api, origin_server.url)
    assert runs(running) == {name_of(2)}
    api.ok(204, "DELETE", "/filters/v/versions/a")
    api.ok(400, "DELETE", "/filters/v")
    answer = api("PUT", "/routes/r/filter-chains/c", {"filters": [{"name": "v", "version": "a"}]})
    assert answer.status == 400 and json.loads(answer.body)["fields"]["filters"] == [{"version": "filter 'v' has no such version"}]
    answer = api("PUT", "/routes/r/filter-chains/c", {"filters": [{"name": "v", "sha256": "ABC"}]})
    assert "64 hexadecimal" in answer.text


def test_a_version_that_does_not_start_with_the_chains_there_are_is_refused(api, origin_server, running):
    api.ok(201, "PUT", "/filters/v", version(1))
    chain = a_chain(api, origin_server.url)
    answer = api.ok(400, "PUT", "/filters/v", version(19))
    assert answer["code"] == 2 and "filters[0] (v)" in answer["fields"]["module"], answer
    assert runs(running) == {name_of(1)}
    api.ok(204, "DELETE", f"/filter-chains/{chain['id']}")
    api.ok(201, "PUT", "/filters/v", version(19))  # nobody uses it


def test_a_schema_comes_with_the_upload_or_later(api, origin_server):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part
        for part in ((b"module", version(1)), (b"schema", json.dumps(schema).encode()), (b"version", b"1.0"))
    )
    uploaded = api.ok(201, "PUT", "/filters/v", body + b"--X--\r\n", "multipart/form-data; boundary=X")
    assert (uploaded["schema"], uploaded["version"]) == (schema, "1.0")
    assert api.ok(200, "GET", "/filters/v/schema")["required"] == api.ok(200, "GET", "/schemas/filters/v")["required"] == ["n"]
    api.ok(200, "PUT", "/services/s", {"url": origin_server.url})
    assert "property n is required" in api("PUT", "/services/s/filter-chains/c", {"filters": [{"name": "v", "config": {}}]}).text
    api.ok(200, "PUT", "/services/s/filter-chains/c", {"filters": [{"name": "v", "config": {"n": 1}}]})
    # The next version has the same schema unless it brings another; the chains there are have to fit it.
    assert api.ok(201, "PUT", "/filters/v", version(2))["schema"] == schema
    assert "does not fit" in api.ok(400, "PUT", "/filters/v/schema", {"type": "string"})["fields"]["schema"]
    assert api.ok(200, "PUT", "/filters/v/schema", {"type": "object"})["schema"] == {"type": "object"}
    api.ok(400, "PUT", "/filters/v/schema", {"type": "nothing"})


def test_without_a_database_filters_are_shown_but_not_uploaded(origin_server):
    with folder() as path:
        install(path / "filters", v="versioned")
        with Gateway(path, one_service(origin_server.url, ("v", None))).start() as gateway:
            api = Api(gateway)
            answer = api.ok(405, "PUT", "/filters/v", version(1))
            assert (answer["code"], answer["name"]) == (12, "operation unsupported")
            for method, body in (("PATCH", {"version": None}), ("DELETE", None)):
                assert api.ok(405, method, "/filters/v", body)["code"] == 12
            (v,) = api.ok(200, "GET", "/filters")["data"]
            assert (v["source"], len(v["filter_chains"])) == ("file", 1)
            assert api.ok(200, "GET", "/filters/v")["problem"] is None


# ---- under load ------------------------------------------------------------------------------------------------------------


class Load:
    """Requests without end on a few connections; every answer must be a good one, from one version."""

    def __init__(self, gateway, module, n):
        self.gateway, self.module = gateway, module
        self.over = threading.Event()
        self.done, self.problems, self.seen = 0, [], set()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(n)]

    def one(self, connection, i):
        if self.module is http1:
            connection.send_request("GET", f"/{i}")
            return connection.read_response()
        return connection.finish(connection.send_headers("GET", f"/{i}"))

    def run(self, i):
        try:
            while not self.over.is_set():
                with self.module.Connection(self.gateway.proxy, timeout=30) as connection:
                    for _ in range(20):
                        self.check(self.one(connection, i))
        except Exception as e:  # noqa: BLE001
            self.problems.append(repr(e))

    def check(self, answer):
        sent = dict(json.loads(answer.body)["headers"])["x-version"] if answer.status == 200 else None
        if answer.status != 200 or not answer.complete or sent != answer.get("x-version-too"):
            self.problems.append(f"{answer} {sent}")
        self.seen.add(sent)
        self.done += 1

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join(60)


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_versions_are_switched_under_load_without_one_failed_request(origin_server, rounds):
    with folder() as path:
        listen = f"127.0.0.1:{(h2 := free_port())} http2"
        gateway = with_store(path)
        gateway.env["SLUICE_PROXY_LISTEN"] += f", {listen}"
        with gateway.start():
            api = Api(gateway)
            api.ok(201, "PUT", "/filters/v", version(0))
            a_chain(api, origin_server.url)
            second = type("Http2", (), {"proxy": h2})
            with Load(gateway, http1, 4) as one, Load(second, http2, 2) as two:
                kept = []  # (number, digits) of versions
                for i in range(rounds):
                    n = i * 10 + 1  # none ends in 9
                    if i % 10 == 9:
                        number, n = kept[-4]
                        api.ok(200, "PATCH", "/filters/v", {"version": number})
                    else:
                        kept.append((api.ok(201, "PUT", "/filters/v", version(n))["number"], n))
                        if len(kept) > 10:
                            api.ok(204, "DELETE", f"/filters/v/versions/{kept.pop(0)[0]}")
                    answer = gateway.get("/")
                    assert answer.get("x-version-too") == name_of(n), answer
                # All of the load has seen the last one before it ends.
                before = (one.done, two.done)
                wait_for(lambda: one.done > before[0] and two.done > before[1], "load")
            assert not one.problems and not two.problems, (one.problems[:3], two.problems[:3])
            assert len(one.seen) > 5 and len(two.seen) > 2
            copies = list((gateway.prefix / "state/modules").iterdir())
            assert copies


def test_a_request_in_flight_ends_on_the_version_that_it_began_with(api, origin, running):
    api.ok(201, "PUT", "/filters/v", version(1))
    a_chain(api, origin.url)
    with http1.Connection(running.proxy, timeout=30) as connection:
        connection.send_request("GET", "/hold")
        origin.held.acquire()
        api.ok(201, "PUT", "/filters/v", version(2))
        assert runs(running) == {name_of(2)}
        origin.go.set()
        answer = connection.read_response()
    assert (dict(json.loads(answer.body)["headers"])["x-version"], answer.get("x-version-too")) == (name_of(1), name_of(1))


# ---- files -----------------------------------------------------------------------------------------------------------------


def test_a_changed_file_is_taken_over_and_one_that_does_not_start_is_left_alone(origin_server):
    with folder() as path:
        filters = install(path / "filters", v="versioned")
        with with_store(path, filters=filters).start() as gateway:
            api = Api(gateway)
            a_chain(api, origin_server.url)
            assert runs(gateway) == {name_of(0)}

            def replace(data):
                (filters / "new").write_bytes(data)
                (filters / "new").chmod(0o644)
                (filters / "new").rename(filters / "v.wasm")

            replace(version(2))
            wait_for(lambda: runs(gateway) == {name_of(2)}, "the new file")
            for bad in (version(29), original()[:500]):
                replace(bad)
                gateway.wait_log("filter 'v' goes on as it was", times=1 if bad == version(29) else 2)
                assert runs(gateway) == {name_of(2)}
            (filters / "v.wasm").unlink()
            # Nothing else has to do with it.
            api.ok(200, "PUT", "/services/other", {"url": origin_server.url})
            assert runs(gateway) == {name_of(2)}
            replace(version(3))
            wait_for(lambda: runs(gateway) == {name_of(3)}, "the file that came back")


# ---- crashes ---------------------------------------------------------------------------------------------------------------


def kill(gateway):
    """All of it at once."""
    pids = gateway.workers()
    os.killpg(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the end of the workers")
    gateway.process = None


def test_uploads_survive_kills_and_copies_are_written_again(origin_server):
    with folder() as path:
        gateway = with_store(path).start()
        gateway.allowed = ["exited on signal 9"]
        api = Api(gateway)
        api.ok(201, "PUT", "/filters/v", version(1))
        a_chain(api, origin_server.url)
        committed = 1
        for i in range(2, 8):
            started = threading.Event()
            answered = []

            def send(n=i, started=started, answered=answered):
                with contextlib.suppress(OSError, http1.Closed):
                    started.set()
                    answered.append(api("PUT", "/filters/v", version(n)).status)

            sender = threading.Thread(target=send)
            sender.start()
            started.wait()
            time.sleep((i - 2) * 0.01)  # somewhere in the middle of it
            kill(gateway)
            sender.join()
            copies = list((gateway.prefix / "state/modules").iterdir())
            if i % 2:
                for copy in copies:
                    copy.unlink()
            else:
                for copy in copies:
                    copy.write_bytes(b"\0" * copy.stat().st_size)
            gateway.start()
            found = runs(gateway)
            assert found == {name_of(i)} or (found == {name_of(committed)} and answered != [201]), (found, committed, answered)
            committed = int(next(iter(found))[-6:])
        gateway.stop()


# ---- what must not get in ----------------------------------------------------------------------------------------------------


def leb(n):
    out = b""
    while True:
        n, low = n >> 7, n & 0x7F
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


HEAD = b"\0asm\1\0\0\0"


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        os.urandom(5000),
        HEAD,
        b"(module)",
        pytest.param(lambda: original()[:1000], id="cut"),
        pytest.param(lambda: original() + b"\1", id="tail"),
        pytest.param(lambda: HEAD + b"\1" + leb(5) + leb(0xFFFFFFFF), id="a count of types that is a lie"),
        pytest.param(lambda: HEAD + b"\0" + leb(0xFFFFFFF0) + b"\4name", id="a section that is larger than the module"),
        pytest.param(lambda: HEAD + (b"\0" + leb(2) + b"\1x") * 100000, id="100,000 custom sections"),
        pytest.param(lambda: HEAD + b"\x05\x03\x01\x00" + leb(65536) * 2, id="all of the memory"),
        pytest.param(lambda: (FILTERS / "noabi.wasm").read_bytes(), id="noabi"),
        pytest.param(lambda: (FILTERS / "badimport.wasm").read_bytes(), id="badimport"),
        pytest.param(lambda: (FILTERS / "badtype.wasm").read_bytes(), id="badtype"),
        pytest.param(lambda: (FILTERS / "abi_future.wasm").read_bytes(), id="abi of the future"),
    ],
    ids=lambda b: None if callable(b) else repr(b[:8]),
)
def test_what_is_no_filter_is_refused(api, body):
    answer = api.ok(400, "PUT", "/filters/v", body() if callable(body) else body)
    assert answer["code"] == 2 and answer["fields"]["module"], answer
    assert "v" not in [f["name"] for f in api.ok(200, "GET", "/filters")["data"]]


@pytest.mark.parametrize("name", ["..%2Fx", "%2e%2e", ".hidden", "a%2Fb", "-rf", "a%00b", "a%20b", "%C3%A9", "a" * 129, "a%0Ab", "%ff", "C:%5Cx"])
def test_names_that_are_no_names_are_refused(api, running, name):
    answer = api("PUT", f"/filters/{name}", version(1))
    assert answer.status in (400, 404), answer.text
    assert all(f["name"] == "filed" for f in api.ok(200, "GET", "/filters")["data"])
    assert not list(running.prefix.glob("**/x*.wasm"))


def test_a_body_over_the_limit_is_refused_in_plain_words(api):
    answer = api("PUT", "/filters/v", b"\0" * (100 << 20))
    assert answer.status == 413
    assert "nginx_admin_client_max_body_size" in json.loads(answer.body)["message"]


def test_other_bodies_and_versions_are_refused(api):
    api.ok(415, "PUT", "/filters/v", {"module": "x"})
    api.ok(400, "PUT", "/filters/v", b"")
    api.ok(400, "PUT", "/filters/v?version=7", version(1))
    api.ok(400, "PUT", "/filters/v?version=a%2Fb", version(1))
    assert "unknown field" in api("PUT", "/filters/v", b'--X\r\nContent-Disposition: form-data; name="y"\r\n\r\nz\r\n--X--\r\n', "multipart/form-data; boundary=X").text


# ---- sluice filters --------------------------------------------------------------------------------------------------------------


def test_filters_are_listed_and_inspected_from_the_command_line(origin_server):
    with folder() as path:
        install(path / "filters", filed="versioned", bad="noabi")
        with with_store(path).start() as gateway:
            sha256 = Api(gateway).ok(201, "PUT", "/filters/v?version=1.0", version(1))["sha256"]
        done = gateway.run("filters", "list", "--json")
        found = {f["name"]: (f["source"], f["version"], f["abi"]) for f in json.loads(done.stdout)}
        assert found == {"bad": ("file", None, None), "filed": ("file", None, "0.2.1"), "v": ("store", "1.0", "0.2.1")}
        assert sha256[:16] in gateway.run("filters", "list").stdout
        assert json.loads(gateway.run("filters", "inspect", "v", "--json").stdout)["sha256"] == sha256
        assert "proxy_on_configure" in gateway.run("filters", "inspect", "filed").stdout
        assert "no Proxy-Wasm filter" in gateway.run("filters", "inspect", "bad").stdout
        assert "proxy_on_configure" in sluice("filters", "inspect", FILTERS / "versioned.wasm").stdout
        done = gateway.run("filters", "inspect", "none")
        assert done.returncode == 1 and "neither an installed filter nor a file" in done.stderr
        assert sluice("filters", "show").returncode == 2
