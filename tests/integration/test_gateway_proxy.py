"""Routing and proxying through nginx: what the upstream receives, what the client gets, errors in all their forms."""

import contextlib
import hashlib
import json
import re
import socket
import ssl
import subprocess
import threading

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import (  # noqa: F401
    VERSION,
    Gateway,
    Origin,
    TlsConnection,
    TlsHttp2,
    document,
    echoed,
    folder,
    free_port,
    home,
    one_service,
    origin,
    origin_server,
    payload,
    wait_for,
)
from support import http1, http2
from support.nginx import stopped

NO_ROUTE = "no Route matched with those values"


@pytest.fixture(scope="module")
def gateway(origin_server):
    with folder() as path:
        gateway = Gateway(path, one_service(origin_server.url), workers=1)
        gateway.tls = free_port()
        gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{gateway.tls} ssl http2"
        with gateway.start():
            yield gateway


def serve(gateway, origin, *routes, **service):
    """A service `s` with these routes; names are r0, r1..."""
    named = [{"name": f"r{i}", **route} for i, route in enumerate(routes)]
    if "url" not in service and "host" not in service:
        service["url"] = origin.url
    gateway.configure(document({"name": "s", **service, "routes": named}))


def path_seen(gateway, path, **more):
    return echoed(gateway.get(path, **more))["path"]


def sent(gateway, headers=(), path="/", **more):
    return echoed(gateway.get(path, headers, **more))["headers"]


# ---- matching --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service, route, request_path, upstream",
    [
        ("", {"paths": ["/a"]}, "/a/b", "/b"),
        ("", {"paths": ["/a"]}, "/a", "/"),
        ("", {"paths": ["/a"]}, "/abc", "/bc"),
        ("", {"paths": ["/a"], "strip_path": False}, "/a/b", "/a/b"),
        ("/base", {"paths": ["/a"]}, "/a/b", "/base/b"),
        ("/base/", {"paths": ["/a"]}, "/a", "/base"),
        ("/base", {"paths": ["/a"], "strip_path": False}, "/a/b", "/base/a/b"),
        ("/base", {"paths": ["/"]}, "/", "/base"),
        ("/base/", {"paths": ["/"]}, "/", "/base/"),
        ("", {"paths": [r"~/v\d+/users"]}, "/v12/users/x", "/x"),
        ("", {"paths": ["/"]}, "/x/../y//z", "/y/z"),
        ("", {"paths": ["/"]}, "/x?", "/x?"),
        ("", {"paths": ["/"]}, "/x?a=%2F&b=c+d&e=%20?", "/x?a=%2F&b=c+d&e=%20?"),
        ("", {"paths": ["/"]}, "/a%2fb%20c%41", "/a%2Fb%20cA"),
        ("", {"paths": ["/"]}, "/caf%C3%A9/%25", "/caf%C3%A9/%25"),
        ("", {"paths": ["/a"]}, "/a%3Fb?c", "/%3Fb?c"),
    ],
)
def test_the_upstream_gets_this_path(gateway, origin, service, route, request_path, upstream):
    serve(gateway, origin, route, url=origin.url + service)
    assert path_seen(gateway, request_path) == upstream


def test_the_most_precise_route_wins_and_nothing_else_matches(gateway, origin):
    routes = [
        {"paths": ["/api"], "strip_path": False, "tags": ["path"]},
        {"paths": ["/api"], "hosts": ["a.test"], "strip_path": True},
        {"paths": ["/only"], "methods": ["POST", "PURGE"]},
        {"paths": ["/with"], "headers": {"X-Version": ["1", "two"]}},
        {"hosts": ["*.wild.test"]},
    ]
    serve(gateway, origin, *routes)
    assert path_seen(gateway, "/api/x") == "/api/x"
    assert path_seen(gateway, "/api/x", host="a.test") == "/x"
    assert path_seen(gateway, "/api/x", host=f"a.test:{gateway.proxy}") == "/x"
    assert gateway.request("POST", "/only", body=b"x").status == 200
    assert gateway.request("PURGE", "/only").status == 200
    assert gateway.get("/only").status == 404
    assert gateway.get("/with", [("x-version", "TWO")]).status == 200
    assert gateway.get("/with", [("x-version", "3"), ("x-version", "1")]).status == 200
    assert gateway.get("/with", [("x-version", "12")]).status == 404
    assert gateway.get("/with").status == 404
    assert gateway.get("/anything", host="x.y.wild.test").status == 200
    assert gateway.get("/anything", host="wild.test").status == 404
    assert gateway.get("/ap").status == 404


