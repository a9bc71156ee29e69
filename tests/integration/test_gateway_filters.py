"""Filters of services and routes in a running gateway: who runs, in which order, with which bytes, and what a bad one does."""

import json
import os
import stat

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import FLAVOR, IS_ROOT, TlsHttp2, Gateway, chain, document, echoed, folder, free_port, home, install, one_service, origin, origin_server, payload, wait_for  # noqa: F401
from support import http1


@pytest.fixture(scope="module")
def gateway(origin_server):
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe", "trap_all", "counter", "recursion", "membomb", "trap_start")
        gateway = Gateway(path, one_service(origin_server.url), workers=1)
        gateway.tls = free_port()
        gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{gateway.tls} ssl http2"
        with gateway.start():
            yield gateway


def probe(*lines, **more):
    return {"name": "probe", "config": "\n".join(("quiet", *lines)), **more}


def mark(text, **more):
    return probe(f"request_headers: add x-seen {text}", f"response_headers: add x-seen {text}", **more)


def both(origin, service_chain, route_chain, *routes):
    service = {"name": "s", "url": origin.url, "routes": [{"name": "r", "paths": ["/"]}, *routes]}
    if service_chain:
        service["filter_chains"] = [service_chain]
    if route_chain:
        service["routes"][0]["filter_chains"] = [route_chain]
    return document(service)


def seen(response):
    """The marks of the request, and those of the response."""
    request = [v for n, v in echoed(response)["all"] if n == "x-seen"]
    return ", ".join(request).split(", "), ", ".join(response.all("x-seen")).split(", ")


# ---- who runs, and when -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service, route, order",
    [
        (chain(mark("s1"), mark("s2")), chain(mark("r1"), mark("r2")), ["s1", "s2", "r1", "r2"]),
        (chain(mark("s1")), None, ["s1"]),
        (None, chain(mark("r1")), ["r1"]),
        (None, None, [""]),
        (chain(mark("s1"), enabled=False), chain(mark("r1")), ["r1"]),
        (chain(mark("s1")), chain(mark("r1"), enabled=False), ["s1"]),
        (chain(mark("s1"), enabled=False), chain(mark("r1"), enabled=False), [""]),
        (chain(mark("s1", enabled=False), mark("s2")), chain(mark("r1"), mark("r2", enabled=False)), ["s2", "r1"]),
        (chain(mark("s1", enabled=False)), chain(mark("r1")), ["r1"]),
        (chain(mark("same")), chain(mark("same"), mark("same")), ["same", "same", "same"]),
    ],
)
def test_filters_run_in_configuration_order_in_both_directions(gateway, origin, service, route, order):
    gateway.configure(both(origin, service, route))
    assert seen(gateway.get("/")) == (order, order)


def test_chains_at_the_top_level_name_their_owner(gateway, origin):
    doc = both(origin, None, None)
    doc["filter_chains"] = [chain(mark("r"), route="r", name="of-route"), chain(mark("s"), service={"name": "s"}, name="of-service")]
    gateway.configure(doc)
    assert seen(gateway.get("/")) == (["s", "r"], ["s", "r"])


def test_each_route_has_its_own_chain_and_the_services(gateway, origin):
    other = {"name": "other", "paths": ["/other"], "filter_chains": [chain(mark("o"))]}
    bare = {"name": "bare", "paths": ["/bare"]}
    gateway.configure(both(origin, chain(mark("s")), chain(mark("r")), other, bare))
    assert seen(gateway.get("/"))[0] == ["s", "r"]
    assert seen(gateway.get("/other"))[0] == ["s", "o"]
    assert seen(gateway.get("/bare"))[0] == ["s"]


def test_one_filter_twice_has_two_configurations(gateway, origin):
    first, second = ({"name": "my-c-filter", "config": json.dumps({"my_greeting": g})} for g in ("one", "two"))
    gateway.configure(both(origin, chain(first), chain(second)))
    # each of them replaces the header: the second one had the last word
    assert gateway.get("/").all("x-greeting") == ["two"]


