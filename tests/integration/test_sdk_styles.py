"""Filters as people publish them, built with the Rust and Go SDKs: through directives of nginx and through a gateway."""

import json
import re
import time

import pytest
from gateway_helpers import Gateway, chain, document, echoed, folder, install, origin, origin_server  # noqa: F401

from support import http1, http2
from support.grpc_server import Server
from support.nginx import Nginx, filter_path, wait_for
from support.upstream import payload

RUST = ["auth_random", "redact", "headers", "rate_limiting", "grpc_auth"]


def built(*names):
    missing = [name for name in names if not filter_path(name).exists()]
    if missing:
        pytest.skip(f"not built, this machine has no toolchain for it: {', '.join(missing)}")


@pytest.fixture(scope="module")
def port_of():
    return lambda server, client: server.port("2" if client is http2 else "main")


def quoted(**config):
    return "'" + json.dumps(config) + "'"


def serve(nginx, upstream, modules, locations):
    wasm = "".join(f"module {name} {filter_path(name)} {config};" for name, config in modules.items())
    inside = "".join(f"location {path} {{ {lines} proxy_pass http://origin/; }}\n" for path, lines in locations.items())
    http = "".join(f"upstream {name} {{ server 127.0.0.1:{upstream.port}; }}" for name in ("origin", "dice"))
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {inside} }}", http=http, wasm=wasm)
    return nginx


# ---- Rust ----


@pytest.fixture(scope="module")
def rust(upstream_server, tmp_path_factory):
    built(*(f"style_rust_{name}" for name in RUST))
    server = Nginx(tmp_path_factory.mktemp("rust"), workers=1)
    locations = {
        "/auth/": "proxy_wasm style_rust_auth_random;",
        "/redact/": "proxy_wasm style_rust_redact 00000007;",
        "/headers/": "proxy_wasm style_rust_headers;",
        "/limit/": f"proxy_wasm style_rust_rate_limiting {quoted(limit=3)};",
        "/grpc/": "proxy_wasm style_rust_grpc_auth;",
        "/both/": "proxy_wasm style_rust_headers; proxy_wasm style_rust_auth_random; proxy_wasm style_rust_redact 00000007;",
    }
    try:
        yield serve(server, upstream_server, {f"style_rust_{name}": "" for name in RUST}, locations)
    finally:
        server.stop()


# The first byte of these answers: 0x30, 0x73.
@pytest.mark.parametrize("dice, status, body", [("/bytes/1", 200, payload(300)), ("/status/200", 403, b"forbidden by the dice\n")])
def test_a_service_decides_about_each_request(rust, client, port_of, dice, status, body):
    response = client.get(port_of(rust, client), "/auth/bytes/300", [("x-dice", dice)])
    assert (response.status, response.body) == (status, body)
    # The filter's own response callback sees its own reply, too.
    assert response.all("powered-by") == ["proxy-wasm"]


@pytest.mark.parametrize("path, body", [("bytes/100", payload(100)), ("bytes/5000", b"the original body (5000 bytes) is not for you\n"), ("chunked/9000/100", b"the original body (9000 bytes) is not for you\n")])
def test_a_body_is_hidden_when_it_holds_a_word(rust, client, port_of, path, body):
    response = client.get(port_of(rust, client), "/redact/" + path)
    assert response.complete and response.body == body


def test_all_headers_are_logged_in_both_directions(rust, client, port_of):
    mark = f"{client.__name__}-{time.monotonic_ns()}"
    client.get(port_of(rust, client), "/headers/bytes/3", [("X-Mark", mark)])
    rust.wait_log(f"-> x-mark: {mark}")
    context = re.search(rf"\] #(\d+) -> x-mark: {mark}", rust.log())[1]
    rust.wait_log(f"#{context} <- :status: 200")
    rust.wait_log(f"#{context} <- content-length: 3")
    rust.wait_log(f"#{context} -> :path: /headers/bytes/3")
    rust.wait_log(f"#{context} completed")


def test_a_chain_of_published_filters_works_together(rust, client, port_of):
    response = client.get(port_of(rust, client), "/both/bytes/5000", [("x-dice", "/bytes/1")])
    assert (response.status, response.body, response.get("powered-by")) == (200, b"the original body (5000 bytes) is not for you\n", "proxy-wasm")


def test_requests_over_the_limit_are_refused(rust, client, port_of):
    seen = [client.get(port_of(rust, client), "/limit/bytes/3") for _ in range(7)]
    statuses = [response.status for response in seen]
    # The second protocol finds the window used up.
    assert statuses in ([200, 200, 200, 429, 429, 429, 429], [429] * 7)
    assert all(response.get("x-ratelimit-limit") == "3" for response in seen)
    if statuses[0] == 200:
        assert [response.get("x-ratelimit-remaining") for response in seen[:4]] == ["2", "1", "0", "0"]
    assert seen[-1].body == b'{"message":"too many requests"}' and 0 < int(seen[-1].get("retry-after")) <= 3600


