"""Filters beside nginx's own features: rewrite, access, subrequests, redirects, error pages, FastCGI-like upstreams, upgrades."""

import json
import socket
import threading

import pytest

from support import http1, http2, probe
from support.upstream import payload


def start(nginx, locations, *lines, http="", extra=""):
    filters = probe.use(*lines, probe.EXEC) if lines is not None else ""
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {filters} {locations} }}"
    nginx.start(servers, http=http, wasm=probe.module())
    return nginx


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def test_filters_run_before_return(nginx, client):
    start(nginx, 'location / { return 200 "$http_x_seen"; }', "request_headers: add x-seen yes")
    assert client.get(port(nginx, client)).body == b"yes"


def test_filters_can_run_in_the_access_phase(nginx, client):
    locations = """
    proxy_wasm_request_headers_in_access on;
    location /ret { return 200 "[$http_x_seen]"; }
    location /denied { deny all; }
    location / { alias html/; }
    """
    (nginx.folder / "html/a.txt").write_text("text")
    start(nginx, locations, "request_headers: add x-seen yes")
    assert client.get(port(nginx, client), "/ret").body == b"[]"
    assert client.get(port(nginx, client), "/a.txt").body == b"text"
    assert len(nginx.log_lines("on_request_headers")) == 1
    assert client.get(port(nginx, client), "/denied").status == 403
    response = client.get(port(nginx, client), "/a.txt", probe.do("request_headers: reply 401 no"))
    assert (response.status, response.body) == (401, b"no")


@pytest.mark.parametrize("where", ["on", "off"])
def test_filters_never_let_anybody_in(nginx, client, where):
    locations = f"location / {{ satisfy any; deny all; auth_basic x; auth_basic_user_file users; proxy_wasm_request_headers_in_access {where}; alias html/; }}"
    (nginx.folder / "html/a.txt").write_text("text")
    (nginx.folder / "users").write_text("u:{PLAIN}p\n")
    start(nginx, locations, "quiet")
    assert client.get(port(nginx, client), "/a.txt").status == 401
    assert client.get(port(nginx, client), "/a.txt", [("Authorization", "Basic dTpw")]).body == b"text"
    assert client.get(port(nginx, client), "/a.txt", probe.do("request_headers: pause")[:0]).status == 401


def test_auth_request_works_and_may_have_filters(nginx, upstream, client):
    locations = f"""
    location = /auth {{ internal; return 204; }}
    location = /noauth {{ internal; return 403; }}
    location /ok/ {{ auth_request /auth; proxy_pass http://127.0.0.1:{upstream.port}/; }}
    location /no/ {{ auth_request /noauth; proxy_pass http://127.0.0.1:{upstream.port}/; }}
    """
    start(nginx, locations, *probe.TICKS)
    for lines in ((), ("request_headers: pause", "response_headers: pause")):
        assert client.get(port(nginx, client), "/ok/bytes/5", probe.do(*lines)).body == b"00000"
        assert client.get(port(nginx, client), "/no/bytes/5", probe.do(*lines)).status == 403


def test_subrequests_run_the_chain_of_their_location(nginx, client):
    locations = """
    location /ssi/ { ssi on; alias html/; }
    location /inc { return 200 "included"; }
    """
    (nginx.folder / "html/p.html").write_text('<!--#include virtual="/inc" -->|<!--#include virtual="/inc?2" -->')
    start(nginx, locations, "response_body@eos: append !")
    assert client.get(port(nginx, client), "/ssi/p.html").body == b"included!|included!!"
    assert len(nginx.log_lines("on_request_headers")) == 3


def test_an_internal_redirect_starts_a_new_chain(nginx, client):
    locations = """
    location / { try_files /none /target; }
    location /target { return 200 "target"; }
    """
    start(nginx, locations, "response_headers: add x-n $ctx")
    response = client.get(port(nginx, client), "/x")
    assert response.body == b"target" and len(response.all("x-n")) == 1
    assert len(nginx.log_lines("on_request_headers")) == 2
    nginx.wait_log("on_delete", 2)


def test_an_index_is_found_through_filters(nginx, client):
    (nginx.folder / "html/index.html").write_text("the index")
    start(nginx, "location / { root html; index index.html; }", "response_body: upper")
    assert client.get(port(nginx, client), "/").body == b"THE INDEX"


def test_error_pages_go_through_filters(nginx, client):
    locations = """
    location / { root html; error_page 404 /notfound.html; }
    location = /notfound.html { return 404 "not here"; }
    """
    start(nginx, locations, "response_body: upper")
    response = client.get(port(nginx, client), "/missing")
    assert (response.status, response.body) == (404, b"NOT HERE")


def test_early_errors_pass_the_response_filters(nginx):
    start(nginx, "location / { return 200; }", "response_headers: add x-f yes")
    with http1.Connection(nginx.port()) as c:
        c.send("GET / HTTP/1.1\r\n\r\n")
        response = c.read_response()
    assert (response.status, response.get("x-f")) == (400, "yes")
    assert nginx.log_lines("on_request_headers") == []


