"""What nginx does beside filters goes on: subrequests, caches, slices, rewriting, limits, redirects, connections that are kept."""

import gzip
import json
import time

import pytest

from support import http1, http2, probe
from support.nginx import wait_for
from support.upstream import payload

HOLDS = [(), ("request_headers: pause",), ("response_headers: pause",), ("response_body: pause_until_eos",), ("request_headers: pause", "response_headers: pause", "response_body: pause_until_eos")]
HOLD_IDS = ["flows", "request", "response", "body", "all"]


@pytest.fixture
def server(nginx, upstream):
    def start(locations="", *lines, http="", extra=""):
        up = f"http://127.0.0.1:{upstream.port}"
        nginx.start(
            f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {probe.use(*lines, *probe.TICKS, probe.EXEC)} "
            f"{locations.replace('UP', up)} location / {{ proxy_pass {up}; }} }}",
            http=http.replace("UP", up), wasm=probe.module(),
        )
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


@pytest.fixture(params=HOLDS, ids=HOLD_IDS)
def hold(request):
    """Where the streams wait for a tick: of the request and of its subrequests."""
    return probe.do(*request.param) if request.param else []


# ---- subrequests ----


def test_a_mirror_gets_the_request_and_disturbs_nobody(server, client, upstream, hold):
    nginx = server("location /m/ { mirror /copy; mirror_request_body on; proxy_pass UP/echo/; } location = /copy { internal; proxy_pass UP/copied; }")
    for _ in range(3):
        response = client.request(port(nginx, client), "POST", "/m/x", hold, b"hello")
        assert response.status == 200 and json.loads(response.body)["body"] == "hello"
    wait_for(lambda: [seen[1] for seen in upstream.seen].count("/copied") == 3, "mirrored requests")
    assert upstream.bodies.count(b"hello") == 6


def test_a_mirror_that_never_answers_holds_nobody_up(server, client, upstream):
    nginx = server("location /m/ { mirror /copy; proxy_pass UP/bytes/; } location = /copy { internal; proxy_read_timeout 300ms; proxy_pass UP/hang; }")
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/m/7")
        assert len(c.read_response().body) == 7


@pytest.mark.parametrize("verdict, status", [("204", 200), ("401", 401), ("403", 403)])
def test_auth_request_decides_while_its_subrequest_waits(server, client, hold, verdict, status):
    nginx = server(f"location /a/ {{ auth_request /auth; proxy_pass UP/bytes/; }} location = /auth {{ internal; proxy_pass UP/status/{verdict}; proxy_pass_request_body off; }}")
    for _ in range(2):
        assert client.get(port(nginx, client), "/a/5", hold).status == status


def test_filters_of_an_auth_subrequest_may_answer_it(server, client):
    nginx = server("location /a/ { auth_request /auth; proxy_pass UP/bytes/; } location = /auth { internal; proxy_pass UP/bytes/3; }", "request_headers?x-deny: set_prop mine 1", "request_headers: prop request.is_subrequest")
    assert client.get(port(nginx, client), "/a/5").status == 200


def test_ssi_puts_together_what_waited(server, client, hold):
    nginx = server("location /p/ { ssi on; alias html/; } location /inc/ { proxy_pass UP/bytes/; }")
    (nginx.folder / "html/p.html").write_text('<!--#include virtual="/inc/5" -->|<!--#include virtual="/inc/3" -->|end')
    response = client.get(port(nginx, client), "/p/p.html", hold)
    assert response.complete and response.body == b"00000|000|end"


@pytest.mark.parametrize("lines", [("request_headers: pause",), ("response_headers: pause",), ("response_body: pause_until_eos",), ("request_headers: trap",), ("response_body: trap",), ("request_headers: close",)])
def test_a_client_that_leaves_during_a_subrequest_leaves_nothing(server, upstream, lines):
    nginx = server("location /a/ { auth_request /auth; proxy_pass UP/hang; } location = /auth { internal; proxy_pass UP/bytes/3; }")
    nginx.allow("trap", "prematurely", "auth request")
    for _ in range(3):
        c = http1.Connection(nginx.port())
        c.send_request("GET", "/a/x", probe.do(*lines))
        time.sleep(0.02)
        c.close()
    assert http1.get(nginx.port(), "/bytes/5").body == b"00000"


ADDITION = "addition_types *; add_before_body /before; add_after_body /after;"
AROUND = "location = /before { return 200 <; } location = /after { return 200 >; }"


@pytest.mark.parametrize("path, body, lines", [
    ("/bytes/5", b"<00000>", ()),
    ("/bytes/5", b"<00000>", ("response_body: pause_until_eos",)),
    ("/bytes/5", b"<00000!>", ("response_headers: remove content-length", "response_body@eos: append !")),
    ("/slow/2/5", b"<PIECE-0\nPIECE-1\n>", ("response_body: upper",)),
    ("/bytes/5", b"<made>", ("response_headers: reply 200 made",)),
    ("/bytes/5", b"<made>", ("request_headers: reply 200 made",)),
    ("/bytes/0", b"<MADE>", ("response_headers: set_buffer@res 0 0 MADE",)),
])
def test_addition_puts_its_parts_around_the_body(nginx, client, upstream, hold, path, body, lines):
    """Its filter ends the response itself, from the head of the filters, while it is given our end."""
    nginx.start(
        f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {AROUND} "
        f"location / {{ {probe.use(*lines, *probe.TICKS, probe.EXEC)} {ADDITION} proxy_pass http://127.0.0.1:{upstream.port}; }} }}",
        wasm=probe.module(),
    )
    for _ in range(2):
        response = client.get(port(nginx, client), path, hold)
        assert (response.status, response.complete, response.body) == (200, True, body)