def test_requests_without_a_route_or_service_meet_no_filter(gateway, origin):
    doc = {"_format_version": "3.0", "routes": [{"name": "alone", "paths": ["/alone"], "filter_chains": [chain(mark("r"))]}]}
    gateway.configure(doc)
    assert gateway.get("/alone").status == 503 and gateway.get("/alone").get("x-seen") is None
    assert gateway.get("/nothing").status == 404 and gateway.get("/nothing").get("x-seen") is None


def test_a_redirect_to_https_meets_no_filter(gateway, origin):
    doc = both(origin, chain(mark("s")), None)
    doc["services"][0]["routes"][0]["protocols"] = ["https"]
    gateway.configure(doc)
    response = gateway.get("/")
    assert response.status == 426 and response.get("x-seen") is None


# ---- configuration bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "my_greeting": "Hello"\n}',
        '{ "a" : [1,  2.50,1e3], "b":"\\u00e9\\/é" , "a" : null }',
        "# not JSON at all; 日本語 \x7f",
        "  leading and trailing  \n\n",
        "#" + "x" * 60000,
    ],
)
def test_a_configuration_is_kept_byte_for_byte(gateway, origin, text):
    entities = gateway.configure(both(origin, None, chain({"name": "counter", "config": text})))
    (entry,) = entities["filter_chains"].values()
    assert entry["filters"][0]["config"] == text
    listed = json.loads(gateway.get_admin("/routes/r/filters/enabled").body)["filters"]
    assert listed[0]["config"] == text


@pytest.mark.parametrize("tail", ['{\n  "k": [1,  2.50], "é": "\\u00e9"\n}', "  blanks  \n\n", "ü\t-"])
def test_the_filter_reads_exactly_what_was_written(gateway, origin, tail):
    lines = "quiet\nresponse_headers: buffer@plugin 0 65536\nresponse_headers: add x-hex $hex\n# "
    text = lines + tail.replace("\n", "\n# ").replace(";", ",")
    gateway.configure(both(origin, None, chain({"name": "probe", "config": text})))
    assert bytes.fromhex(gateway.get("/").get("x-hex")) == text.encode()


def test_json_in_a_yaml_string_is_passed_as_it_is(gateway, origin):
    """The form of the example: a folded block, which YAML joins by its own rules, and nothing else touches."""
    text = f"""_format_version: '3.0'
services:
- name: s
  url: {origin.url}
  routes:
  - name: r
    paths: ["/"]
    filter_chains:
    - filters:
      - name: my-c-filter
        config: >-
          {{
            "my_greeting":   "Hello   from \\u0059AML"
          }}
"""
    assert gateway.post_config(text, "text/yaml").status == 201
    listed = json.loads(gateway.get_admin("/routes/r/filters/enabled").body)["filters"]
    assert listed[0]["config"] == '{\n  "my_greeting":   "Hello   from \\u0059AML"\n}'
    assert gateway.get("/").get("x-greeting") == "Hello   from YAML"


def test_no_configuration_is_empty(gateway, origin):
    gateway.configure(both(origin, None, chain({"name": "probe", "config": None}, mark("after"))))
    assert seen(gateway.get("/"))[0] == ["after"]


def test_a_schema_beside_the_filter_allows_and_checks_json(home, origin):
    install(home / "filters", "probe")
    schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    (home / "filters/probe.meta.json").write_text(json.dumps({"config_schema": schema}))
    (home / "filters/probe.meta.json").chmod(0o644)
    with Gateway(home, one_service(origin.url)).start() as gateway:
        bad = gateway.post_config(one_service(origin.url, ("probe", {"x": 1})))
        assert bad.status == 400 and "property x validation failed: wrong type: expected string, got" in bad.text
        assert gateway.post_config(one_service(origin.url, ("probe", None))).status == 400
        shown = json.loads(gateway.get_admin("/schemas/filters/probe").body)
        assert shown["required"] == ["x"] and shown["$schema"].startswith("http://json-schema.org/draft-04/schema")
        assert gateway.get_admin("/schemas/filters/nothing").status == 404