def test_routes_choose_by_server_name_of_tls(gateway, origin):
    serve(gateway, origin, {"snis": ["one.test"], "protocols": ["https"], "strip_path": False, "paths": ["/"]})
    with TlsConnection(gateway.tls, "one.test") as c:
        c.send_request("GET", "/x")
        assert c.read_response().status == 200
    with TlsConnection(gateway.tls, "two.test") as c:
        c.send_request("GET", "/x")
        assert c.read_response().status == 404


def test_a_disabled_service_has_no_routes(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]}, enabled=False)
    assert gateway.get("/").status == 404


# ---- what the upstream is told ------------------------------------------------------------------------------------------------


def test_the_forwarded_headers_of_an_untrusted_peer_are_replaced(gateway, origin):
    serve(gateway, origin, {"paths": ["/in"]})
    lies = [(f"X-Forwarded-{n}", v) for n, v in [("For", "9.9.9.9"), ("Proto", "https"), ("Host", "h"), ("Port", "1"), ("Path", "/p"), ("Prefix", "/q")]]
    headers = sent(gateway, lies, "/in/%41?q=1", host="client.test:1234")
    assert headers["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"
    assert headers["x-real-ip"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == "client.test"
    assert headers["x-forwarded-port"] == str(gateway.proxy)
    assert headers["x-forwarded-path"] == "/in/%41"
    assert headers["x-forwarded-prefix"] == "/in"
    assert headers["host"] == f"127.0.0.1:{origin.port}"
    assert headers["via"] == f"1.1 sluice/{VERSION}"


def test_the_forwarded_headers_of_a_trusted_peer_are_kept(home, origin):
    doc = one_service(origin.url, paths=["/in"])
    with Gateway(home, doc, trusted_ips="127.0.0.0/8,::1", real_ip_header="X-Forwarded-For").start() as gateway:
        told = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "h"), ("X-Forwarded-Port", "1"), ("X-Forwarded-Path", "/p"), ("X-Forwarded-Prefix", "/q")]
        headers = sent(gateway, [("X-Forwarded-For", "203.0.113.9"), *told], "/in/x")
        assert headers["x-real-ip"] == "203.0.113.9"
        assert headers["x-forwarded-for"].startswith("203.0.113.9, ")
        assert {n: headers[n.lower()] for n, _ in told} == dict(told)
        plain = sent(gateway, path="/in/x")
        assert (plain["x-forwarded-proto"], plain["x-forwarded-prefix"], plain["x-forwarded-port"]) == ("http", "/in", str(gateway.proxy))


def test_a_trusted_peer_may_have_ended_tls(home, origin):
    doc = one_service(origin.url, protocols=["https"])
    with Gateway(home, doc, trusted_ips="127.0.0.1").start() as gateway:
        assert gateway.get("/").status == 426
        assert gateway.get("/", [("X-Forwarded-Proto", "https")]).status == 200


def test_a_prefix_is_told_only_when_one_was_stripped(gateway, origin):
    serve(gateway, origin, {"paths": ["/kept"], "strip_path": False}, {"paths": ["/"]})
    assert "x-forwarded-prefix" not in sent(gateway, path="/kept/x")
    assert "x-forwarded-prefix" not in sent(gateway, [("X-Forwarded-Prefix", "/lie")], "/other")


def test_the_host_is_the_services_or_the_clients(gateway, origin):
    serve(gateway, origin, {"paths": ["/own"]}, {"paths": ["/kept"], "preserve_host": True}, host="localhost", port=origin.port)
    assert sent(gateway, path="/own", host="client.test")["host"] == f"localhost:{origin.port}"
    assert sent(gateway, path="/kept", host="client.test:81")["host"] == "client.test:81"


