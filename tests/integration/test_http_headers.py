"""Header maps over HTTP: what filters see, and what of their changes reaches the upstream and the client."""

import json

import pytest

from support import http1, http2, probe


@pytest.fixture
def proxy(nginx, upstream):
    def start(*lines, extra="", location="", http=""):
        filters = probe.use(*lines, probe.EXEC)
        body = f"{filters} {extra} location / {{ {location} proxy_pass http://127.0.0.1:{upstream.port}; }}"
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {body} }}"
        nginx.start(servers, http=http, wasm=probe.module())
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def echo(response):
    assert response.status == 200, response
    return json.loads(response.body)


def values(doc, name):
    return [v for n, v in doc["headers"] if n == name]


def test_pseudo_headers_are_shown_and_counted(proxy, client):
    nginx = proxy("request_headers: get :method x-m", "request_headers: get :path x-p", "request_headers: get :authority x-a", "request_headers: get :scheme x-s", "request_headers: pairs x-all")
    response = client.get(port(nginx, client), "/echo/a%20b?q=1", [("X-One", "1")], host="example.test")
    assert response.get("x-m") == "GET"
    assert response.get("x-p") == "/echo/a%20b?q=1"
    assert response.get("x-a") == "example.test"
    assert response.get("x-s") == "http"
    names = [pair.split("=")[0] for pair in response.get("x-all").split(",")]
    assert names[:4] == [":authority", ":path", ":method", ":scheme"]
    assert "host" not in names and "x-one" in names


def test_added_replaced_and_removed_request_headers_reach_the_upstream(proxy, client):
    nginx = proxy()
    lines = ("request_headers: add x-new one", "request_headers: add x-new two", "request_headers: set x-old changed", "request_headers: remove x-gone", "request_headers: remove x-absent")
    response = client.get(port(nginx, client), "/echo", [("X-Old", "1"), ("X-Old", "2"), ("X-Gone", "1"), ("X-Gone", "2"), ("X-Kept", "k"), *probe.do(*lines)])
    doc = echo(response)
    assert values(doc, "x-new") == ["one", "two"]
    assert values(doc, "x-old") == ["changed"]
    assert values(doc, "x-gone") == []
    assert values(doc, "x-kept") == ["k"]


def test_many_headers_can_be_removed_and_added_again(proxy, client):
    nginx = proxy()
    headers = [(f"X-H{i}", str(i)) for i in range(50)]
    lines = [f"request_headers: remove x-h{i}" for i in range(50)] + ["request_headers: add x-h7 back"]
    doc = echo(client.get(port(nginx, client), "/echo", headers + probe.do(*lines)))
    assert [(n, v) for n, v in doc["headers"] if n.startswith("x-h")] == [("x-h7", "back")]


def test_the_whole_request_map_can_be_replaced(proxy, client):
    nginx = proxy()
    doc = echo(client.get(port(nginx, client), "/echo", [("X-Old", "1"), *probe.do("request_headers: set_pairs :path=/echo/other :method=PUT x-only=1 x-only=2")]))
    assert doc["method"] == "PUT"
    assert doc["path"] == "/echo/other"
    assert values(doc, "x-old") == []
    assert values(doc, "x-only") == ["1", "2"]


@pytest.mark.parametrize("path", ["/echo/changed?a=b", "/echo/%2F%20x", "/echo", "/echo/a/../b?x=/../", "/echo/?"])
def test_a_changed_path_reaches_a_plain_proxy_pass(proxy, client, path):
    nginx = proxy()
    doc = echo(client.get(port(nginx, client), "/echo/original?q=1", probe.do(f"request_headers: set :path {path}")))
    assert doc["path"] == path


def test_a_changed_path_reaches_a_proxy_pass_with_a_uri(nginx, upstream, client):
    server = f"location /api/ {{ proxy_pass http://127.0.0.1:{upstream.port}/echo/; }}"
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use(probe.EXEC)} {server} }}", wasm=probe.module())
    doc = echo(client.get(port(nginx, client), "/api/x", probe.do("request_headers: set :path /api/y%20z?k=v")))
    assert doc["path"] == "/echo/y%20z?k=v"


def test_a_path_that_is_none_changes_nothing(proxy, client):
    nginx = proxy()
    doc = echo(client.get(port(nginx, client), "/echo/o", probe.do("request_headers: set :path no-slash", "request_headers: set :path /a\\sb")))
    assert doc["path"] == "/echo/o"


def test_variables_follow_a_changed_path(proxy, client):
    nginx = proxy(extra='add_header x-vars "$request_uri $uri $args";')
    response = client.get(port(nginx, client), "/echo", probe.do("request_headers: set :path /echo/a%41?z=1"))
    assert response.get("x-vars") == "/echo/a%41?z=1 /echo/aA z=1"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PROPFIND", "CUSTOM"])