# ---- caches ----


CACHE = "proxy_cache_path cache keys_zone=c:1m;"


def test_a_cache_misses_hits_and_revalidates_while_filters_look(server, client, upstream, hold):
    nginx = server(
        "location /etag/ { proxy_ignore_headers Set-Cookie; proxy_cache c; proxy_cache_valid 200 1s; proxy_cache_revalidate on; proxy_cache_key $uri; add_header x-cache $upstream_cache_status; proxy_pass UP; }",
        "response_headers: remove content-length", "response_body@eos: append !", http=CACHE,
    )
    states = []

    def revalidated():
        response = client.get(port(nginx, client), "/etag/50", hold)
        assert response.body == payload(50) + b"!"  # the cache has what the upstream said
        states.append(response.get("x-cache"))
        return "EXPIRED" in states or "REVALIDATED" in states

    wait_for(revalidated, "the entry has expired")
    assert states[0] == "MISS" and "HIT" in states


def test_a_stale_answer_is_served_through_filters_when_the_upstream_is_gone(server, client, upstream, hold):
    nginx = server(
        "location / { } location = /x { proxy_cache c; proxy_cache_valid 200 1s; proxy_cache_use_stale error timeout; proxy_read_timeout 1s; proxy_cache_key k; add_header x-cache $upstream_cache_status; proxy_pass http://127.0.0.1:@PORTup@/$arg_what; }".replace("location / { } ", ""),
        "response_headers: set x-filter yes", http=CACHE + "server { listen 127.0.0.1:@PORTup@; location /good { return 200 good; } location /bad { return 444; } }",
    )
    nginx.allow("prematurely closed")
    wait_for(lambda: client.get(port(nginx, client), "/x?what=good", hold).get("x-cache") == "HIT", "it is in the cache")

    def stale():
        response = client.get(port(nginx, client), "/x?what=bad", hold)
        assert (response.status, response.body, response.get("x-filter")) == (200, b"good", "yes")
        return response.get("x-cache") == "STALE"

    wait_for(stale, "the entry has expired")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditional_requests_are_answered_from_a_held_response(server, client, hold, method):
    nginx = server("location /files/ { alias html/; }")
    (nginx.folder / "html/a.txt").write_text("text")
    etag = client.get(port(nginx, client), "/files/a.txt").get("etag")
    response = client.request(port(nginx, client), method, "/files/a.txt", [("If-None-Match", etag), *hold])
    assert (response.status, response.body) == (304, b"")


def test_slices_are_put_together_behind_filters(server, client):
    nginx = server(
        "location /s/ { slice 1000; proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_pass http://127.0.0.1:@PORTup@/; }", "response_headers: set x-filter yes",
        http="server { listen 127.0.0.1:@PORTup@; root html; }",
    )
    (nginx.folder / "html/big.txt").write_bytes(payload(5500))
    response = client.get(port(nginx, client), "/s/big.txt")
    assert (response.status, response.body, response.get("x-filter")) == (200, payload(5500), "yes")
    part = client.get(port(nginx, client), "/s/big.txt", [("Range", "bytes=1500-3499")])
    assert (part.status, part.body) == (206, payload(5500)[1500:3500])


# ---- bodies that nginx changes ----


def test_gzip_comes_behind_filters(server, client, hold):
    nginx = server("location /z/ { gzip on; gzip_min_length 1; gzip_types text/plain; gzip_proxied any; proxy_pass UP/bytes/; }", "response_headers: remove content-length", "response_body@eos: append !")
    response = client.get(port(nginx, client), "/z/1000", [("Accept-Encoding", "gzip"), *hold])
    assert response.get("content-encoding") == "gzip" and gzip.decompress(response.body) == payload(1000) + b"!"


def test_gunzip_comes_behind_filters(server, client, hold):
    nginx = server("location /gzip/ { gunzip on; proxy_pass UP; }")
    response = client.get(port(nginx, client), "/gzip/1000", hold)
    assert response.get("content-encoding") is None and response.body == payload(1000)


def test_sub_filter_works_on_what_filters_made(server, client, hold):
    nginx = server("location /f { sub_filter_types *; sub_filter WORLD world; return 200 'hello world'; }", "response_body: upper")
    assert client.get(port(nginx, client), "/f", hold).body == b"HELLO world"


