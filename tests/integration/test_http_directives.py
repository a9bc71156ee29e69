"""Directives: what is accepted, what is refused with which words, where files are found."""

import os


import pytest

from support import http1, probe
from support.nginx import filter_path

PROBE = f"module probe {filter_path('probe')};"


@pytest.fixture
def check(nginx):
    def run(servers="", http="", wasm="", main=""):
        nginx.write(f"server {{ listen 127.0.0.1:@PORT@; {servers} }}", http, wasm, main)
        result = nginx.check()
        nginx.ports.clear()
        return result.returncode, result.stderr

    return run


REFUSED = {
    "no wasm block": (None, "proxy_wasm probe;", '"proxy_wasm" directive is specified but config has no "wasm" section'),
    "unknown module": ("", "proxy_wasm nosuch;", 'no "nosuch" module defined'),
    "empty name": (PROBE, "proxy_wasm '';", 'invalid module name ""'),
    "empty module name": (f"module '' {filter_path('probe')};", "", 'invalid module name ""'),
    "colon": (f"module a:b {filter_path('probe')};", "", 'invalid module name "a:b": character not allowed ":"'),
    "empty path": ("module a '';", "", 'invalid module path ""'),
    "twice": (PROBE + PROBE, "", '"probe" module already defined'),
    "missing file": ("module a /nowhere/a.wasm;", "", 'open() "/nowhere/a.wasm" failed (2: No such file'),
    "no wasm": ("module a nginx.conf;", "", 'failed loading "a" module bytes'),
    "isolation": (PROBE, "proxy_wasm_isolation x;", 'invalid isolation mode "x"'),
    "dialect": (PROBE, "proxy_wasm_dialect x;", 'invalid value "x"'),
    "three words": (PROBE, "proxy_wasm probe a b;", "invalid number of arguments"),
    "flag": ("wasmtime { flag nosuch on; }", "", 'unknown "wasmtime" configuration flag: "nosuch"'),
    "flag value": ("wasmtime { flag wasm_simd maybe; }", "", 'failed setting wasmtime flag: invalid value "maybe"'),
    "compiler": ("compiler x;", "", 'invalid compiler "x"'),
    "shm name": ("shm_kv '' 64k;", "", 'invalid shm name ""'),
    "shm size": ("shm_kv a 1x;", "", 'invalid shm size "1x"'),
    "shm small": ("shm_kv a 4k;", "", "shm size of 4096 bytes is too small, minimum required is 12288 bytes"),
    "shm page": ("shm_kv a 16385;", "", "shm size of 16385 bytes is not page-aligned, must be a multiple of 4096"),
    "shm option": ("shm_kv a 64k foo=bar;", "", 'invalid option "foo=bar"'),
    "shm eviction": ("shm_kv a 64k eviction=x;", "", 'invalid eviction policy "x"'),
    "shm queue": ("shm_queue a 64k eviction=lru;", "", 'shm_queue "a": queues do not support eviction policies'),
    "shm twice": ("shm_kv a 64k; shm_queue a 64k;", "", '"a" shm already defined'),
    "metrics twice": ("metrics { } metrics { }", "", '"metrics" directive is duplicate'),
    "metric name": ("metrics { max_metric_name_length 5; }", "", "value too small (min: 6)"),
    "resolver twice": ("resolver 127.0.0.1; resolver 127.0.0.1;", "", '"resolver" directive is duplicate'),
    "resolver_add": (PROBE, "resolver_add 1.2.3.4 a;", "no resolver defined and no default resolver"),
    "resolver_add address": (PROBE, "resolver 127.0.0.1; resolver_add x a;", 'invalid address value "x"'),
    "unknown in wasm": ("nosuch on;", "", 'unknown directive "nosuch"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(check, name):
    wasm, servers, words = REFUSED[name]
    code, text = check(servers, wasm=wasm)
    assert code != 0
    assert words in text


ACCEPTED_WASM = f"""
{PROBE}
module second {filter_path('minimal')} 'vm configuration';
compiler auto;
backtraces on;
shm_kv kv 64k eviction=lru;
shm_kv * 64k;
shm_queue q 128k;
resolver 127.0.0.1;
resolver_timeout 10s;
socket_connect_timeout 1s;
socket_send_timeout 1s;
socket_read_timeout 1s;
socket_buffer_size 2k;
socket_buffer_reuse off;
socket_large_buffers 4 16k;
tls_verify_cert on;
tls_verify_host on;
tls_no_verify_warn on;
proxy_wasm_lua_resolver off;
proxy_wasm_log_dispatch_errors on;
proxy_wasm_dialect envoy;
proxy_wasm_headers_stop_iteration on;
proxy_wasm_response_order forward;
proxy_wasm_request_body_limit 2m;
proxy_wasm_response_body_limit 2m;
proxy_wasm_over_limit fail;
metrics {{ slab_size 64k; max_metric_name_length 64; }}
wasmtime {{ flag debug_info on; flag max_wasm_stack 1m; flag strategy auto; cache_config /x.toml; }}
wasmer {{ flag anything at-all; }}
v8 {{ flag anything at-all; }}
"""
ACCEPTED_HTTP = """
proxy_wasm_isolation none;
proxy_wasm_request_headers_in_access off;
proxy_wasm_lua_resolver off;
proxy_wasm_log_dispatch_errors on;
wasm_postpone_rewrite on;
wasm_postpone_access on;
wasm_response_body_buffers 4 32k;
wasm_socket_connect_timeout 1s;
wasm_socket_send_timeout 1s;
wasm_socket_read_timeout 1s;
wasm_socket_buffer_size 2k;
wasm_socket_buffer_reuse on;
wasm_socket_large_buffers 4 8k;
proxy_wasm_dialect wasmx;
proxy_wasm_headers_stop_iteration off;
proxy_wasm_response_order reverse;
proxy_wasm_request_body_limit 1m;
proxy_wasm_response_body_limit 1m;
proxy_wasm_over_limit pass;
resolver 127.0.0.1;
resolver_add 127.0.0.1 some.host;
"""


@pytest.mark.parametrize("level", ["http", "server", "location"])
def test_everything_of_wasmx_is_accepted(check, level):
    text = ACCEPTED_HTTP + "proxy_wasm probe; proxy_wasm second config; proxy_wasm probe;"
    servers = {"server": text, "location": f"location / {{ {text} return 200; }}"}.get(level, "")
    code, out = check(servers, http=text if level == "http" else "", wasm=ACCEPTED_WASM)
    assert code == 0, out


def test_no_wasm_block_and_no_filters_is_nothing(check):
    assert check(wasm=None)[0] == 0
    assert check(wasm="")[0] == 0


def test_filters_of_a_chain_may_not_stand_in_if(check):
    code, text = check("location / { if ($arg_a) { proxy_wasm probe; } }", wasm=PROBE)
    assert code != 0 and '"proxy_wasm" directive is not allowed here' in text


def test_the_wasm_block_may_follow_http(nginx):
    nginx.write(f"server {{ listen 127.0.0.1:@PORT@; {probe.use('response_headers: add x-f yes')} location / {{ return 200; }} }}", wasm=None)
    with open(nginx.conf, "a") as f:
        f.write(f"wasm {{ {PROBE} }}")
    assert nginx.check().returncode == 0


BROKEN = {
    "badimport": ["env.no_such_function"],
    "badwasi": ["wasi_snapshot_preview1.thread_spawn", "env.proxy_not_in_any_abi"],
    "noabi": [],
    "configfail": [],
    "vmstartfail": [],
    "trap_start": [],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_filter_that_cannot_start_fails_the_check_by_name(check, name):
    code, text = check(f"proxy_wasm {name};", wasm=f"module {name} {filter_path(name)};")
    assert code != 0
    assert all(part in text for part in [name, *BROKEN[name]]), text


def test_a_reload_with_a_filter_that_does_not_start_keeps_the_old_one(nginx):
    servers = f"server {{ listen 127.0.0.1:@PORT@; {probe.use('response_headers: add x-f old')} location / {{ return 200; }} }}"
    nginx.start(servers, wasm=probe.module())
    nginx.allow("[emerg]")
    nginx.write(servers + "server { proxy_wasm bad; }", wasm=probe.module() + f"module bad {filter_path('configfail')};")
    os.kill(nginx.process.pid, 1)
    nginx.wait_log("failed initializing")
    for _ in range(4):
        assert http1.get(nginx.port()).get("x-f") == "old"


def test_modules_are_found_from_any_folder(nginx, tmp_path):
    (nginx.folder / "filters").mkdir()
    (nginx.folder / "filters/p.wasm").write_bytes(filter_path("probe").read_bytes())
    servers = f"server {{ listen 127.0.0.1:@PORT@; {probe.use('response_headers: add x-f yes')} location / {{ return 200; }} }}"
    nginx.start(servers, wasm="module probe filters/p.wasm;", cwd="/")
    assert http1.get(nginx.port()).get("x-f") == "yes"


def test_text_modules_are_read(check, nginx):
    (nginx.folder / "m.wat").write_text(
        '(module (func (export "proxy_abi_version_0_2_1")) (memory (export "memory") 1)'
        ' (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024)))'
    )
    code, text = check("proxy_wasm m;", wasm="module m m.wat;")
    assert code == 0, text


def test_the_cache_of_compiled_code_is_made_and_used(nginx):
    servers = f"server {{ listen 127.0.0.1:@PORT@; {probe.use('response_headers: add x-f yes')} location / {{ return 200; }} }}"
    nginx.start(servers, wasm=probe.module() + "cache_dir compiled;")
    folder = nginx.folder / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.glob("*.cwasm"))) == 1
    assert http1.get(nginx.port()).get("x-f") == "yes"
    assert nginx.check().returncode == 0


def test_a_cache_that_cannot_be_written_is_no_error(nginx):
    (nginx.folder / "file").write_text("")
    servers = f"server {{ listen 127.0.0.1:@PORT@; {probe.use('response_headers: add x-f yes')} location / {{ return 200; }} }}"
    nginx.start(servers, wasm=probe.module() + "cache_dir file/cache;")
    assert http1.get(nginx.port()).get("x-f") == "yes"


def test_vm_configuration_reaches_the_filter(nginx):
    servers = f"server {{ listen 127.0.0.1:@PORT@; {probe.use('quiet')} location / {{ return 200; }} }}"
    nginx.start(servers, wasm=probe.module(config="response_headers: add x-vm yes"))
    assert http1.get(nginx.port()).get("x-vm") == "yes"


def test_settings_of_wasm_reach_locations_that_set_none(nginx):
    location = "location / { return 200; } location /fwd { proxy_wasm_response_order forward; return 200; }"
    filters = probe.use("response_headers: add x-o a") + probe.use("response_headers: add x-o b")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {filters} {location} }}", wasm=probe.module() + "proxy_wasm_response_order reverse;")
    assert http1.get(nginx.port()).all("x-o") == ["b", "a"]
    assert http1.get(nginx.port(), "/fwd").all("x-o") == ["a", "b"]


def test_nginx_without_the_modules_directives_is_unchanged(nginx):
    nginx.start("server { listen 127.0.0.1:@PORT@; location / { return 200 plain; } }", wasm=None)
    assert http1.get(nginx.port()).body == b"plain"


