"""Taking over a new generation: the plan in service cannot be damaged, the event loop is not held, memory does not grow."""

import json
import os
import re
import statistics
import threading

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import Gateway, chain, document, folder, install, one_service, origin_server, wait_for  # noqa: F401
from support import http1

SANITIZED = os.environ.get("SLUICE_TEST_NGINX") == "asan"
MANY = 2000 if SANITIZED else 20000


def routes(n, stamp=0):
    return [{"name": f"r{i}", "paths": [f"/api/v{i % 7}/item-{i}"], "tags": [f"t{stamp}"]} for i in range(n)]


def many(url, n, stamp=0, *filters):
    service = {"name": "s", "url": url, "routes": routes(n, stamp)}
    if filters:
        service["filter_chains"] = [chain(*filters)]
    return document(service)


def metric(gateway, name):
    found = re.search(rf"^{name} (\S+)$", gateway.get_admin("/metrics").text, re.M)
    assert found, name
    return float(found[1])


def plan_maps(pid):
    """inode of every plan that a process has mapped"""
    return [line.split()[4] for line in open(f"/proc/{pid}/maps") if "sluice-plan" in line]


def holds(gateway):
    """Switches that held a worker, by the time that it computed: on a machine with other work, the clock on the wall says nothing."""
    return [int(us) for us in re.findall(r"a switch held this worker for \d+ us, (\d+) of them computing", gateway.log())]


def test_a_plan_file_that_is_cut_short_and_overwritten_does_not_reach_the_workers(origin_server):
    with folder() as path:
        with Gateway(path, many(origin_server.url, 500), workers=2).start() as gateway:
            plan = gateway.prefix / "state/plan"
            size = plan.stat().st_size
            with open(plan, "r+b") as f:
                f.truncate(4096)
                f.write(os.urandom(4096))
            for i in range(0, 500, 7):
                assert gateway.get(f"/api/v{i % 7}/item-{i}").status == 200
            assert size > 4096
            # The next one is good again.
            gateway.configure(many(origin_server.url, 501))
            assert gateway.get("/api/v3/item-500").status == 200


def test_all_workers_share_the_memory_of_the_plan(origin_server):
    with folder() as path:
        with Gateway(path, many(origin_server.url, 500), workers=3).start() as gateway:
            pids = wait_for(lambda: gateway.workers() if len(gateway.workers()) == 3 else None, "three workers")
            wait_for(lambda: all(plan_maps(p) for p in pids), "a plan in each")
            for n in (600, 700):
                gateway.configure(many(origin_server.url, n))
                wait_for(lambda: {len(plan_maps(p)) for p in pids} == {1} and len({plan_maps(p)[0] for p in pids}) == 1, "one plan in all")


def test_requests_are_served_while_a_large_plan_is_taken_over(origin_server):
    with folder() as path:
        install(path / "filters", "probe")
        with Gateway(path, many(origin_server.url, MANY, 0, ("probe", "")), workers=2).start() as gateway:
            stop, seen = threading.Event(), []

            def ask():
                with http1.Connection(gateway.proxy) as c:
                    while not stop.is_set():
                        c.send_request("GET", "/api/v3/item-3")
                        status = c.read_response().status
                        seen.append(status)

            clients = [threading.Thread(target=ask) for _ in range(2)]
            for t in clients:
                t.start()
            try:
                for stamp in range(1, 4):
                    gateway.configure(many(origin_server.url, MANY, stamp, ("probe", "")))
            finally:
                stop.set()
                for t in clients:
                    t.join()
            assert set(seen) == {200}
            wait_for(lambda: metric(gateway, "sluice_switches_total") >= 2 * 4, "both workers took all over")
            assert metric(gateway, "sluice_switches_refused_total") == 0
            if not SANITIZED:
                assert [us for us in holds(gateway) if us > 5000] == []


def test_a_filter_that_takes_long_to_start_is_named(origin_server):
    with folder() as path:
        install(path / "filters", "probe")
        with Gateway(path, one_service(origin_server.url, ("probe", "")), workers=1).start() as gateway:
            assert holds(gateway) == []
            before = metric(gateway, "sluice_switch_holds_total")
            gateway.configure(one_service(origin_server.url, ("probe", "configure: wait 20")))
            gateway.wait_log("the start of filter probe")
            assert metric(gateway, "sluice_switch_holds_total") > before
            assert metric(gateway, "sluice_switch_longest_hold_seconds") > 0.005


# ---- with a store ---------------------------------------------------------------------------------------------------------


