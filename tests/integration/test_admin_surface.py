"""The Admin API as a whole: the list of paths, the OpenAPI document made from the tables, requests made from that document, small endpoints."""

import json
import random
import re
import ssl
import subprocess
import urllib.parse

import pytest
import yaml
from gateway_helpers import ROOT, Gateway, folder, free_port, home, install, one_service, origin, origin_server, sluice, wait_for  # noqa: F401
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate
from support import http1

METHODS = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]
JSON = "application/json; charset=utf-8"


@pytest.fixture(scope="module")
def stored():
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe")
        with Gateway(path, declarative_config=None, database=None, workers=2).start() as gateway:
            yield gateway


@pytest.fixture(scope="module")
def without(origin_server):
    with folder() as path:
        status = free_port()
        with Gateway(path, one_service(origin_server.url), status_listen=f"127.0.0.1:{status}").start() as gateway:
            gateway.status = status
            yield gateway


def call(gateway, method, path, body=None, headers=(), port=None):
    headers = list(headers)
    if body is not None:
        headers.append(("Content-Type", "application/json"))
        body = json.dumps(body).encode()
    return http1.request(port or gateway.admin, method, path, headers, body, timeout=60)


def read(gateway, path, status=200):
    answer = call(gateway, "GET", path)
    assert answer.status == status, f"{path}: {answer.status} {answer.text}"
    return json.loads(answer.body)


@pytest.fixture(scope="module")
def spec(stored):
    return read(stored, "/openapi.json")


# ---- documents ---------------------------------------------------------------------------------------------------------


def test_the_openapi_document_is_valid_and_the_same_everywhere(stored, spec):
    validate(spec)
    assert json.loads(sluice("schema", "openapi").stdout) == spec
    answer = call(stored, "GET", "/openapi.yaml")
    assert answer.get("content-type") == "application/yaml" and yaml.safe_load(answer.text) == spec


def test_the_reference_page_is_that_of_the_tables():
    text = sluice("schema", "entities").stdout
    assert text == (ROOT / "docs/reference/entities.md").read_text(), "run `make reference`"
    assert re.search(r"^\| `retries` \| integer \| `5` \| 0 to 32767 \|$", text, re.MULTILINE)


def test_schema_refuses_other_words():
    assert sluice("schema", "nothing").returncode == 2 and sluice("schema").returncode == 2


# ---- paths ----------------------------------------------------------------------------------------------------------------


def filled(path):
    """A path with something in place of its parameters."""
    return re.sub(r"\{[^}]*\}", "x", path)


def test_every_listed_path_answers_options_with_the_methods_of_the_document(stored, spec):
    listed = read(stored, "/endpoints")["data"]
    assert set(listed) == set(spec["paths"]) and len(listed) == len(set(listed))
    assert listed == sorted(listed, key=lambda p: p.split("/"))
    for path in listed:
        answer = call(stored, "OPTIONS", filled(path))
        methods = {m.upper() for m in spec["paths"][path] if m != "parameters"} | {"OPTIONS"}
        assert answer.status == 204 and answer.get("allow") == ", ".join(sorted(methods)), path
        assert answer.get("access-control-allow-methods") == answer.get("allow")
        for method in set(METHODS) - methods:
            answer = call(stored, method, filled(path))
            assert answer.status == 405 and (method == "HEAD" or json.loads(answer.body) == {"message": "Method not allowed"}), f"{method} {path}"


