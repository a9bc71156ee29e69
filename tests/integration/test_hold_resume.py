"""
Holding and resuming in every phase: each kind of response that nginx makes, through a filter that pauses, must come out as it does without
the filter. One nginx serves every location twice: with the filter and without.
"""

import json
import re
import time

import pytest

from support import http1, http2, probe
from support.nginx import Nginx
from support.upstream import payload

BIG = 5 * 1024 * 1024

LOCATIONS = """
location = /return { return 200 "returned\\n"; }
location = /empty { return 200; }
location = /204 { return 204; }
location = /redirect { return 302 /elsewhere; }
location /static/ { alias html/; }
location /gzip/ { alias html/; gzip on; gzip_types text/plain; gzip_min_length 10; }
location /limited/ { alias html/; limit_rate 400k; }
location /aio/ { alias html/; aio threads; output_buffers 1 16k; }
location /sendfile/ { alias html/; sendfile on; tcp_nopush on; }
location /ssi/ { alias html/; ssi on; }
location = /inc { return 200 "included"; }
location /p/ { proxy_pass http://127.0.0.1:@UP@/; }
location /tiny/ { proxy_pass http://127.0.0.1:@UP@/; proxy_buffer_size 1k; proxy_buffers 2 1k; proxy_busy_buffers_size 1k; }
location /unbuffered/ { proxy_pass http://127.0.0.1:@UP@/; proxy_buffering off; }
location /proxygzip/ { proxy_pass http://127.0.0.1:@UP@/; gzip on; gzip_types text/plain; gzip_min_length 10; gzip_proxied any; }
location /intercept/ { proxy_pass http://127.0.0.1:@UP@/; proxy_intercept_errors on; error_page 503 /errors/503; }
location /errors/ { internal; return 200 "the error page\\n"; }
location /missing { error_page 404 = /fallback; root html; }
location = /fallback { return 200 "fell back\\n"; }
location /named { error_page 404 = @named; root html; }
location @named { return 200 "a named one\\n"; }
location /down/ { proxy_pass http://127.0.0.1:1/; }
location /sub/ { alias html/; sub_filter 0 zero; sub_filter_once off; sub_filter_types *; }
"""

# name: path, and method, headers where they matter
CASES = {
    "return": ("/return",),
    "return without a body": ("/empty",),
    "204": ("/204",),
    "redirect": ("/redirect",),
    "static": ("/static/small.txt",),
    "static, 5 MB": ("/static/big.txt",),
    "static, empty": ("/static/empty.txt",),
    "static, HEAD": ("/static/small.txt", "HEAD"),
    "static, range": ("/static/big.txt", "GET", [("Range", "bytes=100000-300000")]),
    "static, two ranges": ("/static/small.txt", "GET", [("Range", "bytes=0-1,5-8")]),
    "static, 416": ("/static/small.txt", "GET", [("Range", "bytes=99999999-")]),
    "static, not modified": ("/static/small.txt", "GET", [("If-Modified-Since", "Fri, 01 Jan 2038 00:00:00 GMT")]),
    "static, 404": ("/static/none.txt",),
    "static, gzip": ("/gzip/big.txt", "GET", [("Accept-Encoding", "gzip")]),
    "static, limit_rate": ("/limited/medium.txt",),
    "static, aio threads": ("/aio/big.txt",),
    "static, sendfile": ("/sendfile/big.txt",),
    "SSI": ("/ssi/page.html",),
    "sub_filter": ("/sub/medium.txt",),
    "error_page": ("/missing/x",),
    "error_page, named": ("/named/x",),
    "proxy": ("/p/bytes/1000",),
    "proxy, 5 MB": (f"/p/bytes/{BIG}",),
    "proxy, HEAD": ("/p/bytes/1000", "HEAD"),
    "proxy, empty": ("/p/bytes/0",),
    "proxy, 204": ("/p/status/204",),
    "proxy, 304": ("/p/status/304",),
    "proxy, 503": ("/p/status/503",),
    "proxy, chunked": ("/p/chunked/200000/1000",),
    "proxy, no length": ("/p/nolength/200000",),
    "proxy, slow": ("/p/slow/4/20",),
    "proxy, headers": ("/p/etag/5000",),
    "tiny buffers": ("/tiny/bytes/100000",),
    "tiny buffers, 5 MB": (f"/tiny/bytes/{BIG}",),
    "tiny buffers, chunked": ("/tiny/chunked/100000/333",),
    "unbuffered": ("/unbuffered/bytes/200000",),
    "unbuffered, chunked": ("/unbuffered/chunked/200000/1000",),
    "unbuffered, slow": ("/unbuffered/slow/4/20",),
    "unbuffered, slow with length": ("/unbuffered/slowlength/4/20",),
    "proxy, gzip": ("/proxygzip/bytes/200000", "GET", [("Accept-Encoding", "gzip")]),
    "proxy, compressed upstream": ("/p/gzip/50000",),
    "intercepted error": ("/intercept/status/503",),
    "upstream that refuses": ("/down/x",),
    "upstream that breaks off": ("/p/abort/500",),
    "request body": ("/p/echo", "POST", [], b"a body of a request\n" * 10),
    "request body, large": ("/p/echo", "POST", [], payload(700000)),
}

