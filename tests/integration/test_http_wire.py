"""Whatever a filter writes, what goes over the wire is a message: nothing splits it, ends it early or makes it malformed."""

import re

import pytest

from support import http1, http2, probe

FORBIDDEN = ("connection", "te", "upgrade", "transfer-encoding", "keep-alive", "proxy-connection")


@pytest.fixture
def proxy(nginx, upstream):
    def start(*lines, extra="", location=""):
        nginx.start(
            f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; large_client_header_buffers 4 32k; {extra} {probe.use(*lines, probe.EXEC)} "
            f"location / {{ {location} proxy_pass http://127.0.0.1:{upstream.port}; }} location /own {{ return 200 own; }} }}",
            wasm=probe.module(),
        )
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def next_is_fine(nginx, connection, path="/bytes/7"):
    """The same connection serves another request: nothing was left over on it."""
    connection.send_request("GET", path)
    response = connection.read_response()
    assert response.status == 200 and len(response.body) == 7 and response.complete


# ---- a status that is not final ----


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
@pytest.mark.parametrize("path", ["/bytes/10", "/own"])
def test_a_status_below_200_cannot_be_set(proxy, client, status, path):
    nginx = proxy()
    lines = (f"response_headers: set :status {status}", "response_headers: status x-set", f"response_headers: set_pairs :status={status} a=b", "response_headers: status x-pairs")
    response = client.get(port(nginx, client), path, probe.do(*lines))
    assert (response.status, response.complete) == (200, True)
    assert response.get("x-pairs") == "2"


@pytest.mark.parametrize("status", [0, 99, 100, 101, 103, 199, 1000])
@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_a_reply_below_200_is_refused(proxy, client, status, phase):
    nginx = proxy()
    response = client.get(port(nginx, client), "/bytes/10", probe.do(f"{phase}: reply {status} body", f"{phase}: return 0", f"{phase}: status x-reply"))
    assert (response.status, response.get("x-reply"), len(response.body)) == (200, "2", 10)


def test_a_filter_of_wasmx_that_sets_such_a_status_goes_on(proxy, client):
    nginx = proxy(extra="proxy_wasm_dialect wasmx;")
    response = client.get(port(nginx, client), "/bytes/10", probe.do("response_headers: set :status 103", "response_headers: status x-set"))
    assert (response.status, response.get("x-set")) == (200, "0")
    assert any("invalid response status" in line for line in nginx.log_lines("status"))


# ---- a status without a body ----


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("path", ["/bytes/10", "/bytes/300000", "/chunked/50/10", "/nolength/30", "/own"])
@pytest.mark.parametrize("hold", ["", "response_headers: pause"])
def test_a_body_does_not_follow_a_status_that_has_none(proxy, upstream, status, path, hold):
    nginx = proxy(*([hold, *probe.TICKS] if hold else []))
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", path, probe.do(f"response_headers: set :status {status}"))
        response = c.read_response()
        assert response.status == status
        next_is_fine(nginx, c)
    response = http2.get(nginx.port("2"), path, probe.do(f"response_headers: set :status {status}"))
    assert (response.status, response.body, response.complete) == (status, b"", True)


@pytest.mark.parametrize("path", ["/bytes/10", "/chunked/50000/100", "/nolength/30", "/slow/4/20"])
@pytest.mark.parametrize("when", ["response_body: pause_until_eos", "response_body: return 0"])
def test_a_status_without_a_body_may_be_found_out_from_the_body(proxy, client, upstream, path, when):
    nginx = proxy("response_headers: return 1", when, "response_body@1: set@res :status 204", extra="proxy_wasm_headers_stop_iteration on;")
    for _ in range(2):
        response = client.get(port(nginx, client), path)
        assert (response.status, response.body, response.complete) == (204, b"", True)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_a_reply_without_a_body_has_none_though_the_filter_gave_one(proxy, status, phase):
    nginx = proxy()
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/bytes/10", probe.do(f"{phase}: reply {status} a-body"))
        assert c.read_response().status == status
        next_is_fine(nginx, c)
    response = http2.get(nginx.port("2"), "/bytes/10", probe.do(f"{phase}: reply {status} a-body"))
    assert (response.status, response.body) == (status, b"")


@pytest.mark.parametrize("path", ["/status/204", "/status/304"])
def test_a_status_with_a_body_made_of_one_without_is_whole(proxy, client, path):
    nginx = proxy()
    response = client.get(port(nginx, client), path, probe.do("response_headers: set :status 200", "response_body@eos: append more"))
    assert response.status == 200 and response.complete and response.body in (b"", b"more")


# ---- characters ----


BAD_VALUES = ["a\\r\\nx-evil: 1", "a\\nx-evil: 1", "a\\rb", "a\\0b", "a\\x01b", "a\\x1fb", "a\\x7fb", "\\r\\n\\r\\nHTTP/1.1 200 OK"]
BAD_NAMES = ["a\\r\\nb", "a\\sb", "a:b", "a\\0b", "a\\x80", "a(b", "\\e", ":", ":status:", ":x\\nb"]


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_bad_values_are_refused(proxy, client, phase):
    nginx = proxy()
    for i, value in enumerate(BAD_VALUES):
        for command in ("add", "set"):
            response = client.get(port(nginx, client), "/echo", probe.do(f"{phase}: {command} x-bad {value}", f"{phase}: status x-status"))
            assert response.get("x-status") == "2", (value, command)
            assert response.get("x-bad") is None and response.get("x-evil") is None and b"x-evil" not in response.body.replace(b"x-do", b"")[:0]


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_bad_names_are_refused(proxy, client, upstream, phase):
    nginx = proxy()
    for name in BAD_NAMES:
        response = client.get(port(nginx, client), "/bytes/3", probe.do(f"{phase}: add {name} v", f"{phase}: status x-status"))
        assert (response.status, response.get("x-status")) == (200, "2"), name
    for _, _, headers in upstream.seen:
        assert all(re.fullmatch(r"[a-z0-9-]+", name) for name, _ in headers), headers