def test_a_limited_rate_holds_with_a_body_that_was_held(server, client):
    nginx = server("location /r/ { limit_rate 20k; proxy_pass UP/bytes/; }")
    begun = time.monotonic()
    assert client.get(port(nginx, client), "/r/30000", probe.do("response_headers: pause")).body == payload(30000)
    assert time.monotonic() - begun > 0.5


# ---- redirects and rewriting ----


def test_x_accel_redirect_leads_to_another_location(server, client, hold):
    nginx = server("location /x { proxy_pass UP/headers?X-Accel-Redirect=/inside/a.txt; } location /inside/ { internal; alias html/; }", "response_headers: add x-filter yes")
    (nginx.folder / "html/a.txt").write_text("inside")
    response = client.get(port(nginx, client), "/x", hold)
    assert (response.status, response.body, response.all("x-filter")) == (200, b"inside", ["yes"])


def test_rewrite_try_files_and_return(server, client, hold):
    nginx = server(
        "location /old/ { rewrite ^/old/(.*)$ /bytes/$1 last; } location /try { root html; try_files /missing.txt @other; } location @other { rewrite ^ /bytes/4 break; proxy_pass UP; }"
        " location /gone { return 410 gone; } location /moved { return 302 /there; }", "response_headers: set x-filter yes"
    )
    got = [client.get(port(nginx, client), path, hold) for path in ("/old/5", "/try", "/gone", "/moved")]
    assert [r.status for r in got] == [200, 200, 410, 302]
    assert (got[0].body, got[1].body, got[2].body) == (b"00000", b"0000", b"gone")
    assert all(r.get("x-filter") == "yes" for r in got)


def test_intercepted_errors_have_their_page(server, client, hold):
    nginx = server("location /status/ { proxy_intercept_errors on; error_page 404 =200 /page; proxy_pass UP; } location /page { internal; return 200 page; }")
    response = client.get(port(nginx, client), "/status/404", hold)
    assert (response.status, response.body) == (200, b"page")


def test_the_path_a_filter_sets_goes_upstream_and_chooses_no_other_location(server, client, upstream):
    """What docs/reference/abi.md says is evaluated again."""
    nginx = server("location /a/ { add_header x-route a; add_header x-vars \"$uri|$args|$request_uri|$request_method|$host\"; proxy_pass UP; } location /b/ { add_header x-route b; proxy_pass UP; }")
    lines = ("request_headers: set :path /b/echo?q=1", "request_headers: set :method PUT", "request_headers: set :authority other.test:8")
    for held in ((), ("request_headers: pause",)):
        response = client.get(port(nginx, client), "/a/x", probe.do(*lines, *held))
        assert response.get("x-route") == "a"
        assert response.get("x-vars") == "/b/echo|q=1|/b/echo?q=1|PUT|other.test"
    assert {(method, target) for method, target, _ in upstream.seen} == {("PUT", "/b/echo?q=1")}


# ---- connections ----


def test_a_connection_lives_on_after_a_stream_was_reset(server, upstream):
    nginx = server()
    with http2.Connection(nginx.port("2")) as c:
        lost = c.send_headers("GET", "/bytes/5", probe.do("response_headers: close"))
        kept = c.send_headers("GET", "/bytes/6", probe.do("response_headers: pause"))
        assert c.finish(kept).body == payload(6)
        assert c.streams[lost].reset or c.streams[lost].status is None
        assert c.finish(c.send_headers("GET", "/bytes/7")).body == payload(7)


@pytest.mark.parametrize("lines", [(), ("request_headers: pause",), ("response_headers: pause",)])
def test_pipelined_requests_are_answered_in_order(server, lines):
    nginx = server()
    with http1.Connection(nginx.port()) as c:
        for n in (5, 6, 7, 8):
            c.send_request("GET", f"/bytes/{n}", probe.do(*lines))
        assert [len(c.read_response().body) for _ in range(4)] == [5, 6, 7, 8]


def test_large_headers_pass_both_ways(server, client, upstream):
    nginx = server(extra="large_client_header_buffers 4 64k; proxy_buffer_size 64k; proxy_buffers 8 64k; http2_max_concurrent_streams 16;")
    response = client.get(port(nginx, client), "/echo", [("x-large", "a" * 30000), *probe.do("request_headers: get x-large", "response_headers: fill@res 1 x", "response_headers: set x-back $len", "request_headers: map_size")])
    assert ("x-large", "a" * 30000) in upstream.seen[0][2]
    assert response.status == 200


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_a_chunked_request_with_trailers_arrives_whole(server, upstream, buffering):
    nginx = server(extra=f"proxy_request_buffering {buffering}; proxy_http_version 1.1;")
    with http1.Connection(nginx.port()) as c:
        c.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\nx-do: request_body: return 0\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n")
        assert json.loads(c.read_response().body)["body"] == "hello"
        c.send_request("GET", "/bytes/3")
        assert c.read_response().body == b"000"


def test_expect_100_continue_while_the_request_is_held(server):
    nginx = server()
    with http1.Connection(nginx.port()) as c:
        c.send_request("POST", "/echo", [("Expect", "100-continue"), *probe.do("request_headers: pause")], length=5)
        c.send("hello")
        assert json.loads(c.read_response().body)["body"] == "hello"