def test_a_configuration_that_is_not_json_is_refused_with_the_filters_reason(nginx):
    built("style_rust_rate_limiting")
    nginx.write("server { listen 127.0.0.1:@PORT@; proxy_wasm style_rust_rate_limiting nonsense; }", wasm=f"module style_rust_rate_limiting {filter_path('style_rust_rate_limiting')};")
    result = nginx.check()
    assert result.returncode != 0 and "the configuration is not JSON" in result.stderr + nginx.log()


@pytest.fixture(scope="module")
def authority():
    server = Server()
    yield server
    server.stop()


def test_a_grpc_service_decides_about_each_request(nginx, upstream, client, port_of, authority):
    built("style_rust_grpc_auth")
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; proxy_wasm style_rust_grpc_auth; location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
    nginx.start(servers, http=f"upstream auth {{ server 127.0.0.1:{authority.port}; }}", wasm=f"module style_rust_grpc_auth {filter_path('style_rust_grpc_auth')};")
    response = client.get(port_of(nginx, client), "/echo")
    assert response.status == 200 and ["x-auth", "9"] in json.loads(response.body)["headers"]
    response = client.get(port_of(nginx, client), "/echo", [("x-stranger", "yes")])
    assert (response.status, response.get("x-grpc-status"), response.text) == (403, "7", "forbidden\n")


def test_a_call_to_an_unknown_grpc_service_is_refused_at_once(rust, client, port_of):
    response = client.get(port_of(rust, client), "/grpc/bytes/3")
    assert (response.status, response.text) == (503, "no gRPC: ParseFailure\n")


# ---- Go ----


@pytest.fixture(scope="module")
def go(upstream_server, tmp_path_factory):
    built("sdk_go_styles")
    server = Nginx(tmp_path_factory.mktemp("go"), workers=1)

    def use(**config):
        return f"proxy_wasm sdk_go_styles {quoted(**config)};"

    locations = {
        "/send/": use(filter="sender", queue="styles"),
        "/receive/": use(filter="receiver", queue="styles"),
        "/tick/": use(filter="call_on_tick", upstream="origin"),
        "/many/": use(filter="dispatches", upstream="origin", count=10),
        "/json/": use(filter="json", required=["id", "token"]),
        "/postpone/": use(filter="postpone"),
        "/props/": use(filter="properties"),
    }
    try:
        yield serve(server, upstream_server, {"sdk_go_styles": "'vm says hello'"}, locations)
    finally:
        server.stop()


def test_a_queue_leads_from_one_filter_to_another(go, client, port_of):
    mark = f"{client.__name__}-{time.monotonic_ns()}"
    assert client.get(port_of(go, client), "/send/bytes/3", [("x-first", mark), ("x-second", mark)]).status == 200
    go.wait_log(f"received x-first={mark}")
    go.wait_log(f"received x-second={mark}")


def test_calls_are_made_from_the_tick(go, upstream):
    go.wait_log("answer 3 to the tick: ")
    wait_for(lambda: [1 for _, target, _ in list(upstream.seen) if target == "/headers?x-tick=1"], "the upstream sees the call")
    assert not go.log_lines("dispatch from the tick")


def test_a_response_waits_for_ten_calls(go, client, port_of):
    response = client.get(port_of(go, client), "/many/bytes/7000")
    assert (response.status, response.get("x-total"), response.body) == (200, "1000", payload(7000))


JSON = [("content-type", "application/json")]


@pytest.mark.parametrize(
    "headers, body, status, text",
    [
        (JSON, b'{"id": 1, "token": "x", "more": [1]}', 200, None),
        (JSON, b'{"id": 1, "token": "' + b"x" * 100000 + b'"}', 200, None),
        (JSON, b'{"id": 1}', 400, "missing: token\n"),
        (JSON, b"[1]", 400, "not an object of JSON\n"),
        (JSON, None, 400, "a body is needed\n"),
        ([("content-type", "text/plain")], b'{"id": 1, "token": "x"}', 415, "content-type must be application/json\n"),
    ],
)
def test_bodies_are_validated(go, client, port_of, upstream, headers, body, status, text):
    response = client.request(port_of(go, client), "POST", "/json/echo", headers, body)
    assert response.status == status
    if text is None:
        assert json.loads(response.body)["length"] == len(body)
    else:
        assert response.text == text and not [1 for method, _, _ in upstream.seen if method == "POST"]


def test_postponed_requests_all_go_on(go):
    connections = [http1.Connection(go.port()) for _ in range(6)]
    for connection in connections:
        connection.send_request("GET", "/postpone/bytes/10", [("Connection", "close")])
    for connection in connections:
        assert connection.read_response().body == payload(10)
        connection.close()


def test_a_postponed_client_that_leaves_harms_nobody(go):
    leaving = http1.Connection(go.port())
    leaving.send_request("GET", "/postpone/bytes/10")
    leaving.close()
    assert http1.get(go.port(), "/postpone/bytes/10").body == payload(10)