def private_kib(pid):
    """What a process has for itself alone."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", f.read(), re.M))


def stored(path, url, n, **settings):
    """A gateway with a store that has n routes of one service."""
    gateway = Gateway(path, workers=2, database="sqlite", declarative_config=None, **settings)
    file = path / "document.json"
    file.write_text(json.dumps(many(url, n)))
    file.chmod(0o644)
    done = gateway.run("config", "db_import", file, timeout=60 + n / 200)
    assert done.returncode == 0, done.stderr
    return gateway.start()


def patch(gateway, route, **fields):
    answer = http1.request(gateway.admin, "PATCH", f"/routes/{route}", [("Content-Type", "application/json")], json.dumps(fields).encode(), timeout=60)
    assert answer.status == 200, answer.text


def check_memory(origin, switches, n):
    with folder() as path:
        with stored(path, origin.url, n) as gateway:
            used = []
            for i in range(switches):
                patch(gateway, f"r{i % 50}", paths=[f"/other-{i}"])
                assert gateway.get(f"/other-{i}").status == 200
                used.append(sum(private_kib(p) for p in gateway.workers()))
            # The first ones fill caches of the allocator, in every thread of the pools.
            early, late = statistics.median(used[switches // 4 : switches // 2]), statistics.median(used[-switches // 4 :])
            assert late < early * 1.1 + 4096, used
            wait_for(lambda: all(len(plan_maps(p)) == 1 for p in gateway.workers()), "plans of before are gone")


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what was freed")
def test_switching_leaves_the_memory_of_workers_flat(origin_server):
    check_memory(origin_server, 60, 2000)


@pytest.mark.soak
@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what was freed")
def test_switching_a_hundred_times_at_20000_routes_leaves_the_memory_of_workers_flat(origin_server):
    check_memory(origin_server, 100, 20000)


def check_writes(origin, n):
    """Each write is served by all workers when it is answered, and no switch held a worker."""
    with folder() as path:
        with stored(path, origin.url, n) as gateway:
            for i in range(6):
                patch(gateway, f"r{i}", paths=[f"/other-{i}"])
                for _ in range(4):
                    assert gateway.get(f"/other-{i}").status == 200
                    assert gateway.get(f"/api/v{i % 7}/item-{i}").status == 404
            last = n - 1
            assert gateway.get(f"/api/v{last % 7}/item-{last}").status == 200
            if not SANITIZED:
                assert [us for us in holds(gateway) if us > 5000] == []


def test_writes_over_many_routes_are_served_and_hold_no_worker(origin_server):
    check_writes(origin_server, MANY)


@pytest.mark.soak
def test_writes_over_100000_routes_are_served_and_hold_no_worker(origin_server):
    check_writes(origin_server, 100000)


def pages(gateway, path):
    entities, n = [], 0
    while path is not None:
        page = json.loads(gateway.get_admin(path).body)
        entities += page["data"]
        path = page["next"]
        n += 1
    return entities, n


@pytest.mark.parametrize("database", ["sqlite", "off"])
def test_lists_of_children_and_by_tag_have_the_right_entities_in_pages(origin_server, database):
    services = [
        {
            "name": f"s{k}",
            "url": origin_server.url,
            "routes": [{"name": f"r{k}-{i}", "paths": [f"/{k}/{i}"], "tags": [f"third-{i % 3}", f"half-{i % 2}"]} for i in range(40)],
        }
        for k in range(3)
    ]
    with folder() as path:
        gateway = Gateway(path, document(*services), workers=1, **({} if database == "off" else {"database": database, "declarative_config": None}))
        if database != "off":
            done = gateway.run("config", "db_import", path / "kong.yml")
            assert done.returncode == 0, done.stderr
        with gateway.start():
            children, n = pages(gateway, "/services/s1/routes?size=7")
            assert sorted(r["name"] for r in children) == sorted(f"r1-{i}" for i in range(40)) and n == 6
            both, _ = pages(gateway, "/routes?tags=third-0,half-1&size=5")
            assert sorted(r["name"] for r in both) == sorted(f"r{k}-{i}" for k in range(3) for i in range(40) if i % 3 == 0 and i % 2 == 1)
            either, _ = pages(gateway, "/routes?tags=third-0/half-1&size=5")
            assert sorted(r["name"] for r in either) == sorted(f"r{k}-{i}" for k in range(3) for i in range(40) if i % 3 == 0 or i % 2 == 1)
            assert [r["id"] for r in either] == sorted(r["id"] for r in either)
            none, _ = pages(gateway, "/routes?tags=nobody")
            assert none == []