def test_paths_that_are_answered_are_listed(stored, spec):
    """Every path of up to four segments out of the words that occur in listed ones."""
    listed = set(read(stored, "/endpoints")["data"])
    words = sorted({s for path in listed for s in path.strip("/").split("/") if s and not s.startswith("{")})
    shapes = {re.sub(r"\{[^}]*\}", "{}", p) for p in listed}

    def is_listed(path):
        parts = path.strip("/").split("/")
        forms = (s.strip("/").split("/") for s in shapes)
        return any(len(f) == len(parts) and all(a in ("{}", b) for a, b in zip(f, parts, strict=True)) for f in forms)

    candidates = [f"/{a}" for a in words] + [f"/{a}/x/{b}" for a in words for b in words] + [f"/{a}/{b}" for a in words for b in words]
    with http1.Connection(stored.admin) as connection:
        for path in candidates:
            connection.send(f"OPTIONS {path} HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = connection.read_response()
            assert (answer.status == 204) == is_listed(path), path


def test_head_is_get_without_a_body(stored, spec):
    for path, item in spec["paths"].items():
        if "get" in item and "{" not in path and path not in ("/timers", "/metrics", "/"):
            got, head = call(stored, "GET", path), call(stored, "HEAD", path)
            assert (head.status, head.body) == (got.status, b"") and head.get("content-type") == got.get("content-type"), path


# ---- requests made from the document ------------------------------------------------------------------------------------------


class Guess:
    """Values of a schema, now and then of none."""

    def __init__(self, spec, seed):
        self.spec, self.random = spec, random.Random(seed)

    def wild(self):
        return self.random.choice([None, True, -1, 1.5, 2**63 - 1, "", "x", "é\u0000", "a" * 300, [], {}, [None], {"id": 1}, [[[]]]])

    def text(self, schema):
        if schema.get("format") == "uuid":
            return f"{self.random.getrandbits(128):032x}"[:8] + "-1111-4111-8111-111111111111"
        return self.random.choice(["a.test", "/p", "name-1", "10.0.0.1:80", "GET", "x y", "~/r[0-9]+", "*.a.test", "a", "80"])

    def value(self, schema, depth=0):
        if "$ref" in schema:
            schema = self.spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if self.random.random() < 0.03:
            return self.wild()
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "string":
            return self.text(schema)
        if kind == "integer":
            return self.random.randint(int(schema.get("minimum", -5)), int(schema.get("maximum", 5)))
        if kind == "number":
            return self.random.choice([0, 1, 0.5])
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(self.random.randint(0, 3))]
        if kind == "object":
            named = {n: self.value(s, depth + 1) for n, s in schema.get("properties", {}).items() if self.random.random() < (0.3 if depth == 0 else 0.7)}
            return named
        return self.wild()


def resolved(spec, schema):
    return {**schema, "components": spec["components"]}


def check_answer(spec, operation, method, path, answer):
    """No failure of the server; JSON of the shape that the document says."""
    where = f"{method} {path}: {answer.status} {answer.text[:500]}"
    assert answer.status < 500 or answer.status == 501, where
    if answer.body and answer.get("content-type") == JSON:
        body = json.loads(answer.body)
        stated = operation["responses"].get(str(answer.status), operation["responses"]["default"])
        schema = stated.get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            problems = [e.message for e in OAS30Validator(resolved(spec, schema)).iter_errors(body)]
            assert not problems, f"{where}\n{problems[:3]}"


def test_requests_made_from_the_document_are_answered_as_it_says(stored, spec):
    guess = Guess(spec, 6)
    operations = [(p, m, o) for p, item in spec["paths"].items() for m, o in item.items() if m in ("get", "post", "put", "patch", "delete")]
    skip = ("/config", "/transactions", "/debug", "/openapi", "/schemas/{name}/validate", "/schemas/plugins/validate")
    created = []
    made = 0
    for _ in range(8):
        for path, method, operation in operations:
            if path.startswith(skip):
                continue
            target = path
            for name in re.findall(r"\{([^}]*)\}", path):
                target = target.replace(f"{{{name}}}", urllib.parse.quote(guess.random.choice([*created[-6:], "name-1", "a.test", "none"]), safe=""), 1)
            body = None
            if "requestBody" in operation:
                body = guess.value(operation["requestBody"]["content"]["application/json"]["schema"])
            answer = call(stored, method.upper(), target, body)
            check_answer(spec, operation, method, target, answer)
            made += answer.status == 201
            if answer.status == 201:
                created.append(json.loads(answer.body)["id"])
    assert made >= 3
    for path in ("filter-chains", "routes", "services", "consumers", "upstreams", "snis", "certificates", "ca_certificates"):
        for entity in read(stored, f"/{path}?size=1000")["data"]:
            assert call(stored, "DELETE", f"/{path}/{entity['id']}").status == 204


