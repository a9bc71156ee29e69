"""Options of filters: each level that can set them, which of them wins, and what is said about values that are none."""

import json
import re

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import ROOT, Gateway, clean_env, document, echoed, folder, free_port, home, install, one_service, origin, origin_server, sluice  # noqa: F401
from support import http1, probe
from support.nginx import filter_path

REPLY = probe.use("request_headers: reply 200 here")
WASMX, ENVOY = b"here\n", b"here"
MODULES = probe.module() + f"module membomb {filter_path('membomb')};"


def body(nginx, path="/"):
    return http1.request(nginx.port(), "GET", path).body


def line(*options):
    return REPLY[:-1] + " " + " ".join(options) + ";"


# ---- directives ---------------------------------------------------------------------------------------------------------


def test_the_nearest_level_wins(nginx):
    servers = f"""
        server {{ listen 127.0.0.1:@PORT@; {REPLY}
            location / {{ return 200; }}
            location /near {{ proxy_wasm_dialect envoy; return 200; }}
            location /line {{ proxy_wasm_dialect envoy; {line('dialect=wasmx')} return 200; }}
        }}
        server {{ listen 127.0.0.1:@PORT2@; proxy_wasm_dialect envoy; {REPLY}
            location / {{ return 200; }}
            location /near {{ proxy_wasm_dialect wasmx; return 200; }}
        }}"""
    nginx.start(servers, http="proxy_wasm_dialect wasmx;", wasm=MODULES + "proxy_wasm_dialect envoy;")
    assert [body(nginx, p) for p in ("/", "/near", "/line")] == [WASMX, ENVOY, WASMX]
    assert [http1.request(nginx.port("2"), "GET", p).body for p in ("/", "/near")] == [ENVOY, WASMX]


def test_what_wasm_says_counts_where_nothing_else_does(nginx):
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {REPLY} location / {{ return 200; }} }}", wasm=MODULES + "proxy_wasm_dialect wasmx;")
    assert body(nginx) == WASMX


def test_filters_of_both_dialects_stand_in_one_chain(nginx):
    def code(note, dialect):
        return probe.use(f"response_headers: prop response.code {note}")[:-1] + f" dialect={dialect};"

    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {code('x-first', 'envoy')} {code('x-second', 'wasmx')} location / {{ return 200; }} }}", wasm=MODULES)
    answer = http1.request(nginx.port(), "GET", "/")
    assert answer.get("x-second") == "200" and answer.get("x-first") != "200"


def test_the_memory_budget_ends_growth_inside_the_guest(nginx, upstream):
    def place(name, *options):
        return f"location /{name} {{ proxy_wasm membomb '' {' '.join(options)}; proxy_pass http://127.0.0.1:{upstream.port}/echo; }}"

    servers = f"server {{ listen 127.0.0.1:@PORT@; {place('small', 'memory_budget=4m')} {place('large', 'memory_budget=16m')} {place('usual')} }}"
    nginx.start(servers, wasm=MODULES)
    pages = {}
    for name in ("small", "large", "usual"):
        headers = json.loads(http1.request(nginx.port(), "GET", f"/{name}").body)["headers"]
        pages[name] = int(next(value for key, value in headers if key.lower() == "x-pages"))
    assert pages["small"] <= 64 < pages["large"] <= 256 < pages["usual"] <= 1024


def test_the_example_of_the_documents_loads(nginx):
    text = (ROOT / "docs/reference/directives.md").read_text()
    example = re.search(r"^```nginx\n(location / \{\n    proxy_wasm_dialect.*?)^```$", text, re.M | re.S).group(1)
    modules = "".join(f"module {name} {filter_path('minimal')};" for name in ("first", "second", "third"))
    nginx.write(f"server {{ listen 127.0.0.1:@PORT@; {example} }}", wasm=modules)
    assert nginx.check().returncode == 0


LEVELS = ["wasm", "http", "server", "location"]
DIRECTIVES = [
    "proxy_wasm_dialect wasmx;",
    "proxy_wasm_isolation shared;",
    "proxy_wasm_cpu_budget_ms off;",
    "proxy_wasm_memory_budget 1m;",
    "proxy_wasm_memory_recycle 512k;",
    "proxy_wasm_fail skip-chain;",
    "proxy_wasm_slice off;",
    "proxy_wasm_grants none;",
    "proxy_wasm_headers_stop_iteration on;",
    "proxy_wasm_vm_id 'an id';",
]