def test_hop_by_hop_headers_stop_here(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    hop = [("Keep-Alive", "x"), ("Proxy", "x"), ("Proxy-Connection", "x"), ("Upgrade", "h2c"), ("Connection", "close, X-Hop"), ("X-Hop", "x"), ("TE", "gzip")]
    headers = sent(gateway, [*hop, ("Proxy-Authorization", "kept"), ("under_score", "kept"), ("X-Empty", "")])
    assert not {"keep-alive", "proxy", "proxy-connection", "upgrade", "te"} & set(headers)
    assert headers["connection"] == "keep-alive"
    assert headers["proxy-authorization"] == "kept" and headers["under_score"] == "kept"
    assert "x-hop" not in headers
    assert sent(gateway, [("TE", "gzip, trailers")])["te"] == "trailers"
    assert sent(gateway, [("Via", "1.0 before")])["via"] == f"1.0 before, 1.1 sluice/{VERSION}"


def test_several_headers_of_one_name_stay_several(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    echo = echoed(gateway.get("/", [("X-Many", "1"), ("X-Many", "2"), ("Cookie", "a=1")]))
    assert [v for n, v in echo["all"] if n == "x-many"] == ["1", "2"]


# ---- what the client is told ----------------------------------------------------------------------------------------------------


def test_the_upstreams_own_headers_pass(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    query = "Server=own&Date=Mon,%2001%20Jan%202024%2000:00:00%20GMT&X-Accel-Redirect=/x&Set-Cookie=a&Set-Cookie=b&Via=1.0%20up&X-Pad=p&Location=/rel"
    response = gateway.get(f"/headers?{query}")
    assert response.status == 200 and response.body == b"headers\n"
    assert response.get("server") == "own"
    assert response.get("date") == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert response.get("x-accel-redirect") == "/x"
    assert response.all("set-cookie") == ["a", "b"]
    assert response.all("via") == [f"1.0 up, 1.1 sluice/{VERSION}"]
    assert response.get("location") == "/rel"
    assert gateway.get("/bytes/10").get("server") == f"sluice/{VERSION}"


@pytest.mark.parametrize("status", [201, 204, 206, 301, 304, 400, 404, 418, 500, 502, 503, 504])
def test_the_upstreams_status_and_body_pass(gateway, origin, status):
    serve(gateway, origin, {"paths": ["/"]})
    response = gateway.get(f"/status/{status}")
    assert response.status == status and response.get("x-connection")
    assert response.body == (b"" if status in (204, 304) else b"from the origin\n")


# ---- errors ---------------------------------------------------------------------------------------------------------------------

TYPES = {
    "application/json": ("application/json", '{{\n  "message":"{m}",\n  "request_id":"{id}"\n}}'),
    "text/plain": ("text/plain", "{m}\nrequest_id: {id}\n"),
    "application/xml": ("application/xml", '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>{m}</message>\n  <requestid>{id}</requestid>\n</error>\n'),
    "text/html": ("text/html", None),
    "text/*": ("text/plain", "{m}\nrequest_id: {id}\n"),
    "*/*": ("application/json", '{{\n  "message":"{m}",\n  "request_id":"{id}"\n}}'),
    "image/png": ("application/json", '{{\n  "message":"{m}",\n  "request_id":"{id}"\n}}'),
    "text/html;q=0.5, application/xml;q=0.9": ("application/xml", None),
}


def check_error(response, message, accept):
    kind, form = TYPES[accept]
    assert response.get("content-type") == f"{kind}; charset=utf-8"
    request_id = response.get("x-kong-request-id")
    if form is not None:
        assert response.text == form.format(m=message, id=request_id)
    elif kind == "text/html":
        assert f"<p>{message}.</p>" in response.text and f"<p>request_id: {request_id}</p>" in response.text
    else:
        assert message in response.text


@pytest.mark.parametrize("accept", TYPES)
def test_no_route_is_404_in_the_clients_type(gateway, origin, accept):
    serve(gateway, origin, {"paths": ["/x"]})
    response = gateway.get("/y", [("Accept", accept)])
    assert response.status == 404
    check_error(response, NO_ROUTE, accept)
    assert response.get("server") == f"sluice/{VERSION}"
    assert re.fullmatch(r"\d+", response.get("x-kong-response-latency"))
    assert response.get("via") is None and response.get("x-kong-proxy-latency") is None


@pytest.mark.parametrize("accept", TYPES)
def test_an_upstream_that_refuses_is_502_in_the_clients_type(gateway, origin, accept):
    serve(gateway, origin, {"paths": ["/"]}, url=f"http://127.0.0.1:{free_port()}", retries=0)
    response = gateway.get("/y", [("Accept", accept)])
    assert response.status == 502
    check_error(response, "An invalid response was received from the upstream server", accept)
    assert response.get("x-kong-proxy-latency") and response.get("x-kong-upstream-latency") is not None
    assert response.all("via") == [f"1.1 sluice/{VERSION}"] and response.get("x-kong-response-latency") is None


def test_the_bodies_of_errors_may_be_ones_own(home, origin):
    (home / "html").write_text("<b>100%% %s</b> %s %s\n")
    (home / "json").write_text('{"error":"%s"}')
    for name in ("html", "json"):
        (home / name).chmod(0o644)
    with Gateway(home, one_service(origin.url, hosts=["a.test"]), error_template_html=home / "html", error_template_json=home / "json").start() as gateway:
        response = gateway.get("/", [("Accept", "text/html")])
        assert response.status == 404 and response.text == f"<b>100% {NO_ROUTE}</b> {response.get('x-kong-request-id')} %s\n"
        assert json.loads(gateway.get("/").body) == {"error": NO_ROUTE}
        assert gateway.get("/", [("Accept", "text/plain")]).text.startswith(NO_ROUTE + "\nrequest_id: ")


def test_without_accept_decisions_are_json_and_failures_plain_or_as_the_request(gateway, origin):
    serve(gateway, origin, {"paths": ["/y"]}, url=f"http://127.0.0.1:{free_port()}", retries=0)
    assert gateway.get("/x").get("content-type") == "application/json; charset=utf-8"
    assert gateway.get("/y").get("content-type") == "text/plain; charset=utf-8"
    posted = gateway.request("POST", "/y", [("Content-Type", "application/json")], b"{}")
    assert posted.status == 502 and posted.get("content-type") == "application/json; charset=utf-8"


def test_errors_keep_the_connection_and_have_no_body_for_head(gateway, origin):
    serve(gateway, origin, {"paths": ["/x"]})
    with http1.Connection(gateway.proxy) as c:
        for _ in range(3):
            c.send_request("POST", "/y", body=b"x" * 100000)
            assert c.read_response().status == 404
        c.send_request("HEAD", "/y")
        head = c.read_response("HEAD")
        assert head.status == 404 and int(head.get("content-length")) > 10
        c.send_request("GET", "/x")
        assert c.read_response().status == 200


def test_a_route_without_a_service_is_503(gateway):
    gateway.configure({"_format_version": "3.0", "routes": [{"name": "alone", "paths": ["/"]}]})
    response = gateway.get("/")
    assert response.status == 503
    assert json.loads(response.body)["message"] == "no Service found with those values"


def test_https_only_routes_ask_plain_clients_to_upgrade(gateway, origin):
    serve(gateway, origin, {"paths": ["/"], "protocols": ["https"]})
    response = gateway.get("/x?y=1")
    assert response.status == 426
    assert json.loads(response.body)["message"] == "Please use HTTPS protocol"
    assert response.get("upgrade") == "TLS/1.2, HTTP/1.1"
    assert "Upgrade" in response.all("connection")
    with TlsConnection(gateway.tls) as c:
        c.send_request("GET", "/x")
        assert c.read_response().status == 200


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_https_only_routes_may_redirect(gateway, origin, status):
    serve(gateway, origin, {"paths": ["/"], "protocols": ["https"], "https_redirect_status_code": status})
    response = gateway.get("/x%20y?z=%31", host="some.test:8000")
    assert (response.status, response.body) == (status, b"")
    assert response.get("location") == "https://some.test/x%20y?z=%31"


def test_http_only_routes_accept_tls_too(gateway, origin):
    serve(gateway, origin, {"paths": ["/"], "protocols": ["http"]})
    with TlsConnection(gateway.tls) as c:
        c.send_request("GET", "/x")
        assert c.read_response().status == 200


def test_grpc_routes_refuse_what_is_no_grpc(gateway, origin):
    serve(gateway, origin, {"paths": ["/"], "protocols": ["grpc", "grpcs"], "strip_path": False}, host="127.0.0.1", port=origin.port, protocol="grpc")
    response = gateway.get("/")
    assert (response.status, json.loads(response.body)["message"]) == (415, "Non-gRPC request matched gRPC route")
    response = gateway.get("/", [("Content-Type", "application/grpc")])
    assert (response.status, json.loads(response.body)["message"]) == (426, "Please use HTTP2 protocol")


@pytest.mark.parametrize(
    "raw, status, message",
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "Bad request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Bad request"),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Bad request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "Bad request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * 70000 + b"\r\n\r\n", 400, "Request header or cookie too large"),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI too long"),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "Method not allowed"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: foo\r\n\r\n", 501, "Not implemented"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "HTTP version not supported"),
    ],
)
def test_requests_that_nginx_refuses_get_the_same_bodies(gateway, origin, raw, status, message):
    serve(gateway, origin, {"paths": ["/"]})
    with http1.Connection(gateway.proxy) as c:
        c.send(raw)
        response = c.read_response()
    assert response.status == status, response
    request_id = response.get("x-kong-request-id")
    assert response.text == f"{message}\nrequest_id: {request_id}\n" and len(request_id) == 32
    assert response.get("server") == f"sluice/{VERSION}" and response.get("x-kong-response-latency") is not None


