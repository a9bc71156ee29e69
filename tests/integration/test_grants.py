"""Grants: what a filter may use of the host."""

import json

from support import http1
from support.nginx import filter_path
from gateway_helpers import sluice

MODULES = f"module hostile {filter_path('hostile')}; module greeting {filter_path('my-c-filter')};"


def servers(grants, module="hostile"):
    return f"""server {{
        listen 127.0.0.1:@PORT@;
        location / {{ proxy_wasm_grants {grants}; proxy_wasm {module}; return 200 served; }}
    }}"""


def test_a_module_that_imports_more_than_it_is_granted_is_refused(nginx):
    nginx.write(servers("log headers-read headers-write"), wasm=MODULES)
    result = nginx.check()
    assert result.returncode == 1
    assert 'for which it lacks the grant "' in result.stderr


def test_an_unknown_grant_is_refused(nginx):
    nginx.write(servers("log everything"), wasm=MODULES)
    result = nginx.check()
    assert result.returncode == 1
    assert "no such item 'everything'" in result.stderr


def test_what_inspect_says_is_enough(nginx):
    needed = json.loads(sluice("filters", "inspect", "--json", str(filter_path("hostile"))).stdout)["needed_grants"]
    assert set(needed) >= {"log", "headers-read", "headers-write", "timers", "shared-data", "local-reply", "clock"}
    nginx.start(servers(" ".join(needed)), wasm=MODULES)
    assert http1.get(nginx.port(), "/").body == b"served"
    nginx.allow("failed initializing", "lacks the grant")
    for one in needed:
        nginx.write(servers(" ".join(name for name in needed if name != one)), wasm=MODULES)
        assert f'lacks the grant "{one}"' in nginx.check().stderr


def test_a_lazy_filter_gets_a_status_instead(nginx):
    nginx.start(servers("lazy headers-read", "greeting"), wasm=MODULES)
    response = http1.get(nginx.port(), "/")
    assert (response.status, response.get("x-greeting")) == (200, None)
    assert nginx.log_lines('is not granted "headers-write"')
