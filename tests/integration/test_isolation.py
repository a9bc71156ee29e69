"""Isolation of requests: planted secrets, state in globals, traps, all with requests that overlap in one worker."""

import json
import os
import re

import pytest
from gateway_helpers import Gateway, chain, document, folder, install, one_service, origin, origin_server, wait_for  # noqa: F401
from support import http1
from support.nginx import filter_path

MODULES = f"module secret {filter_path('secret')}; module counter {filter_path('counter')};"
LANGUAGES = [name for name in ("c", "go", "rust") if os.path.exists(filter_path(f"my-{name}-filter"))]
SERVERS = """
server {
    listen 127.0.0.1:@PORT@;
    location /request { proxy_wasm_isolation request; proxy_wasm secret; proxy_pass http://127.0.0.1:@PORTbackend@; }
    location /stream { proxy_wasm_isolation stream; proxy_wasm secret; proxy_pass http://127.0.0.1:@PORTbackend@; }
    location /shared { proxy_wasm secret; proxy_pass http://127.0.0.1:@PORTbackend@; }
    location /tick { proxy_wasm_isolation request; proxy_wasm secret tick; proxy_pass http://127.0.0.1:@PORTbackend@; }
    location /one { proxy_wasm_isolation filter; proxy_wasm counter; return 200 one; }
    location /two { proxy_wasm_isolation filter; proxy_wasm counter; return 200 two; }
    location /three { proxy_wasm counter; return 200 three; }
    location /four { proxy_wasm counter; return 200 four; }
}
server { listen 127.0.0.1:@PORTbackend@; location / { return 200 ok; } }
"""


@pytest.fixture
def server(nginx):
    nginx.workers = 1
    nginx.start(SERVERS, wasm=MODULES)
    return nginx


def overlap(port, path, n, order):
    """n requests whose headers have all been seen by the filter before the first one is answered: their bodies come later."""
    open_requests = []
    for i in range(n):
        connection = http1.Connection(port)
        connection.send_request("POST", path, [("x-secret", f"secret-{i:03d}"), ("expect", "100-continue")], length=4)
        open_requests.append(connection)
    answers = [None] * n
    for i in order:
        connection = open_requests[i]
        connection.send(b"body")
        answer = connection.read_response()
        answers[i] = connection.read_response() if answer.status == 100 else answer
        connection.close()
    return answers


@pytest.mark.parametrize("path", ["/request", "/stream"])
def test_overlapping_requests_never_see_each_others_memory(server, path):
    n = 24
    for _ in range(3):
        for i, answer in enumerate(overlap(server.port(), path, n, [(k * 7 + 3) % n for k in range(n)])):
            assert (answer.status, answer.get("x-kept"), answer.get("x-before"), answer.get("x-streams")) == (200, f"secret-{i:03d}", "0", "1")


def test_without_isolation_secrets_are_seen(server):
    """That the test above can fail."""
    answers = overlap(server.port(), "/shared", 4, [0, 1, 2, 3])
    assert [a.get("x-kept") for a in answers] == ["secret-003"] * 4
    assert [a.get("x-streams") for a in answers] == ["4"] * 4


def test_a_trap_costs_one_request(server):
    port = server.port()
    for _ in range(5):
        connection = http1.Connection(port)
        connection.send_request("POST", "/request", [("x-secret", "calm")], length=4)
        assert http1.get(port, "/request", [("x-secret", "die")]).status == 500
        connection.send(b"body")
        answer = connection.read_response()
        assert (answer.status, answer.get("x-kept"), answer.get("x-before")) == (200, "calm", "0")
        connection.close()
        answer = http1.get(port, "/request")
        assert (answer.status, answer.get("x-kept"), answer.get("x-before"), answer.get("x-streams")) == (200, "", "0", "1")
    assert len(server.log_lines("trap in proxy_on_request_headers")) == 5


def test_ticks_are_the_plugins_and_its_state_lasts(server):
    def ticks():
        return [int(n) for n in re.findall(r"tick number (\d+)", server.log())]

    seen = wait_for(lambda: ticks()[4:], "ticks")
    assert http1.get(server.port(), "/tick").get("x-streams") == "1"
    wait_for(lambda: len(ticks()) > len(seen) + 8, "ticks after a request")
    numbers = ticks()
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_guest_is_told_before_each_request(server):
    assert [http1.get(server.port(), "/request").get("x-resets") for _ in range(3)] == ["1", "1", "1"]
    assert http1.get(server.port(), "/shared").get("x-resets") == "0"


def test_filter_means_an_instance_for_each_entry(server):
    port = server.port()
    for path in ("/one", "/two"):
        assert [http1.get(port, path).get("x-counter") for _ in range(2)] == ["1", "2"]
        assert http1.get(port, path).get("x-roots") == "1"
    assert [http1.get(port, path).get("x-counter") for path in ("/three", "/four")] == ["1", "2"]
    assert http1.get(port, "/four").get("x-roots") == "2"


def test_the_log_says_how_written_pages_are_found(server):
    words = r"written pages are found by (write protection|PAGEMAP_SCAN|/proc/self/pagemap)"
    wait_for(lambda: re.search(words, server.log() + server.errors()), "the worker says how")


@pytest.mark.parametrize("language", LANGUAGES)
def test_real_filters_work_request_by_request(nginx, language):
    """On the sanitized nginx every byte of their memory is compared with the image after each request."""
    nginx.workers = 2
    nginx.start(
        "server { listen 127.0.0.1:@PORT@; proxy_wasm_isolation request; proxy_wasm f; location / { return 200 fine; } }",
        wasm=f"module f {filter_path(f'my-{language}-filter')};",
    )
    for _ in range(40):
        answer = http1.get(nginx.port(), "/", [("x-filler", "y" * 3000)])
        assert answer.status == 200 and answer.get("x-greeting")


def test_an_entry_of_a_chain_in_the_gateway(origin_server):
    with folder() as path:
        install(path / "filters", "secret", "counter")
        gateway = Gateway(path, one_service(origin_server.url), workers=2)
        with gateway.start():
            service = {"name": "s", "url": origin_server.url, "routes": [{"name": "r", "paths": ["/"]}]}
            service["filter_chains"] = [chain({"name": "secret", "isolation": "request"})]
            entities = gateway.configure(document(service))
            (entry,) = entities["filter_chains"].values()
            assert entry["filters"][0]["isolation"] == "request"
            for i in range(20):
                answer = gateway.get("/", [("x-secret", f"s{i}")])
                assert (answer.status, answer.get("x-kept"), answer.get("x-before"), answer.get("x-streams")) == (200, f"s{i}", "0", "1")
            images = list((gateway.prefix / "state/images").glob("*.image"))
            assert len(images) == 1  # both workers' memory was the same after configure: one file
            assert json.dumps([oct(i.stat().st_mode & 0o777) for i in images]) == '["0o600"]'