def test_a_body_that_is_too_large_is_413(home, origin):
    with Gateway(home, one_service(origin.url), nginx_http_client_max_body_size="1k").start() as gateway:
        response = gateway.request("POST", "/", body=b"x" * 2000)
        assert (response.status, response.text.split("\n")[0]) == (413, "Payload too large")


# ---- names, retries, times --------------------------------------------------------------------------------------------------------


def test_names_come_from_the_hosts_file(home, origin):
    (home / "hosts").write_text("127.0.0.1 origin.test other.test # a comment\n")
    doc = document(
        {"name": "a", "url": f"http://Origin.test:{origin.port}", "routes": [{"name": "a", "paths": ["/a"]}]},
        {"name": "b", "url": f"http://other.test:{origin.port}", "routes": [{"name": "b", "paths": ["/b"]}]},
        {"name": "c", "url": f"http://unknown.test:{origin.port}", "routes": [{"name": "c", "paths": ["/c"]}]},
        {"name": "d", "url": f"http://broken.test:{origin.port}", "routes": [{"name": "d", "paths": ["/d"]}]},
    )
    dns = Nameserver()
    try:
        with Gateway(home, doc, dns_hostsfile=home / "hosts", dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
            assert sent(gateway, path="/a")["host"].lower() == f"origin.test:{origin.port}"
            assert sent(gateway, path="/b")["host"] == f"other.test:{origin.port}"
            response = gateway.get("/c")
            assert response.status == 503
            assert json.loads(response.body)["message"] == "name resolution failed"
            response = gateway.get("/d")
            assert response.status == 500
            assert json.loads(response.body)["message"] == "name resolution failed: Server failure"
    finally:
        dns.close()


def test_headers_of_the_upstreams_connection_end_here(gateway, origin):
    gateway.configure(one_service(origin.url))
    sent_back = "Connection=X-Hop%2C+keep-alive%2C+Content-Type&X-Hop=1&X-Kept=1&Upgrade=foo&Trailer=X-T&Content-Type=text%2Fplain&Proxy-Authenticate=Basic"
    for te, trailer in (([], None), ([("TE", "trailers")], "X-T")):
        response = gateway.get(f"/headers?{sent_back}", te)
        assert response.status == 200 and response.get("content-type") == "text/plain" and response.get("x-kept") == "1"
        assert response.get("x-hop") is None and response.get("upgrade") is None and response.get("trailer") == trailer
        assert response.get("proxy-authenticate") == "Basic"


class Nameserver:
    """Knows the addresses in `names`; of `broken.*` it says that it failed, and whatever else does not exist. Only A records. With `silent` it answers when that is set."""

    def __init__(self, silent=None, **names):
        self.names, self.asked, self.silent = names, [], silent
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(2048)
            except OSError:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += query[at] + 1
            question, kind = query[12 : at + 5], int.from_bytes(query[at + 1 : at + 3], "big")
            name = ".".join(labels)
            self.asked.append(name)
            if self.silent is not None:
                self.silent.wait(30)
            address = self.names.get(name.replace(".", "_"))
            answers = b""
            if address is not None and kind == 1:
                answers = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(address)
            code = 0 if address is not None else 2 if name.startswith("broken.") else 3
            flags = b"\x81" + bytes([0x80 | code])
            with contextlib.suppress(OSError):  # closed meanwhile
                self.sock.sendto(query[:2] + flags + b"\x00\x01" + (b"\x00\x01" if answers else b"\x00\x00") + b"\x00" * 4 + question + answers, peer)

    def close(self):
        self.sock.close()


def test_names_come_from_the_name_server(home, origin):
    dns = Nameserver(service_test="127.0.0.1")
    try:
        with Gateway(home, one_service(f"http://service.test:{origin.port}"), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
            for _ in range(5):
                assert sent(gateway)["host"] == f"service.test:{origin.port}"
            assert 1 <= dns.asked.count("service.test") <= 4  # remembered for its time
    finally:
        dns.close()


@pytest.mark.parametrize("leave", [True, False])
def test_requests_wait_for_a_name_and_may_leave_meanwhile(home, origin, leave):
    answer = threading.Event()
    dns = Nameserver(silent=answer, service_test="127.0.0.1")
    try:
        gateway = Gateway(home, one_service(f"http://service.test:{origin.port}"), dns_resolver=f"127.0.0.1:{dns.port}")
        with gateway.start():
            connections = [http1.Connection(gateway.proxy) for _ in range(8)]
            for c in connections:
                c.send_request("POST", "/x", body=b"a body")
            wait_for(lambda: dns.asked, "the question")
            if leave:
                for c in connections[:6]:
                    c.close()
                wait_for(lambda: gateway.log().count("prematurely closed connection") >= 6, "nginx sees them leave")
            answer.set()
            for c in connections[6:] if leave else connections:
                assert echoed(c.read_response())["body"] == "a body"
                c.close()
            assert gateway.get("/y").status == 200
    finally:
        answer.set()
        dns.close()


def test_clients_who_have_left_with_their_requests_do_not_wait_for_a_name(home):
    silent = threading.Event()
    dns = Nameserver(silent=silent)
    services = [{"name": n, "url": url, "routes": [{"name": n, "paths": [f"/{n}"]}]} for n, url in (("host", "http://service.test"), ("pool", "http://pool"))]
    doc = document(*services, upstreams=[{"name": "pool", "targets": [{"target": "other.test:80"}]}])
    try:
        gateway = Gateway(home, doc, dns_resolver=f"127.0.0.1:{dns.port}")
        port2 = free_port()
        gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{port2} http2"
        with gateway.start():
            with stopped(wait_for(gateway.workers, "a worker")[0]):
                for path in ("/host", "/pool"):
                    with http1.Connection(gateway.proxy) as c:
                        c.send_request("POST", path, body=b"a body")
                    with http2.Connection(port2) as c:
                        c.send_headers("GET", path)
            wait_for(lambda: (gateway.prefix / "logs/access.log").read_text().count(" 499 ") == 4, "nginx sees them leave")
            process, gateway.process = gateway.process, None
            assert "gracefully" in gateway.run("quit").stdout  # nobody waits for the answer any more
            assert process.wait(20) == 0
    finally:
        silent.set()
        dns.close()


def test_a_service_may_have_an_ipv6_address(gateway, origin):
    def answer(listener):
        peer, _ = listener.accept()
        head = peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(head), head))
        peer.close()

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        serve(gateway, origin, {"paths": ["/"]}, url=f"http://[::1]:{port}/base")
        response = gateway.get("/x")
        assert response.status == 200
        assert response.text.startswith("GET /base/x HTTP/1.1\r\n") and f"\r\nHost: [::1]:{port}\r\n" in response.text