def check(nginx, level, text):
    servers = {"server": text, "location": f"location / {{ {text} }}"}.get(level, "")
    nginx.write(f"server {{ listen 127.0.0.1:@PORT@; {servers} }}", text if level == "http" else "", probe.module() + (text if level == "wasm" else ""))
    result = nginx.check()
    nginx.ports.clear()
    return result


@pytest.mark.parametrize("level", LEVELS)
def test_every_option_is_a_directive_of_every_level(nginx, level):
    result = check(nginx, level, " ".join(DIRECTIVES))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("level", ["http", "server", "location"])
def test_the_modes_of_wasmx_are_known(nginx, level):
    for mode in ("none", "stream", "filter"):
        assert check(nginx, level, f"proxy_wasm_isolation {mode};").returncode == 0


REFUSED = {
    "proxy_wasm_fail maybe;": 'invalid value "maybe" of proxy_wasm_fail: expected one of: closed, open, skip-chain',
    "proxy_wasm_cpu_budget_ms 5s;": "expected a number from 0 to 3600000",
    "proxy_wasm_memory_budget 1k;": "from 65536 to 4294967296",
    "proxy_wasm_slice maybe;": "expected on or off",
    "proxy_wasm_isolation vm;": 'invalid isolation mode "vm"',
    "proxy_wasm_fail open; proxy_wasm_fail open;": '"proxy_wasm_fail" directive is duplicate',
    "proxy_wasm_fail open closed;": "invalid number of arguments",
    "proxy_wasm probe x fail=maybe;": 'invalid value "maybe" of proxy_wasm_fail',
    "proxy_wasm probe x nosuch=1;": 'invalid option "nosuch=1"',
    "proxy_wasm probe x fail=open fail=open;": 'duplicate option "fail=open"',
    "proxy_wasm probe x y;": 'invalid number of arguments: "y" is no option',
    'proxy_wasm probe x grants="log metrics";': '"metrics"" is no option (several words are written "grants=log metrics")',
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_value_is_refused(nginx, text):
    result = check(nginx, "location", text)
    assert result.returncode != 0 and REFUSED[text] in result.stderr, result.stderr


# ---- the gateway ---------------------------------------------------------------------------------------------------------


def entry(**options):
    return {"name": "probe", "config": "quiet\nrequest_headers: reply 200 here", **options}


def routes(url, **entries):
    """A route /name for each."""
    return document(
        {"name": "s", "url": url, "routes": [{"name": n, "paths": [f"/{n}"], "filter_chains": [{"filters": [e]}]} for n, e in entries.items()]}
    )


def test_entries_differ_in_their_options_alone(origin_server):
    with folder() as path:
        install(path / "filters", "probe", "membomb")
        bomb = {"name": "membomb"}
        doc = routes(
            origin_server.url,
            envoy=entry(),
            wasmx=entry(dialect="wasmx"),
            small={**bomb, "memory_budget": "4m"},
            large={**bomb, "memory_budget": 16 << 20},
        )
        with Gateway(path, doc).start() as gateway:
            assert gateway.get("/envoy").body == ENVOY and gateway.get("/wasmx").body == WASMX
            pages = {n: int(dict(echoed(gateway.get(f"/{n}"))["all"])["x-pages"]) for n in ("small", "large")}
            assert pages["small"] <= 64 < pages["large"] <= 256
            # and a new document changes them
            gateway.configure(routes(origin_server.url, envoy=entry(dialect="wasmx"), wasmx=entry(dialect="envoy")))
            assert gateway.get("/envoy").body == WASMX and gateway.get("/wasmx").body == ENVOY


def test_settings_are_under_what_entries_say(origin_server):
    with folder() as path:
        install(path / "filters", "probe")
        doc = routes(origin_server.url, bare=entry(), said=entry(dialect="envoy"))
        with Gateway(path, doc, wasm_dialect="wasmx", wasm_grants="default", wasm_memory_budget="32m").start() as gateway:
            assert gateway.get("/bare").body == WASMX and gateway.get("/said").body == ENVOY


def test_the_order_of_responses_is_a_setting(origin_server):
    def mark(text):
        return {"name": "probe", "config": f"quiet\nresponse_headers: add x-seen {text}"}

    with folder() as path:
        install(path / "filters", "probe")
        with Gateway(path, one_service(origin_server.url, mark("a"), mark("b")), wasm_response_order="reverse").start() as gateway:
            assert ", ".join(gateway.get("/").all("x-seen")) == "b, a"


def test_a_ceiling_of_bodies_is_a_setting(origin_server):
    hold = {"name": "probe", "config": "quiet\nrequest_body: return 1"}  # whatever of it comes at once
    with folder() as path:
        install(path / "filters", "probe")
        with Gateway(path, one_service(origin_server.url, hold), wasm_request_body_limit="1k").start() as gateway:
            assert gateway.request("POST", "/", body=b"x" * 5000).status == 413


def test_the_admin_api_shows_what_is_set_and_says_what_is_wrong(origin_server):
    with folder() as path:
        install(path / "filters", "probe")
        gateway = Gateway(path)
        for name in ("SLUICE_DECLARATIVE_CONFIG", "SLUICE_DATABASE"):
            gateway.env.pop(name)

        def post(chain):
            headers = [("Content-Type", "application/json")]
            return http1.request(gateway.admin, "POST", "/services/s/filter-chains", headers, json.dumps(chain).encode(), timeout=60)

        with gateway.start():
            made = http1.request(gateway.admin, "POST", "/services", [("Content-Type", "application/json")], json.dumps({"name": "s", "url": origin_server.url}).encode())
            assert made.status == 201, made.text
            answer = post({"filters": [entry(fail="maybe", cpu_budget_ms="x", memory_budget="1k", grants=["a b"])]})
            assert answer.status == 400
            errors = json.loads(answer.body)["fields"]["filters"][0]
            assert errors["fail"] == "expected one of: closed, open, skip-chain" and errors["cpu_budget_ms"] == "expected an integer"
            assert "such as 64m" in errors["memory_budget"] and "commas" in errors["grants"][0]
            answer = post({"filters": [entry(dialect="wasmx", memory_budget="32m"), {"name": "probe"}]})
            assert answer.status == 201, answer.text
            first, second = json.loads(answer.body)["filters"]
            assert (first["dialect"], first["memory_budget"]) == ("wasmx", "32m")
            assert set(second) == {"name", "enabled", "config"}


def test_check_tries_filters_with_their_options(origin_server):
    # 8 MiB of memory to begin with
    with folder() as path:
        install(path / "filters", "probe")
        (path / "filters/big.wasm").write_bytes(big_module(128))
        gateway = Gateway(path, one_service(origin_server.url, {"name": "big"}))
        assert gateway.run("check", str(gateway.file)).returncode == 0
        gateway.write(one_service(origin_server.url, {"name": "big", "memory_budget": "4m"}))
        refused = gateway.run("check", str(gateway.file))
        assert refused.returncode == 1 and "filters[0] (big)" in refused.stderr, refused.stderr
        # as a setting, and an entry that asks for more
        gateway.write(one_service(origin_server.url, {"name": "big"}))
        assert gateway.run("check", str(gateway.file), SLUICE_WASM_MEMORY_BUDGET="4m").returncode == 1
        gateway.write(one_service(origin_server.url, {"name": "big", "memory_budget": "16m"}))
        assert gateway.run("check", str(gateway.file), SLUICE_WASM_MEMORY_BUDGET="4m").returncode == 0


def big_module(pages):
    """A filter that does nothing, whose memory begins with so many pages."""

    def section(number, content):
        return bytes([number]) + leb(len(content)) + content

    def leb(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def name(text):
        return leb(len(text)) + text.encode()

    types = b"\x02\x60\x00\x00\x60\x01\x7f\x01\x7f"
    exports = leb(3) + name("memory") + b"\x02\x00" + name("proxy_abi_version_0_2_1") + b"\x00\x00" + name("malloc") + b"\x00\x01"
    code = b"\x02\x02\x00\x0b\x04\x00\x41\x00\x0b"
    return b"\0asm\1\0\0\0" + section(1, types) + section(3, b"\x02\x00\x01") + section(5, b"\x01\x00" + leb(pages)) + section(7, exports) + section(10, code)


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("WASM_FAIL", "maybe", "expected one of: closed, open, skip-chain"),
        ("WASM_MEMORY_BUDGET", "1k", "from 65536 to 4294967296"),
        ("WASM_CPU_BUDGET_MS", "5s", "expected a number from 0 to 3600000"),
        ("WASM_RESPONSE_ORDER", "back", "forward, reverse"),
    ],
)
def test_check_refuses_settings_by_name(origin_server, name, value, words):
    with folder() as path:
        install(path / "filters", "probe")
        gateway = Gateway(path, one_service(origin_server.url, {"name": "probe"}))
        refused = gateway.run("check", str(gateway.file), **{f"SLUICE_{name}": value})
        assert refused.returncode == 1 and words in refused.stderr and f"SLUICE_{name}" in refused.stderr