def test_bad_headers_of_a_reply_are_left_out(proxy, client):
    nginx = proxy()
    response = client.get(port(nginx, client), "/bytes/3", probe.do("request_headers: reply 403 no x-good=1 x-bad=a\\r\\nb x\\nbad=1 transfer-encoding=chunked content-length=99 connection=upgrade"))
    assert (response.status, response.body, response.get("x-good")) == (403, b"no", "1")
    assert response.get("x-bad") is None and response.get("content-length") == "2"


def test_bad_trailers_are_refused(proxy, client):
    nginx = proxy()
    lines = ["response_headers: remove content-length", "response_body@eos: add@rest x-bad a\\r\\nb", "response_body@eos: add@rest x-good 1", "response_body@eos: add@rest content-length 5", "response_body@eos: add@rest transfer-encoding gzip"]
    response = client.get(port(nginx, client), "/chunked/30/10", probe.do(*lines))
    assert response.complete and len(response.body) == 30
    assert response.trailers == [("x-good", "1")]


def test_filters_of_wasmx_have_them_escaped(proxy, client):
    nginx = proxy(extra="proxy_wasm_dialect wasmx;")
    response = client.get(port(nginx, client), "/bytes/3", probe.do("response_headers: add x-bad a\\r\\nx-evil:\\s1\\x01", "response_headers: add x\\sy v"))
    assert response.get("x-bad") == "a%0D%0Ax-evil: 1%01" and response.get("x%20y") == "v"


def test_blanks_around_a_value_are_no_part_of_it(proxy, client):
    nginx = proxy()
    response = client.get(port(nginx, client), "/bytes/3", probe.do("response_headers: add x-blank \\s\\ta b\\t\\s", "response_headers: add x-only \\s"))
    assert (response.get("x-blank"), response.get("x-only")) == ("a b", "")


@pytest.mark.parametrize("value", ["/etc", "a/../b", "..", "a b", "\\e", "a\\\\b"])
def test_an_authority_that_is_no_host_is_refused(proxy, client, value):
    nginx = proxy(extra='add_header x-host "$host";')
    response = client.get(port(nginx, client), "/bytes/3", probe.do(f"request_headers: set :authority {value}", "request_headers: status x-status"), host="good.test")
    assert (response.get("x-host"), response.get("x-status")) == ("good.test", "2")


# ---- headers of the connection ----


@pytest.mark.parametrize("command", ["add", "set", "pairs", "reply"])
def test_headers_of_the_connection_never_reach_http2(proxy, command):
    nginx = proxy()
    if command == "pairs":
        lines = ["response_headers: set_pairs :status=200 x-mine=1 " + " ".join(f"{name}=trailers" for name in FORBIDDEN)]
    elif command == "reply":
        lines = ["request_headers: reply 200 text x-mine=1 " + " ".join(f"{name}=trailers" for name in FORBIDDEN)]
    else:
        lines = ["response_headers: add x-mine 1"] + [f"response_headers: {command} {name} trailers" for name in FORBIDDEN]
    response = http2.get(nginx.port("2"), "/bytes/10", probe.do(*lines))
    assert (response.status, response.get("x-mine"), response.complete) == (200, "1", True)
    assert [name for name, _ in response.headers if name in FORBIDDEN] == []


def test_trailers_of_the_connection_never_reach_http2(proxy):
    nginx = proxy()
    lines = ["response_headers: remove content-length"] + [f"response_body@eos: add@rest {name} trailers" for name in FORBIDDEN] + ["response_body@eos: add@rest x-t 1"]
    assert http2.get(nginx.port("2"), "/bytes/10", probe.do(*lines)).trailers == [("x-t", "1")]


def test_the_framing_of_http1_is_not_the_filters(proxy):
    nginx = proxy()
    with http1.Connection(nginx.port()) as c:
        for lines in (["set transfer-encoding chunked"], ["set transfer-encoding chunked", "remove content-length"], ["add transfer-encoding gzip"], ["set connection upgrade"], ["remove connection"]):
            c.send_request("GET", "/bytes/7", probe.do(*[f"response_headers: {line}" for line in lines]))
            response = c.read_response()
            assert len(response.body) == 7 and response.complete and len(response.all("transfer-encoding")) <= 1
        next_is_fine(nginx, c)


def test_a_filter_may_close_the_connection(proxy):
    nginx = proxy()
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/bytes/7", probe.do("response_headers: set connection close"))
        assert c.read_response().get("connection") == "close"
        assert c.at_end()


def test_the_request_has_one_length_whatever_a_filter_adds(proxy, client, upstream):
    nginx = proxy()
    lines = ["add content-length 3", "add content-length 99", "add transfer-encoding chunked", "add connection keep-alive", "add host other.test", "add te trailers"]
    response = client.request(port(nginx, client), "POST", "/echo", probe.do(*[f"request_headers: {line}" for line in lines]), b"hello")
    assert response.status == 200
    headers = upstream.seen[0][2]
    names = [name for name, _ in headers]
    assert upstream.bodies == [b"hello"]
    for name in ("content-length", "transfer-encoding", "host", "connection"):
        assert names.count(name) <= 1, headers
    assert ("content-length", "5") in headers