def test_localhost_needs_no_name_server(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]}, url=f"http://localhost:{origin.port}/base")
    assert path_seen(gateway, "/x") == "/base/x"


@pytest.mark.parametrize("text", [None, "", "127.0.0.1 elsewhere\n", "127.0.0.2 localhost\n"])
def test_localhost_is_known_without_a_hosts_file_that_says_so(home, origin, text):
    if text is not None:
        (home / "hosts").write_text(text)
    doc = document({"name": "s", "url": f"http://localhost:{origin.port}/base", "retries": 0, "routes": [{"name": "r", "paths": ["/"]}]})
    with Gateway(home, doc, dns_hostsfile=home / "hosts").start() as gateway:
        assert gateway.get("/x").status == (502 if text and "localhost" in text else 200)


@pytest.mark.parametrize("broken, retries, status", [(0, 0, 200), (1, 0, 502), (2, 2, 200), (3, 2, 502), (5, 5, 200)])
def test_a_service_is_tried_again_as_often_as_it_says(gateway, broken, retries, status):
    fresh = Origin()  # nginx tries once more, for nothing, when a kept connection turns out to be gone
    try:
        serve(gateway, fresh, {"paths": ["/"]}, retries=retries)
        assert gateway.get(f"/flaky/{broken}").status == status
        assert len(fresh.seen) == min(broken, retries) + 1
    finally:
        fresh.stop()