def test_a_changed_method_reaches_the_upstream(proxy, client, method):
    nginx = proxy()
    assert echo(client.get(port(nginx, client), "/echo", probe.do(f"request_headers: set :method {method}")))["method"] == method


def test_head_made_get_answers_without_a_body(proxy, client, upstream):
    nginx = proxy()
    with client.Connection(port(nginx, client)) as c:
        if client is http1:
            c.send_request("HEAD", "/bytes/1000", probe.do("request_headers: set :method GET"))
            response = c.read_head()
            c.send_request("GET", "/bytes/10")
            assert c.read_response().body == b"0000000000"
        else:
            response = c.finish(c.send_headers("HEAD", "/bytes/1000", probe.do("request_headers: set :method GET")))
    assert response.status == 200 and response.body == b""
    assert upstream.seen[0][0] == "GET"


def test_get_made_head_answers_with_an_empty_body(proxy, client, upstream):
    nginx = proxy()
    response = client.get(port(nginx, client), "/bytes/1000", probe.do("request_headers: set :method HEAD"))
    assert (response.status, response.body, response.complete) == (200, b"", True)
    assert upstream.seen[0][0] == "HEAD"


@pytest.mark.parametrize("name", [":authority", "host"])
def test_a_changed_authority_reaches_the_upstream_and_host(proxy, client, name):
    nginx = proxy(location="proxy_set_header Host $http_host;", extra='add_header x-host "$host";')
    response = client.get(port(nginx, client), "/echo", probe.do(f"request_headers: set {name} Other.test:81"), host="first.test")
    assert values(echo(response), "host") == ["Other.test:81"]
    assert response.get("x-host") == "other.test"


def test_known_request_headers_stay_known_after_changes(proxy, client):
    nginx = proxy(extra='add_header x-vars "$http_user_agent|$http_cookie|$http_x_forwarded_for|$http_referer";')
    lines = ("request_headers: set user-agent new", "request_headers: add cookie b=2", "request_headers: add x-forwarded-for 2.2.2.2", "request_headers: remove referer")
    headers = [("User-Agent", "old"), ("Cookie", "a=1"), ("X-Forwarded-For", "1.1.1.1"), ("Referer", "http://x/")]
    response = client.get(port(nginx, client), "/echo", headers + probe.do(*lines))
    assert response.get("x-vars") == "new|a=1; b=2|1.1.1.1, 2.2.2.2|"


def test_line_breaks_in_values_are_refused(proxy, client):
    nginx = proxy()
    response = client.get(port(nginx, client), "/echo", probe.do("request_headers: add x-bad a\\r\\nx-evil:1", "response_headers: add x-bad a\\r\\nx-evil:1", "response_headers: add x\\nbad v"))
    doc = echo(response)
    assert values(doc, "x-bad") == [] and values(doc, "x-evil") == []
    assert response.get("x-evil") is None and response.get("x-bad") is None


# ---- responses ----


def test_response_headers_that_nginx_writes_are_shown(proxy, client):
    nginx = proxy("response_headers: pairs x-all", "response_headers: get :status x-status")
    response = client.get(port(nginx, client), "/etag/100")
    pairs = dict(pair.split("=", 1) for pair in response.get("x-all").split(",") if "=" in pair)
    assert response.get("x-status") == "200"
    assert response.get("x-all").startswith(":status=200,")
    assert pairs["content-type"] == "text/plain"
    assert pairs["content-length"] == "100"
    assert {"server", "date", "etag", "last-modified", "set-cookie"} <= set(pairs)


def test_response_headers_are_added_replaced_and_removed(proxy, client):
    nginx = proxy()
    lines = (
        "response_headers: add x-new one", "response_headers: add x-new two", "response_headers: set set-cookie only=1", "response_headers: remove etag",
        "response_headers: set server mine", "response_headers: remove date", "response_headers: set content-type text/csv\\; charset=utf-8", "response_headers: remove last-modified",
    )
    response = client.get(port(nginx, client), "/etag/100", probe.do(*lines))
    assert response.all("x-new") == ["one", "two"]
    assert response.all("set-cookie") == ["only=1"]
    assert response.get("etag") is None and response.get("last-modified") is None and response.get("date") is None
    assert response.all("server") == ["mine"]
    assert response.get("content-type") == "text/csv; charset=utf-8"
    assert len(response.body) == 100