HOLDS = {
    "request headers": ("request_headers: pause",),
    "response headers": ("response_headers: pause",),
    "response headers, all and watermark": ("response_headers: return 4",),
    "response headers, all and buffer": ("response_headers: return 3",),
    "response body, each piece": ("response_body: return 2",),
    "response body, whole": ("response_body: pause_until_eos",),
    "request and response": ("request_headers: pause", "request_body: return 2", "response_headers: pause", "response_body: return 2"),
    "request body": ("request_body: pause_until_eos",),
}


@pytest.fixture(scope="module")
def held(tmp_path_factory, upstream_server):
    nginx = Nginx(tmp_path_factory.mktemp("held"))
    html = nginx.folder / "html"
    (html / "small.txt").write_text("0123456789 small\n")
    (html / "empty.txt").write_text("")
    (html / "medium.txt").write_bytes(payload(150000))
    (html / "big.txt").write_bytes(payload(BIG))
    (html / "page.html").write_text('before <!--#include virtual="/inc" --> after\n')
    locations = LOCATIONS.replace("@UP@", str(upstream_server.port))
    filters = probe.use("quiet", *probe.TICKS, probe.EXEC)
    servers = f"""
    server {{ listen 127.0.0.1:@PORTplain@; listen 127.0.0.1:@PORTplain2@ http2; {locations} }}
    server {{ listen 127.0.0.1:@PORTheld@; listen 127.0.0.1:@PORTheld2@ http2;
              proxy_wasm_request_body_limit 8m; proxy_wasm_response_body_limit 8m; {filters} {locations} }}
    """
    nginx.start(servers, http="client_max_body_size 20m;", wasm=probe.module())
    yield nginx
    nginx.stop()


def essence(response):
    keep = ("content-type", "content-length", "content-encoding", "content-range", "location", "etag", "accept-ranges", "last-modified", "set-cookie")
    headers = sorted((n, re.sub(r"localhost:\d+", "localhost", v)) for n, v in response.headers if n in keep)
    body = response.body
    boundary = response.get("content-type") or ""
    if "boundary=" in boundary:
        mark = boundary.split("boundary=")[1].encode()
        body = body.replace(mark, b"B")
        headers = [(n, v.split("boundary=")[0]) for n, v in headers]
    return response.status, headers, body, response.complete


def ask(client, nginx, server, case, headers=()):
    path, method, extra, body = (CASES[case] + ("GET", [], None)[len(CASES[case]) - 1 :])[:4]
    port = nginx.port(server + ("2" if client is http2 else ""))
    return client.request(port, method, path, [*extra, *headers], body)


