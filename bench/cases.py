"""The cases: one nginx configuration each, all in front of the same upstream."""
import dataclasses
import json
import os
import pathlib

TEXT = "Hello from Sluice using WebAssembly!"
GREETING = json.dumps({"my_greeting": TEXT})
LUA = ("ndk_http_module.so", "ngx_http_lua_module.so")


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    what: str
    group: str = ""  # cases of a group do the same work
    modules: tuple = ()
    filters: tuple = ()
    main: str = ""
    wasm: str = ""
    http: str = ""
    location: str = ""
    shows: str = ""  # a header line that each answer has
    files: dict = dataclasses.field(default_factory=dict, hash=False)
    nginx: str = ""  # another binary


def ours(name, what, filter_name, group="", location="", config=GREETING, shows="x-greeting: hello"):
    directive = f"proxy_wasm {filter_name} '{config}';" if config else f"proxy_wasm {filter_name};"
    return Case(name, what, group, ("sluice",), (filter_name,), location=f"{location} {directive}", shows=shows)


def lua(name, what, location, group="", http="", shows="x-greeting: hello"):
    return Case(name, what, group, LUA, http=http, location=location, shows=shows)


LUA_HEADERS = """access_by_lua_block {
    local var, req = ngx.var, ngx.req
    local host, agent, accept = var.http_host, var.http_user_agent, var.http_accept
    req.set_header("X-Host", host)
    req.set_header("X-Agent", agent)
    req.clear_header("Accept")
    ngx.ctx.seen = accept
}"""
LUA_STEPS = "header_filter_by_lua_block {\n" + "".join(f'    ngx.header["X-Greeting"] = "hello {i}"\n' for i in range(10)) + "}"
# As gateways on Lua do it: a list of plugins, each a function with its own configuration, called so that one may fail.
LUA_PLUGINS_INIT = """init_by_lua_block {
    plugins = {}
    for i = 1, 10 do
        plugins[i] = { conf = { text = "hello " .. i }, header_filter = function(conf) ngx.header["X-Greeting"] = conf.text end }
    end
}"""
LUA_PLUGINS = """header_filter_by_lua_block {
    for i = 1, #plugins do
        local ok, err = pcall(plugins[i].header_filter, plugins[i].conf)
        if not ok then ngx.log(ngx.ERR, err) end
    end
}"""
NJS = 'function greet(r) { r.headersOut["X-Greeting"] = "%s"; }\nexport default { greet };\n' % TEXT


LUA_CALL = """access_by_lua_block {
    local sock = ngx.socket.tcp()
    assert(sock:connect("unix:@dir@/upstream.sock"))
    assert(sock:send("GET /called HTTP/1.1\\r\\nHost: backend\\r\\n\\r\\n"))
    local length, line = 0, nil
    repeat
        line = assert(sock:receive("*l"))
        length = tonumber(line:match("^[Cc]ontent%-[Ll]ength: (%d+)")) or length
    until line == ""
    assert(#sock:receive(length) == 6)
    assert(sock:setkeepalive(60000, 16))
}"""


# njs' fetch knows neither Unix sockets nor connections that are kept, and nothing of it runs before the content phase.
NJS_CALL = """async function call(r) {
    const reply = await ngx.fetch("http://127.0.0.1:@upstream_port@/called");
    const text = await reply.text();
    if (reply.status != 200 || text.length != 6) { r.return(500); return; }
    r.internalRedirect("/called-before");
}
export default { call };
"""


def lua_shared(statement):
    return f"access_by_lua_block {{ local d = ngx.shared.bench for i = 1, 100 do {statement} end }}"


def chain(n):
    directives = "".join("proxy_wasm my-c-filter '%s';" % json.dumps({"my_greeting": f"hello {i}"}) for i in range(n))
    return Case(f"chain-{n}", f"{n} filters in C, each sets the header", "chain", ("sluice",), ("my-c-filter",), location=directives,
                shows="x-greeting: hello")