def test_the_sdks_readers_of_properties_understand_what_they_get(go, client, port_of):
    response = client.request(port_of(go, client), "POST", "/props/bytes/3?a=1&b=2", [("User-Agent", "me/1"), ("X-Mine", "seen")], b"12345")
    want = {
        "path": "/props/bytes/3?a=1&b=2",
        "url-path": "/props/bytes/3",
        "host": "localhost",
        "scheme": "http",
        "method": "POST",
        "protocol": "HTTP/1.1" if client is http1 else "HTTP/2",
        "query": "a=1&b=2",
        "agent": "me/1",
        "size": "5",
        "code": "200",
        "headers": "seen",
        "year": "true",
        "vm": "vm says hello",
    }
    assert {name: response.get("x-" + name) for name in want} == want
    address, _, port = response.get("x-source").rpartition(":")
    assert address == "127.0.0.1" and port == response.get("x-source-port") and int(port) > 0


def test_a_bad_configuration_of_a_go_filter_is_refused(nginx):
    built("sdk_go_styles")
    nginx.write("server { listen 127.0.0.1:@PORT@; proxy_wasm sdk_go_styles nonsense; }", wasm=f"module sdk_go_styles {filter_path('sdk_go_styles')};")
    result = nginx.check()
    assert result.returncode != 0 and "bad configuration of 8 bytes" in result.stderr + nginx.log()


# ---- through a gateway ----

ALL = ["sdk_c", "sdk_c_010", "sdk_cpp", "sdk_rust_014", "sdk_rust_021", "sdk_rust_current", "sdk_go_matrix", "sdk_as"]


@pytest.fixture(scope="module")
def gateway(origin_server):  # noqa: F811
    here = [name for name in (*ALL, "style_rust_rate_limiting", "style_rust_redact", "sdk_go_styles") if filter_path(name).exists()]
    with folder() as path:
        install(path / "filters", *here)
        with Gateway(path, document({"name": "s", "url": origin_server.url, "routes": [{"name": "r", "paths": ["/"]}]}), workers=1).start() as running:
            running.here = here
            yield running


def routed(origin, *filters):  # noqa: F811
    return document({"name": "svc", "url": origin.url, "routes": [{"name": "rt", "paths": ["/"], "filter_chains": [chain(*filters)]}]})


def test_filters_of_all_languages_work_in_one_chain(gateway, origin):  # noqa: F811
    names = [name for name in ALL if name in gateway.here]
    gateway.configure(routed(origin, *((name, name) for name in names)))
    response = gateway.request("POST", "/echo", [("x-do", "headers"), ("x-in", "v"), ("x-gone", "1")], b"body")
    assert response.get("x-filter") == names[-1]
    seen = [tuple(pair) for pair in echoed(response)["all"]]
    assert [v for n, v in seen if n == "x-in"] == ["v" + "-changed" * len(names)]
    assert [v for n, v in seen if n == "x-multi"] == ["one", "two"] * len(names) and "x-gone" not in dict(seen)
    response = gateway.request("POST", "/echo", [("x-do", "body")], b"body")
    assert json.loads(response.body)["body"] == "<" * len(names) + "body" + ">" * len(names)


@pytest.mark.parametrize("name", ALL)
def test_a_filter_of_each_language_replies_through_a_gateway(gateway, origin, name):  # noqa: F811
    built(name)
    gateway.configure(routed(origin, (name, name)))
    for behaviour, status, text in (("reply", 403, "denied"), ("replylate", 502, "late")):
        response = gateway.get("/echo", [("x-do", behaviour)])
        assert (response.status, response.text) == (status, f"{text}:{name}")


def test_a_rate_limit_counts_by_route_and_service(gateway, origin):  # noqa: F811
    built("style_rust_rate_limiting")
    gateway.configure(routed(origin, ("style_rust_rate_limiting", json.dumps({"limit": 2}))))
    seen = [gateway.get("/echo") for _ in range(3)]
    assert [response.status for response in seen] == [200, 200, 429]
    assert [response.get("x-ratelimit-remaining") for response in seen] == ["1", "0", "0"]
    assert seen[0].get("x-ratelimit-key").startswith("ratelimit:svc:rt:127.0.0.1:")


def test_a_go_filter_sees_what_the_gateway_knows(gateway, origin):  # noqa: F811
    built("sdk_go_styles")
    gateway.configure(routed(origin, ("sdk_go_styles", json.dumps({"filter": "kong"}))))
    response = gateway.get("/echo")
    want = {"route_name": "rt", "service_name": "svc", "client-protocol": "http", "ctx-shared-from-go": "kept"}
    assert {name: response.get("x-kong-" + name) for name in want} == want
    assert len(response.get("x-kong-route_id")) == 36
    assert response.get("x-kong-nothing").startswith("error: ")
