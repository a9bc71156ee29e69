"""The access log as JSON: one object for each request, with route, service and what filters took."""

import json

from gateway_helpers import Gateway, chain, document, folder, install, origin, origin_server, wait_for  # noqa: F401
from support import http1

FIELDS = ["time", "request_id", "client_ip", "method", "scheme", "host", "uri", "protocol", "user_agent", "referer", "status", "request_bytes", "response_bytes", "latency_ms", "upstream", "route", "service", "filters"]


def lines(gateway, n):
    path = gateway.prefix / "logs/access.log"
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= n, f"{n} lines of the access log")
    return [json.loads(line) for line in path.read_text().splitlines()]


def configuration(origin_server):
    return document(
        {
            "name": "shop",
            "url": origin_server.url,
            "routes": [{"name": "with", "paths": ["/with"], "filter_chains": [chain(("probe", ""), ("my-c-filter", '{"my_greeting":"hi"}'))]}, {"paths": ["/bare"]}],
        }
    )


def test_each_request_is_an_object_with_route_service_and_filters(origin_server):
    with folder() as path:
        install(path / "filters", "probe", "my-c-filter")
        with Gateway(path, configuration(origin_server), proxy_access_log_format="json").start() as gateway:
            answer = gateway.request("POST", "/with/a?b=%22&c=1", [("User-Agent", 'a"b\\c'), ("Referer", "x\u00e9")], b"body")
            assert answer.status == 200
            gateway.get("/bare")
            gateway.get("/none")
            first, bare, none = lines(gateway, 3)
            assert list(first) == FIELDS == list(bare) == list(none)
            assert (first["method"], first["uri"], first["status"], first["host"], first["scheme"]) == ("POST", "/with/a?b=%22&c=1", 200, "localhost", "http")
            assert first["request_id"] == answer.get("x-kong-request-id") and first["user_agent"] == 'a"b\\c' and first["referer"] == "x\u00e9"
            assert first["route"]["name"] == "with" and first["service"]["name"] == "shop"
            assert first["upstream"]["status"] == 200 and first["upstream"]["tries"] == 1 and first["upstream"]["address"].endswith(str(origin_server.port))
            assert first["latency_ms"]["request"] >= first["latency_ms"]["upstream"] >= 0
            assert [f["name"] for f in first["filters"]] == ["probe", "my-c-filter"]
            assert all(f["callbacks"] >= 1 and 0 < f["time_us"] < 1e6 for f in first["filters"])
            assert bare["route"]["name"] is None and len(bare["route"]["id"]) == 36 and bare["filters"] == []
            assert none["status"] == 404 and none["route"] is None and none["service"] is None and none["upstream"] is None and none["latency_ms"]["upstream"] is None


def test_what_clients_send_cannot_break_a_line(origin_server):
    with folder() as path:
        install(path / "filters", "probe", "my-c-filter")
        with Gateway(path, configuration(origin_server), proxy_access_log_format="json").start() as gateway:
            with http1.Connection(gateway.proxy) as connection:
                connection.send(b'GET /bare HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe"}\t{\\\r\nReferer: ' + b"\xc3\xa9" * 6000 + b"\r\nConnection: close\r\n\r\n")
                connection.read_response()
            with http1.Connection(gateway.proxy) as connection:
                connection.send(b"nonsense\r\n\r\n")
                connection.at_end()
            strange, nonsense = lines(gateway, 2)
            assert strange["user_agent"] == '\u00ff\u00fe"}\t{\\' and 8190 <= len(strange["referer"].encode()) <= 8192
            assert nonsense["status"] == 400 and nonsense["method"] is None


def test_the_log_is_text_unless_asked_for(origin_server):
    with folder() as path:
        install(path / "filters", "probe", "my-c-filter")
        with Gateway(path, configuration(origin_server)).start() as gateway:
            gateway.get("/bare")
            path = gateway.prefix / "logs/access.log"
            wait_for(lambda: path.read_text().endswith("\n"), "a line")
            assert '"GET /bare HTTP/1.1" 200' in path.read_text() and "kong_request_id" in path.read_text()