def test_what_may_be_written_is_shown_as_the_document_says(stored, spec):
    service = {"name": "shown", "url": "https://a.test/x"}
    for method, path, body in [
        ("POST", "/services", service),
        ("PUT", "/services/shown/routes/r", {"paths": ["/r"], "headers": {"x": ["1"]}}),
        ("PUT", "/upstreams/u.test", {"healthchecks": {"active": {"type": "tcp"}}}),
        ("POST", "/upstreams/u.test/targets", {"target": "a.test"}),
        ("PUT", "/consumers/c", {}),
        ("PUT", "/routes/r/filter-chains/f", {"filters": [{"name": "my-c-filter"}]}),
    ]:
        answer = call(stored, method, path, body)
        assert answer.status in (200, 201), answer.text
        collection = path.strip("/").split("/")[-1] if method == "POST" else path.strip("/").split("/")[-2]
        schema = spec["components"]["schemas"][{"filter-chains": "filter_chain"}.get(collection, collection.rstrip("s"))]
        OAS30Validator(resolved(spec, schema)).validate(json.loads(answer.body))
        page = read(stored, path.rsplit("/", 1)[0] if method == "PUT" else path)
        OAS30Validator(resolved(spec, spec["components"]["schemas"][{"filter-chains": "filter_chain"}.get(collection, collection.rstrip("s")) + "_page"])).validate(page)


# ---- small endpoints --------------------------------------------------------------------------------------------------------


def test_the_health_of_targets_is_shown_and_cannot_be_set(stored):
    call(stored, "PUT", "/upstreams/h.test", {})
    target = json.loads(call(stored, "POST", "/upstreams/h.test/targets", {"target": "10.0.0.9:81", "weight": 30}).body)
    health = read(stored, "/upstreams/h.test/health")
    (row,) = health["data"]
    assert (row["id"], row["target"], row["health"]) == (target["id"], "10.0.0.9:81", "HEALTHCHECKS_OFF")
    assert row["data"]["host"] == "10.0.0.9" and row["data"]["port"] == 81 and row["data"]["weight"] == {"total": 30, "available": 30, "unavailable": 0}
    assert re.fullmatch(r"[0-9a-f-]{36}", health["node_id"]) and health["next"] is None
    whole = read(stored, "/upstreams/h.test/health?balancer_health=1")["data"]
    assert whole["health"] == "HEALTHCHECKS_OFF" and whole["details"]["weight"]["total"] == 30
    assert call(stored, "GET", "/upstreams/none/health").status == 404
    for path in ("healthy", "unhealthy", "10.0.0.9/healthy"):
        answer = call(stored, "PUT", f"/upstreams/h.test/targets/{target['id']}/{path}")
        assert answer.status == 501 and "no health checks" in answer.text


def test_what_this_gateway_does_not_have_is_refused_by_name(stored):
    for path, word in [("/vaults", "vaults"), ("/keys/x", "keys"), ("/key-sets", "key sets")]:
        answer = call(stored, "GET", path)
        assert answer.status == 404 and word in json.loads(answer.body)["message"]
    assert read(stored, "/clustering/status", 400)["message"].startswith("this endpoint is only available")
    assert read(stored, "/status/dns", 501)["message"] == "not implemented with the legacy DNS client"
    assert call(stored, "DELETE", "/cache").status == 204
    assert call(stored, "DELETE", "/cache/x").status == 204
    assert call(stored, "GET", "/cache/x").status == 404
    assert call(stored, "GET", "/plugins/schema/x").status == 404


def test_timers_say_which_worker_answers(stored):
    timers = read(stored, "/timers")
    assert timers["worker"]["count"] == 2 and timers["worker"]["id"] in (0, 1)
    assert timers["stats"]["sys"]["total"] >= 1


def test_the_log_level_is_changed_for_a_while_and_without_a_reload(stored, without):
    assert read(without, "/debug/node/log-level") == {"message": "log level: info"}
    answer = call(without, "PUT", "/debug/node/log-level/notice")
    assert (answer.status, json.loads(answer.body)) == (405, {"message": "cannot change log level when not using a database"})
    assert read(stored, "/debug/node/log-level") == {"message": "log level: info"}
    assert json.loads(call(stored, "PUT", "/debug/node/log-level/info").body) == {"message": "log level is already info"}
    answer = call(stored, "PUT", "/debug/node/log-level/loud")
    assert (answer.status, json.loads(answer.body)) == (400, {"message": "unknown log level: loud"})
    assert call(stored, "PUT", "/debug/node/log-level/warn?timeout=-1").status == 400
    assert json.loads(call(stored, "PUT", "/debug/cluster/log-level/crit?timeout=600").body) == {"message": "log level changed"}
    assert read(stored, "/debug/node/log-level") == {"message": "log level: crit"}

    def quiet():
        """A change of the configuration writes a line of level notice in each worker."""
        before = stored.log().count("generation ")
        assert call(stored, "PUT", "/consumers/quiet", {}).status == 200
        return stored.log().count("generation ") == before

    wait_for(quiet, "nothing is logged any more")
    assert json.loads(call(stored, "PUT", "/debug/node/log-level/info?timeout=1").body) == {"message": "log level changed"}
    wait_for(lambda: not quiet(), "it is logged again")