CASES = [
    Case("plain", "nginx, proxy_pass with keepalive"),
    Case("no-filters", "the module is loaded, this route has no filters", modules=("sluice",), filters=("my-c-filter",)),
    Case("add_header", "one response header by nginx itself", "greeting", location=f'add_header X-Greeting "{TEXT}";', shows="x-greeting"),
    lua("lua", "the same by header_filter_by_lua", f'header_filter_by_lua_block {{ ngx.header["X-Greeting"] = "{TEXT}" }}', "greeting"),
    Case("njs", "the same by js_header_filter", "greeting", ("ngx_http_js_module.so",), http="js_path @dir@; js_import bench from bench.js;",
         location="js_header_filter bench.greet;", shows="x-greeting", files={"bench.js": NJS}),
    ours("filter-c", "the same by the template in C", "my-c-filter", "greeting"),
    ours("filter-rust", "the same by the template in Rust", "my-rust-filter", "greeting"),
    ours("filter-go", "the same by the template in Go", "my-go-filter", "greeting"),
    ours("own-c", "C, an instance of the chain's own", "my-c-filter", "greeting", "proxy_wasm_isolation filter;"),
    ours("own-rust", "Rust, an instance of the chain's own", "my-rust-filter", "greeting", "proxy_wasm_isolation filter;"),
    ours("own-go", "Go, an instance of the chain's own", "my-go-filter", "greeting", "proxy_wasm_isolation filter;"),
    ours("request-c", "C, an instance as new for each request", "my-c-filter", "greeting", "proxy_wasm_isolation request;"),
    ours("request-rust", "Rust, an instance as new for each request", "my-rust-filter", "greeting", "proxy_wasm_isolation request;"),
    ours("request-go", "Go, an instance as new for each request", "my-go-filter", "greeting", "proxy_wasm_isolation request;"),
    lua("lua-headers", "reads 3 request headers, sets 2, removes 1, by access_by_lua", LUA_HEADERS, "headers", shows=""),
    ours("headers-c", "the same by a filter in C", "bench_headers", "headers", config="", shows=""),
    chain(1),
    chain(10),
    lua("lua-call", "an HTTP call before the request goes on, by cosockets, kept alive", LUA_CALL, "call", shows=""),
    Case("njs-call", "the same by njs' fetch: over TCP, a connection each", "call", ("ngx_http_js_module.so",),
         http="js_path @dir@; js_import bench from call.js;", location="js_content bench.call; location /called-before { proxy_pass http://backend; }",
         files={"call.js": NJS_CALL}),
    ours("call-c", "the same by a filter in C", "bench_calls", "call", config="call", shows=""),
    lua("lua-get", "100 gets from ngx.shared, 32 bytes", lua_shared('d:get("a:key")'), "get", "lua_shared_dict bench 1m; "
        'init_by_lua_block { ngx.shared.bench:set("a:key", "some value of thirty-two bytes..") }', shows=""),
    ours("get-c", "100 gets of shared data by a filter in C", "bench_calls", "get", config="get", shows=""),
    lua("lua-set", "100 sets into ngx.shared", lua_shared('d:set("a:key", "some value of thirty-two bytes..")'), "set",
        "lua_shared_dict bench 1m;", shows=""),
    ours("set-c", "100 sets of shared data by a filter in C", "bench_calls", "set", config="set", shows=""),
    lua("lua-incr", "100 increments in ngx.shared", lua_shared('d:incr("n", 1, 0)'), "metric", "lua_shared_dict bench 1m;", shows=""),
    ours("metric-c", "100 increments of a metric by a filter in C", "bench_calls", "metric", config="metric", shows=""),
    lua("lua-10-steps", "one Lua handler that sets the header ten times", LUA_STEPS, "chain"),
    lua("lua-10-plugins", "one Lua handler that calls ten plugins", LUA_PLUGINS, "chain", http=LUA_PLUGINS_INIT),
]

# WasmX is not packaged: WASMX names its nginx, or its checkout after `make` there.
def wasmx_nginx(where):
    """The binary; SystemExit says what is missing."""
    path = pathlib.Path(where)
    for binary in [path] if path.is_file() else [path / "work/buildroot/nginx", path / "work/downloads/nginx/objs/nginx", path / "sbin/nginx"]:
        if os.access(binary, os.X_OK):
            return str(binary.resolve())
    raise SystemExit(f"WASMX={where}: neither an nginx with ngx_wasm_module nor a checkout that has one in work/buildroot/nginx (run `make` in it)")


def wasmx(binary):
    module = f"{pathlib.Path(__file__).resolve().parent.parent}/build/filters/my-rust-filter.wasm"
    levels = {"none": "WasmX, its shared level", "stream": "WasmX, an instance for each request", "filter": "WasmX, an instance of the filter's own"}
    return [
        Case(f"wasmx-{level}", f"{what}, the template in Rust", "greeting", main=f"wasm {{ module my-rust-filter {module}; }}", shows="x-greeting",
             location=f"proxy_wasm_isolation {level}; proxy_wasm my-rust-filter '{GREETING}';", nginx=binary)
        for level, what in levels.items()
    ]


if os.environ.get("WASMX"):
    CASES += wasmx(wasmx_nginx(os.environ["WASMX"]))


def body(name, what, mode):
    return Case(name, what, "body", ("sluice",) if mode else (), ("bench_body",) if mode else (),
                location=f"proxy_wasm bench_body {mode};" if mode else "")


def lua_body(name, what, statement):
    return lua(name, what, f"header_filter_by_lua_block {{ ngx.header.content_length = nil }} body_filter_by_lua_block {{ {statement} }}", shows="")


# Measured at two lengths of the body.
BODY_CASES = [
    body("body-plain", "a response body through plain nginx", ""),
    body("body-stream", "shown to a filter in C that passes it on", "stream"),
    body("body-rewrite", "read and written anew by a filter in C", "rewrite"),
    lua_body("lua-body-stream", "shown to body_filter_by_lua that passes it on", "local piece = ngx.arg[1]"),
    lua_body("lua-body-rewrite", "read and written anew by body_filter_by_lua", 'if ngx.arg[1] ~= "" then ngx.arg[1] = "X" .. ngx.arg[1]:sub(2) end'),
]


def by_name(name):
    return next(c for c in CASES + BODY_CASES if c.name == name)