# ---- what filters may do -------------------------------------------------------------------------------------------------------------


def test_a_filter_may_answer_itself(gateway, origin):
    reply = probe("request_headers?x-mode=deny: reply 403 denied x-why=policy")
    gateway.configure(both(origin, chain(mark("before")), chain(reply, mark("after"))))
    response = gateway.get("/", [("x-mode", "deny")])
    assert (response.status, response.body, response.get("x-why")) == (403, b"denied", "policy")
    assert response.get("via") is None and response.get("x-kong-response-latency") is not None
    assert response.get("x-kong-request-id")
    assert not origin.seen
    assert gateway.get("/").status == 200


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers"])
def test_a_local_reply_works_from_each_phase(gateway, origin, phase):
    gateway.configure(both(origin, None, chain(probe(f"{phase}: reply 418 teapot"))))
    response = gateway.request("POST", "/", body=b"body")
    assert (response.status, response.body) == (418, b"teapot")
    gateway.configure(both(origin, None, None))


def test_bodies_can_be_replaced_in_both_directions(gateway, origin):
    lines = [
        "request_headers: remove content-length",
        "request_body: pause_until_eos",
        "request_body@eos: upper",
        "response_headers: remove content-length",
        "response_body: pause_until_eos",
        "response_body@eos: append  and more",
    ]
    gateway.configure(both(origin, None, chain(probe(*lines))))
    response = gateway.request("POST", "/", body=b"small")
    assert response.body.endswith(b"and more")
    assert json.loads(response.body[: response.body.rindex(b"}") + 1])["body"] == "SMALL"


def test_large_bodies_stream_through_filters(gateway, origin):
    gateway.configure(both(origin, chain(mark("s")), chain(mark("r"))))
    body = payload(3_000_000)
    assert echoed(gateway.request("POST", "/", body=body))["length"] == len(body)
    assert gateway.get("/bytes/3000000").body == body


def test_filters_work_over_http2(gateway, origin):
    gateway.configure(both(origin, chain(mark("s")), chain(mark("r"))))
    with TlsHttp2(gateway.tls) as c:
        response = c.finish(c.send_headers("GET", "/x"))
    assert response.status == 200 and ", ".join(response.all("x-seen")) == "s, r"


def test_a_changed_path_chooses_the_route_anew_and_keeps_its_filters(gateway, origin):
    doc = both(origin, None, chain(mark("first"), probe("request_headers: set :path /second/x?q=1")))
    doc["services"].append({"name": "t", "url": origin.url + "/base", "routes": [{"name": "second", "paths": ["/second"], "filter_chains": [chain(mark("no"))]}]})
    gateway.configure(doc)
    response = gateway.get("/first")
    assert echoed(response)["path"] == "/base/x?q=1"
    assert seen(response)[1] == ["first"]


@pytest.mark.parametrize("name, value", [("kong.route_name", "r"), ("kong.service_name", "s")])
def test_filters_read_properties_of_the_gateway(gateway, origin, name, value):
    gateway.configure(both(origin, None, chain(probe(f"response_headers: prop {name} x-value"))))
    assert gateway.get("/").get("x-value") == value


def test_filters_see_the_502_of_an_upstream_that_is_gone(gateway, origin):
    gateway.configure(one_service(f"http://127.0.0.1:{free_port()}", ("probe", "quiet\nresponse_headers: add x-seen yes")))
    response = gateway.get("/")
    assert response.status == 502 and response.get("x-seen") == "yes"