# ---- the status listener ----------------------------------------------------------------------------------------------------


def status_call(gateway, method, path, body=None):
    return call(gateway, method, path, body, port=gateway.status)


def test_the_status_listener_shows_status_and_nothing_else(without):
    assert "server" in json.loads(status_call(without, "GET", "/status").body)
    assert json.loads(status_call(without, "GET", "/status/ready").body) == {"message": "ready"}
    assert b"sluice_plan_generation" in status_call(without, "GET", "/metrics").body
    for path in ("/", "/services", "/config", "/endpoints", "/nothing", "/shared-data"):
        answer = status_call(without, "GET", path)
        assert (answer.status, json.loads(answer.body)) == (404, {"message": "Not found"}), path
    assert status_call(without, "POST", "/config", {}).status == 404
    assert status_call(without, "POST", "/status", {}).status == 405


def test_a_node_that_drains_says_so_everywhere(without):
    assert status_call(without, "POST", "/status/ready", {"status": "draining"}).status == 204
    try:
        answer = status_call(without, "GET", "/status/ready")
        assert (answer.status, json.loads(answer.body)) == (503, {"message": "draining"})
        assert read(without, "/status/ready", 503) == {"message": "draining"}
        assert b"\nsluice_ready 0\n" in status_call(without, "GET", "/metrics").body
        assert without.get("/").status == 200
        assert status_call(without, "POST", "/status/ready", {"status": "tired"}).status == 400
        assert call(without, "POST", "/status/ready", {"status": "ready"}).status == 405
    finally:
        assert status_call(without, "POST", "/status/ready", {"status": "ready"}).status == 204
    assert status_call(without, "GET", "/status/ready").status == 200


# ---- metrics ------------------------------------------------------------------------------------------------------------------


