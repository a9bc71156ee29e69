"""Bodies in both directions: streamed, held, changed, over limits, with every framing."""

import gzip
import hashlib
import json
import time

import pytest

from support import http1, http2, probe
from support.nginx import version
from support.upstream import payload


@pytest.fixture
def proxy(nginx, upstream):
    def start(*lines, extra="", location="", http="client_max_body_size 50m;"):
        filters = probe.use(*lines, probe.EXEC)
        body = f"{filters} {extra} location / {{ {location} proxy_pass http://127.0.0.1:{upstream.port}; }}"
        static = "location /static/ { alias html/; }"
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {body} {static} }}"
        nginx.start(servers, http=http, wasm=probe.module())
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


UNBUFFERED = "proxy_request_buffering off; proxy_http_version 1.1;"
WAYS = {"buffered": "", "unbuffered": UNBUFFERED, "small buffers": "client_body_buffer_size 1k;"}

# ---- requests ----


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 1000, 100000, 3000000])
def test_a_request_body_passes_unchanged(proxy, client, way, size):
    nginx = proxy("quiet", location=WAYS[way])
    body = payload(size)
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", [], body).body)
    assert (doc["length"], doc["sha256"]) == (size, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("way", WAYS)
def test_a_chunked_request_body_passes_unchanged(proxy, client, way):
    nginx = proxy("quiet", location=WAYS[way])
    chunks = [payload(n) for n in (1, 10, 5000, 60000)]
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", [], chunks=chunks).body)
    assert doc["sha256"] == hashlib.sha256(b"".join(chunks)).hexdigest()


CHANGES = {
    "replace": (("request_body: pause_until_eos", "request_body@eos: replace REPLACED"), lambda b: b"REPLACED"),
    "prepend": (("request_body: pause_until_eos", "request_body@eos: prepend >>>"), lambda b: b">>>" + b),
    "append": (("request_body: pause_until_eos", "request_body@eos: append <<<"), lambda b: b + b"<<<"),
    "truncate": (("request_body: pause_until_eos", "request_body@eos: truncate 7"), lambda b: b[:7]),
    "empty": (("request_body: pause_until_eos", "request_body@eos: truncate 0"), lambda b: b""),
    "grow": (("request_body: pause_until_eos", "request_body@eos: fill 500000 abc"), lambda b: (b"abc" * 200000)[:500000]),
    "at the end only": (("request_body@eos: append !",), lambda b: b + b"!"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_changed_request_body_arrives_whole_with_its_length(proxy, client, way, change, chunked):
    nginx = proxy(location=WAYS[way].replace("proxy_http_version 1.1;", "") + "proxy_http_version 1.1;")
    lines, expect = CHANGES[change]
    body = payload(20000)
    more = {"chunks": [body[:100], body[100:]]} if chunked else {"body": body}
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", probe.do(*lines), **more).body)
    assert doc["length"] == len(expect(body))
    assert doc["sha256"] == hashlib.sha256(expect(body)).hexdigest()


def test_a_body_can_be_read_before_the_headers_go_and_decide_the_path(proxy, client):
    nginx = proxy(extra="proxy_wasm_headers_stop_iteration on;")
    lines = ("request_headers: pause", "request_body: pause_until_eos", "request_body@eos: body", "request_body@eos: set_prop seen $value")
    lines += ("request_body@eos: set@req :path /echo/from-body", "request_body@eos: add@req x-len $size")
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo/original", probe.do(*lines), b"hello").body)
    assert doc["path"] == "/echo/from-body"
    assert doc["body"] == "hello"
    assert ["x-len", "5"] in doc["headers"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_can_be_read_before_the_headers_go(proxy, client, chunked):
    nginx = proxy(extra="proxy_wasm_headers_stop_iteration on; proxy_wasm_request_body_limit 8m;")
    lines = ("request_headers: pause", "request_body: pause_until_eos", "request_body@eos: add@req x-len $size")
    body = payload(2000000)
    more = {"chunks": [body[:1000], body[1000:]]} if chunked else {"body": body}
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", probe.do(*lines), **more).body)
    assert (doc["length"], doc["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert ["x-len", "2000000"] in doc["headers"]


def test_headers_say_whether_a_body_follows(proxy, client):
    nginx = proxy("request_headers: note x-eos $eos")
    assert client.get(port(nginx, client), "/echo").get("x-eos") == "1"
    assert client.request(port(nginx, client), "POST", "/echo", body=b"x").get("x-eos") == "0"
    assert client.request(port(nginx, client), "POST", "/echo", chunks=[b"x"]).get("x-eos") == "0"


@pytest.mark.parametrize("way", ["buffered", "unbuffered"])
def test_a_request_body_over_the_limit_is_413(proxy, client, way, upstream):
    nginx = proxy(extra="proxy_wasm_request_body_limit 10k;", location=WAYS[way])
    response = client.request(port(nginx, client), "POST", "/echo", probe.do("request_body: pause_until_eos"), payload(300000))
    assert response.status == 413


def test_a_request_body_over_the_limit_passes_where_the_policy_says_so(proxy, client):
    nginx = proxy(extra="proxy_wasm_request_body_limit 10k; proxy_wasm_over_limit pass;")
    body = payload(300000)
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", probe.do("request_body: pause_until_eos"), body).body)
    assert doc["sha256"] == hashlib.sha256(body).hexdigest()


def test_unread_request_bodies_do_not_disturb_the_next_request(proxy):
    nginx = proxy()
    with http1.Connection(nginx.port()) as c:
        for _ in range(3):
            c.send_request("POST", "/echo", probe.do("request_headers: reply 403 no"), payload(5000))
            assert c.read_response().status == 403
            c.send_request("GET", "/bytes/5")
            assert c.read_response().body == b"00000"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_a_filter_ends_with_its_headers_goes_without_its_body(proxy, client, way, chunked):
    nginx = proxy("request_headers: return 2", location=WAYS[way].replace("proxy_http_version 1.1;", "") + "proxy_http_version 1.1;")
    body = payload(20000)
    more = {"chunks": [body[:100], body[100:]]} if chunked else {"body": body}
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", **more).body)
    assert (doc["method"], doc["length"]) == ("POST", 0)
    assert nginx.log_lines("on_request_body") == []


def test_expect_continue_works_with_filters(proxy):
    nginx = proxy()
    with http1.Connection(nginx.port()) as c:
        c.send_request("POST", "/echo", [("Expect", "100-continue"), *probe.do("request_body@eos: append !")], length=5)
        assert b"100 Continue" in c.read_some(10)
        c.send(b"hello")
        assert json.loads(c.read_response().body)["body"] == "hello!"


# ---- responses ----

RESPONSES = {
    "replace": (("response_body: pause_until_eos", "response_body@eos: replace REPLACED"), lambda b: b"REPLACED"),
    "prepend": (("response_body: pause_until_eos", "response_body@eos: prepend >>>"), lambda b: b">>>" + b),
    "append": (("response_body: pause_until_eos", "response_body@eos: append <<<"), lambda b: b + b"<<<"),
    "truncate": (("response_body: pause_until_eos", "response_body@eos: truncate 7"), lambda b: b[:7]),
    "empty": (("response_body: pause_until_eos", "response_body@eos: truncate 0"), lambda b: b""),
    "grow": (("response_body: pause_until_eos", "response_body@eos: fill 900000 abc"), lambda b: (b"abc" * 300000)[:900000]),
    "upper": (("response_body: upper",), lambda b: b.upper()),
    "streamed, without the length": (("response_headers: remove content-length", "response_body@eos: append <<<"), lambda b: b + b"<<<"),
}

PATHS = {
    "length": "/bytes/30000",
    "chunked": "/chunked/30000/700",
    "no length": "/nolength/30000",
    "static": "/static/data.txt",
}

SETTINGS = {"buffered": "", "unbuffered": "proxy_buffering off;", "gzip": "gzip on; gzip_types text/plain; gzip_proxied any;"}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("change", RESPONSES)
def test_a_changed_response_body_arrives_whole_with_its_length(proxy, client, setting, path, change):
    nginx = proxy(extra=SETTINGS[setting] + "proxy_wasm_response_body_limit 4m;")
    (nginx.folder / "html/data.txt").write_bytes(payload(30000))
    lines, expect = RESPONSES[change]
    response = client.get(port(nginx, client), PATHS[path], [("Accept-Encoding", "gzip"), *probe.do(*lines)])
    body = gzip.decompress(response.body) if response.get("content-encoding") == "gzip" else response.body
    assert response.complete and response.status == 200
    assert body == expect(payload(30000))


def test_the_length_follows_a_body_that_was_changed_whole(proxy):
    nginx = proxy()
    response = http1.get(nginx.port(), "/etag/5000", probe.do("response_body: pause_until_eos", "response_body@eos: replace SHORT"))
    assert response.get("content-length") == "5"
    assert response.get("etag") == 'W/"abc"'
    assert response.get("accept-ranges") is None


def test_an_unchanged_body_keeps_length_and_etag(proxy, client):
    nginx = proxy()
    response = client.get(port(nginx, client), "/etag/5000", probe.do("response_body: pause_until_eos"))
    assert (response.get("content-length"), response.get("etag")) == ("5000", '"abc"')


def test_a_body_changed_after_its_length_was_sent_is_broken_off_and_said(proxy, client):
    nginx = proxy(extra="proxy_buffering off;")
    try:
        assert not client.get(port(nginx, client), "/slowlength/5/60", probe.do("response_body@eos: append XXX")).complete
    except http1.Closed:
        pass  # before anything had been written
    nginx.wait_log("remove content-length in the headers callback")


def test_headers_and_status_can_be_set_from_the_body(proxy, client):
    nginx = proxy(extra="proxy_wasm_headers_stop_iteration on;")
    lines = ("response_headers: pause", "response_body: pause_until_eos", "response_body@eos: set@res :status 418", "response_body@eos: add@res x-size $size", "response_body@eos: replace tea")
    response = client.get(port(nginx, client), "/etag/2000", probe.do(*lines))
    assert (response.status, response.get("x-size"), response.body) == (418, "2000", b"tea")
    assert response.get("content-length") == "3"


def test_the_end_of_a_response_is_told_once(proxy, client):
    nginx = proxy()
    for path in ("/bytes/10", "/chunked/1000/100", "/nolength/1000", "/bytes/0"):
        client.get(port(nginx, client), path)
    lines = nginx.log_lines("on_response_body")
    assert len([line for line in lines if "eos=1" in line]) == 3
    assert len([line for line in nginx.log_lines("on_response_headers") if "eos=1" in line]) == 1


@pytest.mark.parametrize("path,method", [("/bytes/10", "HEAD"), ("/status/204", "GET"), ("/status/304", "GET")])
def test_a_response_without_a_body_has_no_body_callback(proxy, client, path, method):
    nginx = proxy("response_headers: note x-eos $eos")
    assert client.request(port(nginx, client), method, path).get("x-eos") == "1"
    assert nginx.log_lines("on_response_body") == []


def test_compressed_responses_of_an_upstream_pass_as_they_are(proxy, client):
    nginx = proxy("response_body: checksum", extra="gzip on;")
    response = client.get(port(nginx, client), "/gzip/10000", [("Accept-Encoding", "gzip")])
    assert response.get("content-encoding") == "gzip"
    assert gzip.decompress(response.body) == payload(10000)


def test_a_response_over_the_limit_is_502(proxy, client):
    nginx = proxy(extra="proxy_wasm_response_body_limit 10k;")
    response = client.get(port(nginx, client), "/bytes/300000", probe.do("response_body: pause_until_eos"))
    assert response.status == 502


def test_a_response_over_the_limit_passes_where_the_policy_says_so(proxy, client):
    nginx = proxy(extra="proxy_wasm_response_body_limit 10k; proxy_wasm_over_limit pass;")
    response = client.get(port(nginx, client), "/bytes/300000", probe.do("response_body: pause_until_eos"))
    assert response.body == payload(300000)


def test_server_sent_events_flow_through_a_filter(proxy):
    nginx = proxy("response_body: upper", location="proxy_buffering off;")
    with http1.Connection(nginx.port()) as c:
        start = time.monotonic()
        c.send_request("GET", "/sse")
        head = c.read_head()
        assert head.status == 200
        data = b""
        while data.count(b"DATA:") < 5:
            data += c.read_some(1)
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("range_", ["bytes=100-199", "bytes=-50", "bytes=29990-"])
def test_ranges_of_static_files_work_with_filters_that_look(proxy, client, range_):
    nginx = proxy("response_body: checksum")
    (nginx.folder / "html/data.txt").write_bytes(payload(30000))
    response = client.get(port(nginx, client), "/static/data.txt", [("Range", range_)])
    first, _, last = range_[6:].partition("-")
    data = payload(30000)
    expect = data[-int(last) :] if first == "" else data[int(first) : int(last) + 1 if last else None]
    assert (response.status, response.body) == (206, expect)


# ---- trailers ----


def test_trailers_of_the_upstream_are_shown_and_changed(proxy, client):
    if version() < (1, 27, 2):
        pytest.skip("nginx before 1.27.2 does not pass trailers of an HTTP/1.1 upstream")
    lines = ("response_trailers: get x-trailer", "response_trailers: set x-trailer changed", "response_trailers: add x-added new", "response_trailers: remove x-second")
    nginx = proxy(*lines, location="proxy_pass_trailers on; proxy_http_version 1.1; proxy_set_header TE trailers; proxy_set_header Connection TE;")
    response = client.get(port(nginx, client), "/trailers/1000", [("TE", "trailers")])
    assert response.body == payload(1000)
    assert sorted(response.trailers) == [("x-added", "new"), ("x-trailer", "changed")]
    assert nginx.log_lines("value=t1")


@pytest.mark.parametrize("path", ["/bytes/1000", "/chunked/1000/100"])
def test_trailers_can_be_made_at_the_end_of_the_body(proxy, client, path):
    nginx = proxy("response_body@eos: add@rest x-made yes")
    response = client.get(port(nginx, client), path)
    assert response.body == payload(1000)
    assert response.trailers == [("x-made", "yes")]


def test_several_filters_each_change_the_body_of_the_one_before(nginx, upstream, client):
    filters = probe.use("response_body: pause_until_eos", "response_body@eos: append A", "request_body: pause_until_eos", "request_body@eos: append A")
    filters += probe.use("response_body: pause_until_eos", "response_body@eos: append B", "request_body: pause_until_eos", "request_body@eos: append B")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {filters} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}", wasm=probe.module())
    response = client.request(port(nginx, client), "POST", "/bytes/3", body=b"x")
    assert response.body == b"000AB"
    assert upstream.bodies == [b"xAB"]


def http10(port, path, headers=(), method="GET", body=b""):
    with http1.Connection(port) as c:
        lines = [f"{method} {path} HTTP/1.0", "Host: localhost"] + [f"{n}: {v}" for n, v in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        c.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return c.read_response(method)


@pytest.mark.parametrize("change", RESPONSES)
@pytest.mark.parametrize("path", ["/bytes/30000", "/chunked/30000/700"])
def test_http_1_0_clients_get_no_chunks(proxy, change, path):
    nginx = proxy(extra="proxy_wasm_response_body_limit 4m;")
    lines, expect = RESPONSES[change]
    response = http10(nginx.port(), path, probe.do(*lines))
    assert response.get("transfer-encoding") is None
    assert response.body == expect(payload(30000))


def test_http_1_0_clients_may_send_bodies(proxy):
    nginx = proxy()
    response = http10(nginx.port(), "/echo", probe.do("request_body: pause_until_eos", "request_body@eos: append !"), "POST", b"hello")
    assert json.loads(response.body)["body"] == "hello!"


def test_bodies_kept_in_files_pass_through_filters(proxy, client):
    nginx = proxy("request_body@eos: append !", location="client_body_in_file_only clean;")
    body = payload(50000)
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", body=body).body)
    assert doc["sha256"] == hashlib.sha256(body + b"!").hexdigest()