def whole_answer(plain, through):
    """A body that is read before the headers go out cannot be cut into ranges."""
    assert through.complete
    if plain.body:
        assert through.get("accept-ranges") is None
    if plain.status in (206, 416):
        assert through.status == 200
        assert len(through.body) == int(through.get("content-length")) > 0
    else:
        assert (through.status, through.body) == (plain.status, plain.body)


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("case", CASES)
def test_what_was_held_comes_out_as_it_was(held, client, case, hold):
    if case == "upstream that breaks off":
        pytest.skip("see the tests of broken upstreams")
    plain = ask(client, held, "plain", case)
    through = ask(client, held, "held", case, probe.do(*HOLDS[hold]))
    if hold == "response headers, all and buffer" and case.startswith("static"):
        whole_answer(plain, through)
        return
    if "echo" in CASES[case][0]:
        assert plain.status == through.status == 200
        one, two = (json.loads(r.body) for r in (plain, through))
        assert (one["method"], one["length"], one["sha256"]) == (two["method"], two["length"], two["sha256"])
        return
    assert essence(through) == essence(plain)


@pytest.mark.parametrize("hold", ["response headers", "response body, each piece"])
def test_an_upstream_that_breaks_off_ends_the_response_early(held, client, hold):
    response = ask(client, held, "held", "upstream that breaks off", probe.do(*HOLDS[hold]))
    assert response.status == 200
    assert not response.complete
    assert payload(500).startswith(response.body)


@pytest.mark.parametrize("phase", ["request_headers", "response_headers", "response_body"])
def test_two_seconds_are_longer_than_send_timeout_and_nobody_minds(tmp_path, upstream, client, phase):
    nginx = Nginx(tmp_path)
    try:
        # the first tick comes before the request, the second after two seconds
        filters = probe.use("configure: tick 2000", "tick: resume", probe.EXEC)
        listen = "http2" if client is http2 else ""
        timeouts = "send_timeout 1s; client_body_timeout 1s; client_header_timeout 1s;"
        location = f"location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }}"
        nginx.workers = 1
        nginx.start(f"server {{ listen 127.0.0.1:@PORT@ {listen}; {timeouts} {filters} {location} }}", wasm=probe.module())
        nginx.wait_log("on_tick")
        start = time.monotonic()
        response = client.get(nginx.port(), "/bytes/20000", probe.do(f"{phase}: {'return 2' if phase == 'response_body' else 'pause'}"))
        assert time.monotonic() - start > 1.5
        assert response.status == 200 and response.body == payload(20000)
    finally:
        nginx.stop()


def test_many_held_requests_at_once_do_not_mix(held):
    import concurrent.futures

    def one(i):
        n = 1000 + i * 37
        hold = list(HOLDS.values())[i % len(HOLDS)]
        return http1.get(held.port("held"), f"/p/bytes/{n}", probe.do(*hold)).body == payload(n)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(96)))


def test_streams_of_one_http2_connection_are_held_apart(held):
    with http2.Connection(held.port("held2")) as c:
        holds = list(HOLDS.values())
        streams = [(c.send_headers("GET", f"/p/bytes/{500 + i}", probe.do(*holds[i % len(holds)])), 500 + i) for i in range(40)]
        for stream, n in streams:
            response = c.finish(stream)
            assert response.status == 200 and response.body == payload(n)


def test_keepalive_goes_on_after_a_hold(held):
    with http1.Connection(held.port("held")) as c:
        for hold in HOLDS.values():
            c.send_request("GET", "/p/bytes/300", probe.do(*hold))
            assert c.read_response().body == payload(300)


@pytest.mark.parametrize("when", ["request_headers", "response_headers", "response_body"])
def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(tmp_path, upstream, when, client):
    nginx = Nginx(tmp_path)
    try:
        filters = probe.use(probe.EXEC)
        listen = "http2" if client is http2 else ""
        servers = f"server {{ listen 127.0.0.1:@PORT@ {listen}; {filters} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
        nginx.start(servers, wasm=probe.module())
        for _ in range(5):
            c = client.Connection(nginx.port())
            if client is http2:
                c.send_headers("GET", "/bytes/1000", probe.do(f"{when}: pause"))
            else:
                c.send_request("GET", "/bytes/1000", probe.do(f"{when}: pause"))
            time.sleep(0.05)
            c.close()
        nginx.wait_log("on_delete", 5)
    finally:
        nginx.stop()