def samples(text):
    """{"name{labels}": value}; every line must be one of the format."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r'([a-zA-Z_:][\w:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})?) (-?[\d.]+)', line)
            assert match, line
            assert match[1] not in found, line
            found[match[1]] = float(match[2])
    return found


def metrics(gateway):
    return samples(call(gateway, "GET", "/metrics").text)


def test_requests_are_counted_by_service_route_and_status(origin_server):
    with folder() as path:
        config = one_service(origin_server.url, name="shop", paths=["/a"], methods=["GET", "POST"])
        with Gateway(path, config, workers=2).start() as gateway:
            for _ in range(7):
                assert gateway.get("/a/b").status == 200
            assert gateway.get("/none").status == 404
            labels = 'service="shop",route="r"'
            # a request is counted when it is logged, which a client may not wait for
            wait_for(
                lambda: (
                    (now := metrics(gateway)).get(f'sluice_http_requests_total{{{labels},code="200"}}') == 7
                    and now.get('sluice_http_requests_total{service="",route="",code="404"}') == 1
                ),
                "seven requests and one without a route",
            )
            now = metrics(gateway)
            for name in ("request", "upstream", "gateway"):
                assert now[f'sluice_{name}_latency_ms_bucket{{{labels},le="+Inf"}}'] == 7 == now[f"sluice_{name}_latency_ms_count{{{labels}}}"]
                assert now[f'sluice_{name}_latency_ms_bucket{{{labels},le="65536"}}'] == 7
            assert now[f'sluice_bandwidth_bytes_total{{{labels},direction="egress"}}'] > 7 * 50
            assert now["sluice_plan_routes"] == 1 and now["sluice_ready"] == 1
            generation = now["sluice_plan_generation"]
            # another configuration and a reload keep the counts of routes that stay
            gateway.configure({**config, "consumers": [{"username": "c"}]})
            assert gateway.get("/a").status == 200
            gateway.run("reload")
            wait_for(lambda: metrics(gateway)["sluice_plan_generation"] > generation, "the next generation")
            assert gateway.get("/a").status == 200
            wait_for(lambda: metrics(gateway)[f'sluice_http_requests_total{{{labels},code="200"}}'] == 9, "nine requests")


def test_metrics_of_many_routes_stay_within_their_memory(origin_server):
    routes = [{"name": f"r{i}", "paths": [f"/r{i}/"]} for i in range(600)]
    with folder() as path:
        config = {"_format_version": "3.0", "services": [{"name": "s", "url": origin_server.url, "routes": routes}]}
        with Gateway(path, config, metrics_memory="256k").start() as gateway:
            for i in range(600):
                assert gateway.get(f"/r{i}/").status == 200

            def counted():
                return sum(v for k, v in metrics(gateway).items() if k.startswith("sluice_http_requests_total") and 'code="2' in k)

            wait_for(lambda: counted() == 600, "600 counted requests")
            now = metrics(gateway)
            assert now["sluice_metrics_refused_total"] > 0
            assert now['sluice_http_requests_total{service="",route="(other)",code="2xx"}'] > 0


# ---- where the Admin API listens ------------------------------------------------------------------------------------------------


def test_the_admin_api_listens_on_a_unix_socket(origin_server):
    with folder() as path:
        where = path / "admin.sock"
        with Gateway(path, one_service(origin_server.url), admin_listen=f"unix:{where}") as gateway:
            gateway.launch()
            done = wait_for(lambda: (r := subprocess.run(["curl", "-s", "--unix-socket", where, "http://x/status"], capture_output=True, check=False)).returncode == 0 and r, "the socket answers")
            assert "server" in json.loads(done.stdout)
            assert gateway.get("/").status == 200
            with pytest.raises(OSError):
                gateway.get_admin("/status")


def test_the_admin_api_is_on_loopback_unless_told_otherwise():
    settings = (ROOT / "src/cli/settings.c").read_text()
    listens = re.search(r'{"admin_listen", "([^"]*)"', settings)[1]
    assert all(part.strip().startswith("127.0.0.1:") for part in listens.split(","))
    assert re.search(r'{"status_listen", "off"', settings)


def make_certificates(path):
    """An authority, a client's certificate of it, and a stranger's."""

    def run(*args):
        subprocess.run(["openssl", *map(str, args)], cwd=path, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=client", "-keyout", "client.key", "-out", "client.csr")
    run("x509", "-req", "-in", "client.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out", "client.crt")
    (path / "ca.crt").chmod(0o644)


def tls_status(port, path, name=None):
    """The status of GET /status with this client certificate; 0: turned away."""
    context = ssl._create_unverified_context()
    if name:
        context.load_cert_chain(path / f"{name}.crt", path / f"{name}.key")
    import http.client

    try:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
        connection.request("GET", "/status")
        return connection.getresponse().status
    except (ssl.SSLError, ConnectionError):
        return 0


def test_the_admin_api_asks_for_a_clients_certificate(origin_server):
    with folder() as path:
        make_certificates(path)
        tls = free_port()
        with Gateway(path, one_service(origin_server.url), admin_listen=f"127.0.0.1:{tls} ssl", admin_ssl_client_ca=path / "ca.crt") as gateway:
            gateway.launch()
            wait_for(lambda: tls_status(tls, path, "client") == 200, "a client of the authority is served")
            assert tls_status(tls, path) in (0, 400)
            assert tls_status(tls, path, "stranger") in (0, 400)


def test_a_listener_that_cannot_ask_for_certificates_is_refused(origin_server):
    with folder() as path:
        make_certificates(path)
        gateway = Gateway(path, one_service(origin_server.url), admin_listen=f"0.0.0.0:{free_port()}", admin_ssl_client_ca=path / "ca.crt")
        done = gateway.run("start")
        assert done.returncode == 1 and "is without TLS" in done.stderr and "SLUICE_ADMIN_SSL_CLIENT_CA" in done.stderr
        done = gateway.run("start", SLUICE_ADMIN_SSL_CLIENT_CA=path / "none.crt")
        assert done.returncode == 1 and "cannot be read" in done.stderr
