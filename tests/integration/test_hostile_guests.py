"""Filters that abuse the order of calls, their allocator, contexts of others and all limits: the worker and a healthy filter live on."""

import pytest

from support import http1, http2, probe
from support.nginx import filter_path
from support.upstream import payload

ORDER = ["continue", "reply", "close", "strangers", "actions", "resume", "bodies"]
ALLOCATOR = ["overlap", "end", "grows", "calls", "zero", "trap"]
FLOOD = ["calls", "maps", "headers", "properties", "outcalls", "logs", "metrics"]
CASES = [("order", mode) for mode in ORDER] + [("allocator", mode) for mode in ALLOCATOR] + [("flood", mode) for mode in FLOOD]


@pytest.fixture
def server(nginx, upstream):
    def start(kind, mode, extra=""):
        nginx.level = "warn"
        nginx.workers = 1
        up = f"http://127.0.0.1:{upstream.port}"
        servers = f"""
        server {{
            listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; proxy_wasm_cpu_budget_ms 2000; {extra}
            location /nasty/ {{ proxy_wasm nasty {mode}; {probe.use("quiet", "response_headers: add x-healthy yes")} proxy_pass {up}/; }}
            location / {{ {probe.use("quiet", *probe.TICKS, probe.EXEC)} proxy_pass {up}; }}
        }}
        """
        modules = f"module nasty {filter_path('nasty_' + kind)}; {probe.module()} shm_kv kv 64k;"
        nginx.start(servers, http=f"upstream named {{ server 127.0.0.1:{upstream.port}; }}", wasm=modules)
        return nginx

    return start


def attempt(client, port, method, path, **more):
    """Whatever comes of it: an answer, a reset, or nothing within the time of a paused stream."""
    try:
        return client.request(port, method, path, timeout=3, **more)
    except (http1.Closed, OSError):
        return None


@pytest.mark.parametrize("dialect", ["envoy", "wasmx"])
@pytest.mark.parametrize("kind,mode", CASES)
def test_a_nasty_filter_harms_nobody_else(server, kind, mode, dialect):
    nginx = server(kind, mode, f"proxy_wasm_dialect {dialect};")
    for client, port in ((http1, nginx.port()), (http2, nginx.port("2"))):
        for method, path, more in (
            ("GET", "/nasty/bytes/1000", {}),
            ("POST", "/nasty/echo", {"body": payload(20000)}),
            ("POST", "/nasty/chunked/5000/100", {"chunks": [b"a", payload(3000), b"b"]}),
            ("GET", "/nasty/bytes/0", {"headers": [("x-trap", "1")]}),
            ("HEAD", "/nasty/bytes/10", {}),
        ):
            attempt(client, port, method, path, **more)
            assert client.get(port, "/bytes/2000", probe.do("response_headers: pause")).body == payload(2000)