def test_the_whole_response_map_can_be_replaced(proxy, client):
    nginx = proxy()
    response = client.get(port(nginx, client), "/etag/100", probe.do("response_headers: set_pairs :status=202 x-a=1 x-a=2 content-type=a/b"))
    assert response.status == 202
    assert response.all("x-a") == ["1", "2"]
    assert response.get("content-type") == "a/b"
    assert response.all("set-cookie") == []
    assert len(response.body) == 100 and response.complete


@pytest.mark.parametrize("status", ["201", "404", "503", "599"])
def test_the_status_can_be_changed(proxy, client, status):
    nginx = proxy()
    response = client.get(port(nginx, client), "/bytes/10", probe.do(f"response_headers: set :status {status}"))
    assert response.status == int(status) and len(response.body) == 10


@pytest.mark.parametrize("status", ["abc", "99", "600", "20", "2000"])
def test_a_status_that_is_none_is_ignored(proxy, client, status):
    nginx = proxy()
    assert client.get(port(nginx, client), "/bytes/10", probe.do(f"response_headers: set :status {status}")).status == 200


@pytest.mark.parametrize("name", ["transfer-encoding", "Keep-Alive", "proxy-connection"])
def test_a_header_of_the_connection_cannot_be_set(proxy, client, name):
    nginx = proxy()
    for command in ("set", "add"):
        response = client.get(port(nginx, client), "/bytes/10", probe.do(f"response_headers: {command} {name} chunked"))
        assert response.status == 200 and len(response.body) == 10
        assert response.get(name) is None and response.get("content-length") == "10"


@pytest.mark.parametrize("method", ["BAD METHOD", "GET /x HTTP/1.1", "A:B", "A\\x7f", "\\e"])
def test_a_method_that_is_no_token_is_ignored(proxy, upstream, client, method):
    nginx = proxy()
    assert client.get(port(nginx, client), "/bytes/10", probe.do(f"request_headers: set :method {method}")).status == 200
    assert upstream.seen[0][0] == "GET"


def test_a_removed_content_length_makes_the_body_chunked(proxy):
    nginx = proxy()
    response = http1.get(nginx.port(), "/bytes/1000", probe.do("response_headers: remove content-length"))
    assert response.get("content-length") is None and response.get("transfer-encoding") == "chunked"
    assert len(response.body) == 1000


def test_a_relative_location_stays_relative(proxy, client):
    nginx = proxy()
    response = client.get(port(nginx, client), "/bytes/10", probe.do("response_headers: set :status 302", "response_headers: set location /there"))
    assert (response.status, response.get("location")) == (302, "/there")


def test_headers_of_nginx_own_answers_can_be_changed(nginx, client):
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use(probe.EXEC, 'response_headers: set x-f yes')} location / {{ return 200 hello; }} location /r {{ return 301 http://x/; }} }}"
    nginx.start(servers, wasm=probe.module())
    for path, status in (("/", 200), ("/r", 301), ("/../", 400)):
        response = client.get(port(nginx, client), path)
        assert (response.status, response.get("x-f")) == (status, "yes"), path


def test_each_filter_sees_what_the_one_before_it_did(nginx, upstream, client):
    filters = probe.use("request_headers: add x-order a", "response_headers: add x-order a") + probe.use("request_headers: add x-order b", "response_headers: add x-order b", "request_headers: get x-order x-first")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {filters} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}", wasm=probe.module())
    response = client.get(port(nginx, client), "/echo")
    assert values(echo(response), "x-order") == ["a", "b"]
    assert response.all("x-order") == ["a", "b"]
    assert response.get("x-first") == "a"


def test_the_response_order_can_be_reversed(nginx, upstream, client):
    filters = "proxy_wasm_response_order reverse;" + probe.use("response_headers: add x-order a") + probe.use("response_headers: add x-order b")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {filters} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}", wasm=probe.module())
    assert client.get(port(nginx, client), "/echo").all("x-order") == ["b", "a"]


def test_wasmx_shows_five_headers_of_a_plain_answer(nginx):
    filters = "proxy_wasm_dialect wasmx;" + probe.use("response_headers: pairs x-all")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {filters} location / {{ return 200 hello; }} }}", wasm=probe.module())
    names = [pair.split("=")[0] for pair in http1.get(nginx.port()).get("x-all").split(",") if "=" in pair]
    assert names == [":status", "Content-Type", "Content-Length", "Server", "Date", "Connection"]


def test_wasmx_filters_set_response_headers_while_the_request_comes(nginx, upstream):
    filters = "proxy_wasm_dialect wasmx;" + probe.use("request_headers: add@res x-early yes")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {filters} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}", wasm=probe.module())
    assert http1.get(nginx.port(), "/bytes/5").get("x-early") == "yes"