# ---- bad filters -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["request_headers", "request_body", "response_headers", "context_create"])
def test_a_trap_is_500_and_the_next_request_is_served(gateway, origin, where):
    before = gateway.log().count("trap_all")
    gateway.configure(both(origin, None, chain({"name": "trap_all", "config": f"{where} x-trap" if where != "context_create" else where})))
    response = gateway.request("POST", "/", [("x-trap", "1"), ("Accept", "application/json")], b"body")
    assert response.status == 500
    assert json.loads(response.body)["message"] == "An unexpected error occurred"
    if where != "context_create":
        for _ in range(3):
            assert gateway.request("POST", "/", body=b"body").status == 200
    # the log names the filter, the callback and where
    log = wait_for(lambda: gateway.log() if gateway.log().count("trap_all") > before else None, "a line of the log")
    assert "unreachable" in log
    assert f"proxy_on_{where}" in log
    gateway.configure(both(origin, None, None))
    assert gateway.get("/").status == 200


def test_a_trap_costs_the_other_filters_of_the_worker_nothing(gateway, origin):
    bad = {"name": "bad", "paths": ["/bad"], "filter_chains": [chain({"name": "trap_all", "config": "request_headers"})]}
    gateway.configure(both(origin, chain(mark("s")), chain(mark("r")), bad))
    with http1.Connection(gateway.proxy) as c:
        for _ in range(5):
            assert gateway.get("/bad").status == 500
            c.send_request("GET", "/x")
            assert seen(c.read_response())[0] == ["s", "r"]


@pytest.mark.parametrize("line", ["request_headers: recurse", "request_headers: oob", "request_headers: div0", "request_headers: exit 3"])
def test_other_ways_to_end_badly_are_500_too(gateway, origin, line):
    gateway.configure(both(origin, None, chain(probe(line))))
    assert gateway.get("/").status == 500
    gateway.configure(both(origin, None, None))
    assert gateway.get("/").status == 200


def test_a_filter_that_traps_at_its_start_refuses_the_configuration(gateway, origin):
    gateway.configure(both(origin, None, None))
    answer = gateway.post_config(both(origin, None, chain({"name": "trap_start", "config": None})))
    assert answer.status == 400 and "trap_start" in answer.text
    answer = gateway.post_config(both(origin, None, chain({"name": "trap_all", "config": "configure"})))
    assert answer.status == 400 and "trap_all" in answer.text
    assert gateway.get("/").status == 200


# ---- lives ---------------------------------------------------------------------------------------------------------------------------------


def test_a_filter_that_did_not_change_goes_on_running(gateway, origin):
    keep = {"name": "probe", "config": "quiet\nconfigure: log kept-filter-started\nrequest_headers: add x-seen k"}
    gateway.configure(both(origin, chain(keep), chain(mark("one"))))
    started = gateway.log().count("kept-filter-started")
    for i in range(3):
        gateway.configure(both(origin, chain(keep), chain(mark(f"next-{i}"))))
        assert seen(gateway.get("/"))[0] == ["k", f"next-{i}"]
    # once per replacement on the canary, which logs nowhere; in the worker not again
    assert gateway.log().count("kept-filter-started") == started
    gateway.configure(both(origin, chain({**keep, "config": keep["config"] + "\n# changed"}), None))
    gateway.get("/")
    assert gateway.log().count("kept-filter-started") == started + 1


