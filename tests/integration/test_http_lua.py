"""Filters beside Lua (Debian's libnginx-mod-http-lua): Lua runs first in each phase, and both see what the other did."""

import pathlib

import pytest

from support import http1, http2, probe
from support.nginx import FLAVOR

FOLDER = pathlib.Path("/usr/lib/nginx/modules")
pytestmark = pytest.mark.skipif(FLAVOR != "debian" or not (FOLDER / "ngx_http_lua_module.so").exists(), reason="no Lua module for this nginx")

LUA = """
    access_by_lua_block { ngx.req.set_header("x-lua", "access") if ngx.var.arg_deny then ngx.exit(403) end }
    header_filter_by_lua_block { ngx.header["x-order"] = "lua" ngx.header["content-length"] = nil }
    body_filter_by_lua_block { if ngx.arg[1] ~= "" then ngx.arg[1] = ngx.arg[1] .. "L" end }
    log_by_lua_block { ngx.log(ngx.WARN, "lua log status=", ngx.status) }
"""
FILTER = ("request_headers: get x-lua x-seen", "response_headers: get x-order x-before", "response_headers: add x-order filter", "response_body: append F", probe.EXEC, *probe.TICKS)


@pytest.fixture
def server(nginx, upstream):
    load = f"load_module {FOLDER}/ndk_http_module.so; load_module {FOLDER}/ngx_http_lua_module.so;"
    nginx.start(
        f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; proxy_wasm_request_headers_in_access on; {LUA} {probe.use(*FILTER)} "
        f"location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} location /lua {{ content_by_lua_block {{ ngx.print('content') }} }} }}",
        http="rewrite_by_lua_no_postpone on; access_by_lua_no_postpone on;", main=load, wasm=probe.module(),
    )
    return nginx


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


@pytest.mark.parametrize("hold", [(), ("request_headers: pause",), ("response_headers: pause",)])
@pytest.mark.parametrize("path, body", [("/bytes/5", b"00000LF"), ("/lua", b"contentLF")])
def test_lua_comes_first_in_each_phase(server, client, path, body, hold):
    response = client.get(port(server, client), path, probe.do(*hold))
    assert (response.get("x-seen"), response.get("x-before")) == ("access", "lua")
    assert response.all("x-order") == ["lua", "filter"]
    assert response.body.rstrip(b"F") + b"F" == body and response.complete
    server.wait_log("lua log status=200")


def test_what_lua_denies_no_filter_sees_as_a_request(server, client):
    assert client.get(port(server, client), "/bytes/5?deny=1").status == 403
    assert server.log_lines("on_request_headers") == []


def test_a_filters_answer_passes_lua(server, client):
    response = client.get(port(server, client), "/bytes/5", probe.do("request_headers: reply 418 tea"))
    assert response.status == 418 and response.body.startswith(b"tea")
    assert http1.get(server.port(), "/bytes/3").body.startswith(b"000")