def test_a_location_replaces_the_chain_of_its_server(nginx, client):
    locations = f"""
    location /own {{ {probe.use('response_headers: add x-own yes')} return 200; }}
    location / {{ return 200; }}
    """
    start(nginx, locations, "response_headers: add x-server yes")
    own, other = client.get(port(nginx, client), "/own"), client.get(port(nginx, client), "/")
    assert (own.get("x-own"), own.get("x-server")) == ("yes", None)
    assert (other.get("x-own"), other.get("x-server")) == (None, "yes")


def test_a_chain_of_http_reaches_every_server(nginx, client):
    nginx.start("server { listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; location / { return 200; } }", http=probe.use("response_headers: add x-http yes"), wasm=probe.module())
    assert client.get(port(nginx, client)).get("x-http") == "yes"


def test_a_location_without_filters_is_left_alone(nginx, upstream, client):
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} location /f {{ {probe.use()} return 200; }} }}"
    nginx.start(servers, wasm=probe.module())
    body = payload(100000)
    doc = json.loads(client.request(port(nginx, client), "POST", "/echo", body=body).body)
    assert doc["length"] == len(body)
    assert nginx.log_lines("on_request_headers") == []


def test_named_locations_and_post_actions_do_not_lose_anything(nginx, upstream, client):
    locations = f"""
    location / {{ try_files /none @proxy; }}
    location @proxy {{ proxy_pass http://127.0.0.1:{upstream.port}; }}
    """
    start(nginx, locations, *probe.TICKS)
    response = client.request(port(nginx, client), "POST", "/echo", probe.do("request_headers: pause", "request_body: pause_until_eos", "response_headers: pause"), b"hello")
    assert json.loads(response.body)["body"] == "hello"


def test_a_websocket_is_upgraded_through_filters(nginx):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve():
        c, _ = listener.accept()
        data = b""
        while b"\r\n\r\n" not in data:
            data += c.recv(4096)
        c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        while True:
            data = c.recv(4096)
            if not data:
                break
            c.sendall(data.upper())
        c.close()

    thread = threading.Thread(target=serve)
    thread.start()
    location = f"location / {{ proxy_pass http://127.0.0.1:{listener.getsockname()[1]}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}"
    start(nginx, location, "response_headers: add x-f yes", "response_body: upper")
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/", [("Upgrade", "websocket"), ("Connection", "upgrade")])
        head = c.read_head()
        assert (head.status, head.get("x-f")) == (101, "yes")
        c.send(b"hello")
        assert c.read_some(5) == b"HELLO"
    thread.join(10)
    listener.close()


def test_a_retry_on_the_next_upstream_keeps_the_body(nginx, upstream, client):
    http = f"upstream two {{ server 127.0.0.1:1; server 127.0.0.1:{upstream.port}; }}"
    start(nginx, "location / { proxy_pass http://two; }", "request_body: pause_until_eos", "request_body@eos: append !", http=http)
    for _ in range(4):
        assert json.loads(client.request(port(nginx, client), "POST", "/echo", body=b"hello").body)["body"] == "hello!"


def test_a_cache_keeps_what_the_upstream_said_and_filters_see_every_answer(nginx, upstream, client):
    http = "proxy_cache_path cache keys_zone=z:1m;"
    location = f"location / {{ proxy_cache z; proxy_cache_valid 200 1m; proxy_pass http://127.0.0.1:{upstream.port}; }}"
    start(nginx, location, "response_body: upper", "response_headers: add x-c $ctx", http=http)
    answers = [client.get(port(nginx, client), "/slow/3/1") for _ in range(3)]
    assert [a.body for a in answers] == [b"PIECE-0\nPIECE-1\nPIECE-2\n"] * 3
    assert len(upstream.seen) == 1


def test_log_comes_once_for_each_stream(nginx, upstream, client):
    start(nginx, f"location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} location /r {{ return 204; }}", "quiet", "log: log logged-$ctx")
    for path in ("/bytes/10", "/r", "/status/503"):
        client.get(port(nginx, client), path)
    nginx.wait_log("logged-", 3)
    assert len(nginx.log_lines("logged-")) == 3


@pytest.mark.parametrize("master", [True, False])
def test_one_process_and_many_serve_the_same(nginx, client, master):
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {probe.use('response_headers: add x-f yes')} location / {{ return 200 ok; }} }}", wasm=probe.module(), master=master)
    assert client.get(port(nginx, client)).get("x-f") == "yes"


def test_requests_in_flight_survive_a_reload(nginx, upstream):
    start(nginx, f"location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }}", "response_headers: add x-f yes")
    with http1.Connection(nginx.port()) as c:
        c.send_request("GET", "/slow/10/100")
        nginx.reload()
        assert http1.get(nginx.port(), "/bytes/5").get("x-f") == "yes"
        response = c.read_response()
    assert response.complete and response.get("x-f") == "yes"


def test_ticks_do_not_keep_an_old_worker_alive(nginx):
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {probe.use('quiet', 'configure: tick 600000')} location / {{ return 200; }} }}", wasm=probe.module())
    assert http1.get(nginx.port()).status == 200