@pytest.mark.skipif(FLAVOR == "asan", reason="AddressSanitizer keeps what was freed")
def test_many_configurations_leave_nothing_behind(gateway, origin):
    gateway.configure(both(origin, None, None))

    def rss():
        (pid,) = gateway.workers()
        with open(f"/proc/{pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def turn(i):
        gateway.configure(both(origin, chain(mark(f"s{i}")), chain(mark(f"r{i}"), mark(f"t{i}"))))
        gateway.get("/")

    for i in range(10):
        turn(i)
    before = rss()
    for i in range(10, 60):
        turn(i)
    assert rss() - before < 16 * 1024 * 1024


# ---- files -----------------------------------------------------------------------------------------------------------------------------------


def cache_files(gateway):
    """Without the lock, which is empty."""
    return sorted(p for p in (gateway.prefix / "state/cache").rglob("*") if p.is_file() and p.stat().st_size)


def test_state_belongs_to_the_worker_user_alone(home, origin):
    install(home / "filters", "my-c-filter")
    with Gateway(home, one_service(origin.url, ("my-c-filter", '{"my_greeting": "x"}'))).start() as gateway:
        gateway.configure(one_service(origin.url, ("my-c-filter", '{"my_greeting": "y"}')))
        state = gateway.prefix / "state"
        uids = {os.stat(f"/proc/{pid}").st_uid for pid in gateway.workers()}
        paths = [state, *state.rglob("*")]
        assert cache_files(gateway) and (state / "plan").exists()
        for path in paths:
            info = path.stat()
            assert {info.st_uid} == uids, path
            assert stat.S_IMODE(info.st_mode) & 0o077 == 0, (path, oct(info.st_mode))
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        if IS_ROOT:
            # what the master reads, no worker can write
            for name in ("nginx.conf", "sluice.json", ".sluice_env", "node.id", "."):
                info = (gateway.prefix / name).stat()
                assert info.st_uid == 0 and not info.st_mode & 0o022, name


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "open to all"])
def test_a_damaged_cache_file_is_rebuilt_and_never_trusted(home, origin, damage):
    install(home / "filters", "my-c-filter", "probe")
    gateway = Gateway(home, one_service(origin.url, ("my-c-filter", '{"my_greeting": "x"}')))
    with gateway.start():
        assert gateway.get("/").get("x-greeting") == "x"
    files = cache_files(gateway)
    sound = {path: path.read_bytes() for path in files}
    for path, data in sound.items():
        middle = len(data) // 2
        damaged = {
            "cut": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "empty": b"",
            "foreign": b"\x7fELF" + b"\x00" * 5000,
            "open to all": data,
        }[damage]
        path.write_bytes(damaged)
        if damage == "open to all":
            path.chmod(0o666)
    with gateway.start():
        assert gateway.get("/").get("x-greeting") == "x"
        for path in files:
            assert path.read_bytes() != damaged or damage == "open to all"
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_plan_is_not_served(home, origin, damage):
    install(home / "filters", "my-c-filter")
    with Gateway(home, one_service(origin.url, ("my-c-filter", '{"my_greeting": "x"}'))).start() as gateway:
        gateway.allowed += ["exited on signal 9"]
        plan = gateway.prefix / "state/plan"
        data = plan.read_bytes()
        middle = len(data) // 2
        bad = {"cut": data[:middle], "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], "empty": b"", "foreign": b"\x00" * 4096}[damage]
        # as a writer would: by rename, so that what is mapped stays
        new = plan.with_suffix(".new")
        new.write_bytes(bad)
        os.chown(new, plan.stat().st_uid, plan.stat().st_gid)
        new.rename(plan)
        assert gateway.get("/").status == 200
        (old,) = gateway.workers()
        os.kill(old, 9)
        wait_for(lambda: gateway.workers() not in ([], [old]), "a new worker")
        wait_for(gateway.ready, "ready")
        # what the workers before it shared is as good as it was
        assert gateway.get("/").get("x-greeting") == "x"
        # a new configuration heals it
        gateway.configure(one_service(origin.url, ("my-c-filter", '{"my_greeting": "y"}')))
        assert gateway.get("/").get("x-greeting") == "y"


def test_a_filter_file_that_goes_away_does_not_stop_what_runs(home, origin):
    install(home / "filters", "my-c-filter", "probe")
    doc = one_service(origin.url, ("my-c-filter", '{"my_greeting": "x"}'))
    with Gateway(home, doc).start() as gateway:
        (home / "filters/my-c-filter.wasm").unlink()
        assert gateway.get("/").get("x-greeting") == "x"
        answer = gateway.post_config(doc)
        assert answer.status == 400 and "no such filter" in answer.text
        assert gateway.get("/").get("x-greeting") == "x"