def test_a_request_that_is_not_idempotent_is_not_sent_twice(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]}, retries=5)
    assert gateway.request("POST", "/flaky/3", body=b"pay").status == 502
    assert len(origin.seen) == 1


def test_an_upstream_that_is_too_slow_is_504(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]}, read_timeout=100, retries=1)
    response = gateway.get("/hang", [("Accept", "text/plain")])
    assert response.status == 504
    assert response.text.startswith("The upstream server is timing out\nrequest_id: ")
    assert len(origin.seen) == 2
    serve(gateway, origin, {"paths": ["/"]})
    assert gateway.get("/x").status == 200


def test_a_connect_that_hangs_is_504(gateway, origin):
    with socket.socket() as s:
        # a listener whose queue is full does not answer
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for f in fill:
            f.setblocking(False)
            f.connect_ex(s.getsockname())
        try:
            serve(gateway, origin, {"paths": ["/"]}, url=f"http://127.0.0.1:{s.getsockname()[1]}", connect_timeout=100, retries=0)
            assert gateway.get("/x").status == 504
        finally:
            for f in fill:
                f.close()


def test_connections_to_the_upstream_are_kept(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    numbers = {gateway.get("/bytes/10").get("x-connection") for _ in range(6)}
    assert len(numbers) == 1


# ---- bodies -------------------------------------------------------------------------------------------------------------------------

MB = 1024 * 1024


def test_large_bodies_pass_both_ways(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    body = payload(12 * MB)
    echo = echoed(gateway.request("POST", "/", body=body))
    assert (echo["length"], echo["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert echo["headers"]["content-length"] == str(len(body))
    response = gateway.get(f"/bytes/{12 * MB}")
    assert response.complete and response.body == body


@pytest.mark.parametrize("buffering", [True, False])
def test_chunked_uploads_pass(gateway, origin, buffering):
    serve(gateway, origin, {"paths": ["/"], "request_buffering": buffering, "response_buffering": buffering})
    chunks = [payload(1000), b"x", payload(100000)]
    echo = echoed(gateway.request("PUT", "/", chunks=chunks))
    assert (echo["length"], echo["sha256"]) == (101001, hashlib.sha256(b"".join(chunks)).hexdigest())
    assert gateway.get("/bytes/300000").body == payload(300000)


def test_an_upload_without_buffering_reaches_the_upstream_before_its_end(gateway, origin):
    serve(gateway, origin, {"paths": ["/"], "request_buffering": False})
    with http1.Connection(gateway.proxy) as c:
        c.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        wait_for(lambda: origin.seen, "the head at the upstream")
        c.send("defghij")
        assert echoed(c.read_response())["body"] == "abcdefghij"


def test_an_upload_with_buffering_waits_for_its_end(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    with http1.Connection(gateway.proxy) as c:
        c.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert gateway.get("/other").status == 200
        assert [path for _, path, _ in origin.seen] == ["/other"]
        c.send("defghij")
        assert echoed(c.read_response())["body"] == "abcdefghij"


def test_head_and_expect_continue(gateway, origin):
    serve(gateway, origin, {"paths": ["/"]})
    response = gateway.request("HEAD", "/bytes/1000")
    assert response.status == 200 and response.get("content-length") == "1000" and response.body == b""
    with http1.Connection(gateway.proxy) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert c.read_some(10).startswith(b"HTTP/1.1 100")
        c.buffer = b""
        c.send("abc")
        assert echoed(c.read_response())["body"] == "abc"


def test_http2_over_tls_passes_everything(gateway, origin):
    serve(gateway, origin, {"paths": ["/in"]})
    with TlsHttp2(gateway.tls) as c:
        streams = [c.send_headers("GET", f"/in/bytes/{n}") for n in (0, 10, 200000)]
        for stream, n in zip(streams, (0, 10, 200000), strict=True):
            response = c.finish(stream)
            assert response.status == 200 and response.body == payload(n)
        post = c.send_headers("POST", "/in/x?q", [("content-type", "a/b")], end=False)
        c.send_data(post, payload(300000), end=True)
        echo = json.loads(c.finish(post).body)
        assert (echo["path"], echo["length"]) == ("/x?q", 300000)
        headers = dict(echo["headers"])
        assert headers["x-forwarded-proto"] == "https" and headers["x-forwarded-prefix"] == "/in" and headers["via"].startswith("2 sluice/")
        missing = c.finish(c.send_headers("GET", "/out"))
        assert missing.status == 404 and json.loads(missing.body)["message"] == NO_ROUTE


def test_websockets_pass(gateway, origin):
    serve(gateway, origin, {"paths": ["/ws"], "strip_path": True})
    with http1.Connection(gateway.proxy) as c:
        c.send_request("GET", "/ws/websocket", [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "eA==")])
        head = c.read_head()
        assert head.status == 101
        assert head.get("upgrade").lower() == "websocket" and head.get("sec-websocket-accept") == "test"
        assert head.get("connection").lower() == "upgrade"
        for message in (b"ping", b"x" * 20000):
            c.send(message)
            assert c._exactly(len(message)) == (message[::-1], True)
    headers = dict(origin.seen[0][2])
    assert headers["connection"] == "keep-alive, Upgrade" and headers["upgrade"] == "websocket"


# ---- TLS to the upstream ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_origin():
    with folder() as path:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=origin.test", "-days", "2"]
            + ["-keyout", path / "key.pem", "-out", path / "cert.pem"],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path / "cert.pem", path / "key.pem")
        names = []
        context.sni_callback = lambda sock, name, ctx: names.append(name)
        origin = Origin(tls=context)
        origin.names = names
        yield origin
        origin.stop()


def test_an_https_service_is_reached_by_its_name(gateway, tls_origin):
    tls_origin.names.clear()
    serve(gateway, tls_origin, {"paths": ["/"]}, url=f"https://localhost:{tls_origin.port}")
    assert sent(gateway)["host"] == f"localhost:{tls_origin.port}"
    assert tls_origin.names == ["localhost"]


def test_kept_tls_connections_are_not_used_for_another_name(home, tls_origin):
    """One address may serve many names; a connection that was made for one of them is no answer for another."""
    (home / "hosts").write_text("127.0.0.1 one.test two.test\n::1 six.test\n")
    doc = document(
        *({"name": n, "url": f"https://{n}.test:{tls_origin.port}", "routes": [{"name": n, "paths": [f"/{n}"]}]} for n in ("one", "two")),
        {"name": "kept", "url": f"https://one.test:{tls_origin.port}", "routes": [{"name": "kept", "paths": ["/kept"], "preserve_host": True}]},
    )
    with Gateway(home, doc, dns_hostsfile=home / "hosts").start() as gateway:
        tls_origin.names.clear()
        numbers = [gateway.get(path).get("x-connection") for path in ("/one", "/two", "/one", "/two", "/one/bytes/10")]
        assert tls_origin.names == ["one.test", "two.test"]
        assert numbers[0] == numbers[2] == numbers[4] and numbers[1] == numbers[3] != numbers[0]
        gateway.get("/kept", host="three.test")
        assert tls_origin.names[2:] == ["three.test"]


def test_a_service_that_speaks_no_tls_is_502(gateway, origin):
    def answer(listener):
        peer, _ = listener.accept()
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        serve(gateway, origin, {"paths": ["/"]}, url=f"https://127.0.0.1:{listener.getsockname()[1]}", retries=0)
        assert gateway.get("/").status == 502
