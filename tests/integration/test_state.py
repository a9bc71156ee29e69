"""Shared data, queues and metrics through nginx with several workers: exact totals, nothing lost, all of it across reloads."""

import itertools
import os
import re
import signal
import threading

import pytest

from support import http1, probe
from support.nginx import wait_for

PID = "add_header x-pid $pid always;"


@pytest.fixture
def start(nginx):
    """Starts nginx with some workers and locations: a dictionary of path and lines of the probe, or the lines of `/`."""

    def go(*lines, locations=None, workers=3, wasm="", vm=None):
        nginx.workers = workers
        locations = locations or {"/": lines}
        inside = "".join(
            f"location {path} {{ {PID} {probe.use(*more, probe.EXEC)} return 200 ok; }}\n" for path, more in locations.items()
        )
        inside += "location = /metrics { sluice_metrics; }"
        nginx.start(f"server {{ listen 127.0.0.1:@PORT@ reuseport; {inside} }}", wasm=probe.module(config=vm) + wasm)
        return nginx

    return go


def run(nginx, *lines, path="/"):
    response = http1.get(nginx.port(), path, probe.do(*(f"response_headers: {line}" for line in lines)))
    assert response.status == 200, response
    return response


def on_each_worker(nginx, *lines, path="/"):
    """The response of each worker."""
    seen = {}
    for _ in range(2000):
        response = run(nginx, *lines, path=path)
        seen[response.get("x-pid")] = response
        if len(seen) == nginx.workers:
            return seen
    raise AssertionError(f"only {len(seen)} workers were reached")


def hammer(nginx, clients, rounds, *lines):
    """All clients at once, each on connections of its own; answers how many workers took part."""
    pids, failures = set(), []

    def client():
        try:
            for _ in range(rounds):
                pids.add(run(nginx, *lines).get("x-pid"))
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return len(pids)


# ---- shared data ----


def test_what_one_worker_writes_all_read(start):
    nginx = start()
    run(nginx, "shared_set k value")
    for response in on_each_worker(nginx, "shared_get k x-v").values():
        assert response.get("x-v") == "value"


def test_cas_values_are_checked_across_workers(start):
    nginx = start()
    run(nginx, "shared_set k 1 4711")  # an absent key takes any
    cas = int(run(nginx, "shared_get k", "note x-cas $cas").get("x-cas"))
    assert cas != 0
    assert run(nginx, f"shared_set k 2 {cas + 1}", "status").get("x-status") == "8"
    assert run(nginx, f"shared_set k 2 {cas}", "status").get("x-status") == "0"
    for response in on_each_worker(nginx, f"shared_set k 3 {cas}", "status", "shared_get k x-v").values():
        assert (response.get("x-status"), response.get("x-v")) == ("8", "2")
    assert run(nginx, "shared_set k 4 0", "shared_get k x-v", "note x-cas $cas").get("x-cas") > str(cas)


def test_absent_keys_and_empty_values_differ(start):
    nginx = start()
    assert run(nginx, "shared_get none", "status").get("x-status") == "1"
    run(nginx, "shared_set empty \\e")
    response = run(nginx, "shared_get empty", "status", "note x-len $len")
    assert (response.get("x-status"), response.get("x-len")) == ("0", "0")


def test_shared_data_survives_a_reload(start):
    nginx = start()
    run(nginx, "shared_set k kept")
    cas = run(nginx, "shared_get k", "note x-cas $cas").get("x-cas")
    nginx.reload()
    response = run(nginx, "shared_get k x-v", "note x-cas $cas")
    assert (response.get("x-v"), response.get("x-cas")) == ("kept", cas)
    assert run(nginx, f"shared_set k new {cas}", "status").get("x-status") == "0"


def test_shared_data_survives_a_worker_that_is_killed(start):
    nginx = start(workers=2)
    nginx.allow("exited on signal 9")
    run(nginx, "shared_set k kept")
    victim = int(run(nginx, "status").get("x-pid"))
    os.kill(victim, signal.SIGKILL)
    nginx.wait_log(f"{victim} exited on signal 9")
    for response in on_each_worker(nginx, "shared_get k x-v").values():
        assert response.get("x-v") == "kept"


def test_a_full_zone_without_eviction_is_a_status(start):
    nginx = start(wasm="shm_kv * 12k eviction=none;")
    statuses = [run(nginx, f"shared_set k{i} {'v' * 1000}", "status").get("x-status") for i in range(12)]
    stored = statuses.count("0")
    assert 3 <= stored < 12
    assert statuses[stored:] == ["10"] * (12 - stored)
    assert run(nginx, "shared_get k0 x-v").get("x-v") == "v" * 1000
    nginx.wait_log('shared memory "kv:*" is full')


@pytest.mark.parametrize("policy", ["", "eviction=slru", "eviction=lru"])
def test_a_full_zone_evicts_what_was_not_used(start, policy):
    nginx = start(wasm=f"shm_kv * 12k {policy};")
    for i in range(30):
        assert run(nginx, f"shared_set k{i} {'v' * 500}", "status", "shared_get k0").get("x-status") == "0"
    assert run(nginx, "shared_get k0 x-v").get("x-v") == "v" * 500
    assert run(nginx, "shared_get k1", "status").get("x-status") == "1"
    assert run(nginx, "shared_get k29", "status").get("x-status") == "0"


def test_a_value_larger_than_the_zone_is_a_status_and_evicts_nothing(start):
    nginx = start("request_headers: shared_set small s", wasm="shm_kv * 12k;")
    big = "z" * 7000
    assert run(nginx, f"shared_set big {big}", "status").get("x-status") == "10"
    assert run(nginx, "shared_get small", "status").get("x-status") == "0"


def test_keys_with_the_name_of_a_zone_lie_in_it(start):
    nginx = start(wasm="shm_kv mine 12k eviction=none; shm_kv * 1m;")
    for i in range(12):
        run(nginx, f"shared_set mine/{i} {'v' * 1000}", "status")
    assert run(nginx, f"shared_set mine/x {'v' * 1000}", "status").get("x-status") == "10"
    assert run(nginx, f"shared_set other/x {'v' * 1000}", "status").get("x-status") == "0"
    assert run(nginx, "shared_get mine/0", "status").get("x-status") == "0"
    assert run(nginx, "shared_get 0", "status").get("x-status") == "1"


def test_increments_by_cas_from_all_workers_are_all_counted(start):
    nginx = start()
    run(nginx, "shared_set n 0")
    done, failures = [], []

    def client():
        try:
            for _ in range(40):
                while True:
                    response = run(nginx, "shared_get n x-n", "note x-cas $cas")
                    n, cas = int(response.get("x-n")), response.get("x-cas")
                    if run(nginx, f"shared_set n {n + 1} {cas}", "status").get("x-status") == "0":
                        done.append(1)
                        break
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert int(run(nginx, "shared_get n x-n").get("x-n")) == len(done) == 160


# ---- metrics ----


def metric(nginx, kind, name):
    return run(nginx, f"metric {kind} {name}", "metric_get x-m").get("x-m")


def test_counters_of_all_workers_are_exact(start):
    nginx = start("response_headers: metric counter c", "response_headers: metric_add 1")
    workers = hammer(nginx, 6, 100, "metric counter big", "metric_add 1000000007", "metric gauge g", "metric_add -3")
    assert workers == 3
    assert metric(nginx, "counter", "c") == "601"
    assert metric(nginx, "counter", "big") == str(600 * 1000000007)
    assert metric(nginx, "gauge", "g") == str(2**64 - 1800)
    for response in on_each_worker(nginx, "metric counter big", "metric_get x-m").values():
        assert response.get("x-m") == str(600 * 1000000007)


def test_a_gauge_is_what_was_recorded_last_by_any_worker(start):
    nginx = start()
    for value, response in enumerate(on_each_worker(nginx, "metric gauge g", "metric_record 1").values()):
        assert response.status == 200
        run(nginx, "metric gauge g", f"metric_record {value + 50}")
        assert metric(nginx, "gauge", "g") == str(value + 50)


def test_metrics_survive_a_reload(start):
    nginx = start("response_headers: metric counter c", "response_headers: metric_add 1", workers=2)
    hammer(nginx, 4, 25)
    nginx.workers = 4
    nginx.conf.write_text(nginx.conf.read_text().replace("worker_processes 2", "worker_processes 4"))
    nginx.reload()
    hammer(nginx, 4, 25)
    assert metric(nginx, "counter", "c") == "201"


def test_metrics_survive_a_worker_that_is_killed(start):
    nginx = start(workers=2)
    nginx.allow("exited on signal 9")
    victim = int(run(nginx, "metric counter c", "metric_add 5").get("x-pid"))
    os.kill(victim, signal.SIGKILL)
    nginx.wait_log(f"{victim} exited on signal 9")
    assert metric(nginx, "counter", "c") == "5"


def test_definitions_beyond_the_zone_are_a_status(start):
    nginx = start(wasm="metrics { slab_size 12k; }")
    statuses = []
    for i in range(40):
        lines = [f"metric counter m{i}_{j}" for j in range(5)]
        statuses += run(nginx, *lines, "note x-all $statuses").get("x-all").split(",")
    assert statuses.count("0") >= 10
    assert statuses[-1] == "10"
    assert run(nginx, "metric counter m0_0", "metric_add 3", "metric_get x-m").get("x-m") == "3"


def test_a_metric_with_too_long_a_name_is_refused(start):
    nginx = start(wasm="metrics { max_metric_name_length 20; }")
    assert run(nginx, "metric counter 12345678901", "status").get("x-status") == "0"
    assert run(nginx, "metric counter 123456789012", "status").get("x-status") == "2"


# ---- queues ----

LISTEN = ("configure: queue_register q", "queue_ready: dequeue")


def took(nginx):
    return re.findall(r" (\d+)#\d+: \[proxy-wasm\].*queue_ready: dequeue = 0 value=(\S+)", nginx.log())


def registrants(nginx, n):
    """The workers that listen, once there are so many. Which of them was the last cannot be told from the log."""

    def found():
        pids = re.findall(r" (\d+)#\d+: \[proxy-wasm\].*queue_register q = 0", nginx.log())
        return pids if len(pids) >= n else None

    return wait_for(found, "workers listen")


def test_the_worker_that_registered_last_gets_each_item_once(start):
    nginx = start(*LISTEN)
    listening = registrants(nginx, 3)
    for i, _ in enumerate(on_each_worker(nginx, "status")):
        for k in range(10):
            run(nginx, "queue_resolve \\e q", f"enqueue item-{i}-{k}")
    wait_for(lambda: len(took(nginx)) >= 30, "items are taken")
    assert len({pid for pid, _ in took(nginx)}) == 1 and took(nginx)[0][0] in listening
    assert [item for _, item in took(nginx)] == [f"item-{i}-{k}" for i in range(3) for k in range(10)]
    assert len(nginx.log_lines("on_queue_ready")) == 30


def test_all_workers_push_at_once_and_no_item_is_lost(start):
    nginx = start(*LISTEN)
    registrants(nginx, 3)
    hammer(nginx, 6, 50, "queue_resolve \\e q", *["enqueue item"] * 5)
    wait_for(lambda: len(took(nginx)) >= 1500, "items are taken")
    assert len(nginx.log_lines("on_queue_ready")) == 1500
    assert len({pid for pid, _ in took(nginx)}) == 1


def test_a_queue_that_nobody_registered_is_not_found(start):
    nginx = start()
    assert run(nginx, "queue_resolve \\e none", "status").get("x-status") == "1"
    assert run(nginx, "enqueue@4711 x", "status").get("x-status") == "1"
    assert run(nginx, "dequeue@4711", "status").get("x-status") == "1"
    assert run(nginx, "queue_register q", "dequeue", "status").get("x-status") == "7"


def test_items_survive_a_reload_and_the_new_workers_listen(start):
    nginx = start("configure: queue_register q", workers=2)
    old = registrants(nginx, 2)
    run(nginx, "queue_resolve \\e q", "enqueue first", "enqueue second")
    wait_for(lambda: len(nginx.log_lines("on_queue_ready")) == 2, "the first are told")
    nginx.reload()
    new = registrants(nginx, 4)[2:]
    run(nginx, "queue_resolve \\e q", "enqueue third")
    wait_for(lambda: len(nginx.log_lines("on_queue_ready")) == 3, "the third is told")
    teller = re.search(r" (\d+)#", nginx.log_lines("on_queue_ready")[-1])[1]
    assert teller in new and teller not in old
    response = run(nginx, "queue_resolve \\e q", "dequeue x-1", "dequeue x-2", "dequeue x-3", "dequeue", "status")
    assert [response.get(f"x-{i}") for i in (1, 2, 3)] == ["first", "second", "third"]
    assert response.get("x-status") == "7"


def test_when_the_listening_worker_is_killed_its_successor_gets_the_items(start):
    nginx = start(*LISTEN, workers=2)
    nginx.allow("exited on signal 9")
    registrants(nginx, 2)
    run(nginx, "queue_resolve \\e q", "enqueue before")
    listener = wait_for(lambda: took(nginx), "the item is taken")[0][0]
    os.kill(int(listener), signal.SIGKILL)
    nginx.wait_log(f"{listener} exited on signal 9")
    registrants(nginx, 3)
    run(nginx, "queue_resolve \\e q", "enqueue after")
    wait_for(lambda: len(took(nginx)) == 2, "the item is taken")
    assert took(nginx)[1][1] == "after" and took(nginx)[1][0] != listener


def test_a_full_queue_is_a_status(start):
    nginx = start(locations={"/": ("configure: queue_register small",)}, wasm="shm_queue small 12k;")
    item = "i" * 1000
    statuses = [run(nginx, "queue_resolve \\e small", f"enqueue {item}", "status").get("x-status") for _ in range(12)]
    stored = statuses.count("0")
    assert 3 <= stored < 12
    assert statuses[stored:] == ["10"] * (12 - stored)
    assert run(nginx, "queue_resolve \\e small", "dequeue x-i", f"enqueue {item}", "status").get("x-status") == "0"


def test_a_queue_of_others_is_not_reached_by_guessing_its_id(nginx):
    nginx.workers = 1
    inside = "".join(
        f"location /{vm} {{ proxy_wasm_vm_id {vm}; {probe.use(*lines, probe.EXEC)} return 200 ok; }}\n"
        for vm, lines in (("a", ("configure: queue_register q",)), ("b", ()))
    )
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {inside} }}", wasm=probe.module())
    run(nginx, "queue_resolve \\e q", "enqueue item", path="/a")
    for token in range(1, 6):
        assert run(nginx, f"dequeue@{token}", "status", path="/b").get("x-status") == "1"
        assert run(nginx, f"enqueue@{token} x", "status", path="/b").get("x-status") == "1"
    assert run(nginx, "queue_resolve a q", "dequeue x-item", path="/b").get("x-item") == "item"


def test_a_listener_may_push_to_its_own_queue(start):
    lines = ("configure: queue_register q", "queue_ready: dequeue", "queue_ready: if $value again enqueue more")
    nginx = start(*lines)
    run(nginx, "queue_resolve \\e q", "enqueue again")
    wait_for(lambda: len(took(nginx)) == 2, "both are taken")
    assert [item for _, item in took(nginx)] == ["again", "more"]


def test_a_listener_that_traps_does_not_hurt_the_worker(start):
    nginx = start("configure: queue_register q", "queue_ready: trap", workers=1)
    run(nginx, "queue_resolve \\e q", "enqueue x", "enqueue y")
    nginx.wait_log("trap in proxy_on_queue_ready")
    assert run(nginx, "shared_set k v", "status").get("x-status") == "0"


# ---- reloads and deaths under load ----


def load(nginx, clients, do):
    """Runs do(client, round) in threads until the answer is called, which gives what was answered and what failed."""
    answers, failures, stop = [], [], threading.Event()

    def client(number):
        for i in itertools.count():
            if stop.is_set():
                return
            try:
                answers.append(do(number, i))
            except Exception as e:  # noqa: BLE001
                failures.append(e)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()

    def end():
        stop.set()
        for thread in threads:
            thread.join()
        return answers, failures

    end.answers = answers
    return end


def more(end, n):
    """Waits for so many further answers."""
    before = len(end.answers)
    wait_for(lambda: len(end.answers) >= before + n, "requests go on")


def test_nothing_is_lost_or_doubled_over_reloads_under_load(start):
    nginx = start(*LISTEN, workers=2)

    def do(client, i):
        run(nginx, "metric counter c", "metric_add 1", "queue_resolve \\e q", f"enqueue item-{client}-{i}")
        return f"item-{client}-{i}"

    end = load(nginx, 4, do)
    for _ in range(3):
        more(end, 20)
        nginx.reload()
    more(end, 20)
    pushed, failures = end()
    # A connection that a worker has taken and not read from may be closed when it shuts down.
    assert all(isinstance(failure, (http1.Closed, OSError)) for failure in failures), failures
    wait_for(lambda: set(pushed) <= {item for _, item in took(nginx)}, "items are taken")
    items = [item for _, item in took(nginx)]
    assert len(items) == len(set(items)) == len(nginx.log_lines("on_queue_ready"))
    assert int(metric(nginx, "counter", "c")) == len(items)


@pytest.mark.parametrize("reloads", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_all_that_is_shared_is_exact_and_in_its_bounds_over_reloads_under_load(start, reloads):
    """Three workers at a time, on the same keys, the same queue and the same metrics; nobody listens to the queue: requests take the items."""
    zones = "shm_kv lru 32k eviction=lru; shm_kv slru 32k eviction=slru; shm_kv full 32k eviction=none; shm_queue jobs 64k;"
    nginx = start(locations={"/": ("configure: queue_register jobs", "quiet")}, wasm=zones)
    run(nginx, "shared_set n 0")
    pids, swaps = set(), []

    def do(client, i):
        """What was put into the queue, what was taken out of it."""
        item, key = f"{client}-{i}", (client * 7919 + i * 31) % 500
        samples = ["metric counter c", "metric_add 3", "metric histogram h", f"metric_record {2 ** (i % 12)}"]
        writes = [f"shared_set {zone}/{key} {'v' * (key % 300)}" for zone in ("lru", "slru", "full")]
        first = run(nginx, *samples, "queue_resolve \\e jobs", f"enqueue {item}", "status x-put", *writes, "note x-all $statuses", "shared_get n x-n", "note x-cas $cas")
        statuses = first.get("x-all").split(",")
        assert statuses[-3:-1] == ["0", "0"] and statuses[-1] in ("0", "10"), statuses
        swapped = run(nginx, f"shared_set n {int(first.get('x-n')) + 1} {first.get('x-cas')}", "status", "queue_resolve \\e jobs", "dequeue x-item")
        assert swapped.get("x-status") in ("0", "8")
        pids.update((first.get("x-pid"), swapped.get("x-pid")))
        if swapped.get("x-status") == "0":
            swaps.append(1)
        return item if first.get("x-put") == "0" else None, swapped.get("x-item"), 2 ** (i % 12)

    end = load(nginx, 6, do)
    for _ in range(reloads):
        more(end, 60)
        nginx.reload()
    more(end, 60)
    answers, failures = end()
    assert all(isinstance(failure, (http1.Closed, OSError)) for failure in failures), failures[:3]
    assert len(pids) >= reloads + 2

    # A request that failed was not begun; one of a pair may have been the second, and then the first has been counted.
    taken = [item for _, item, _ in answers if item]
    while True:
        response = run(nginx, "queue_resolve \\e jobs", "dequeue x-item", "status")
        if response.get("x-status") == "7":
            break
        taken.append(response.get("x-item"))
    put = {item for item, _, _ in answers if item}
    assert len(taken) == len(set(taken)) and put <= set(taken) and len(set(taken) - put) <= len(failures)
    assert len(swaps) == int(run(nginx, "shared_get n x-n").get("x-n"))
    total, samples = int(metric(nginx, "counter", "c")), sum(sample for _, _, sample in answers)
    assert 3 * len(answers) <= total <= 3 * (len(answers) + len(failures)) and total % 3 == 0

    values = scrape(nginx)
    assert values["pw_probe_h_count"] == total // 3 == values['pw_probe_h_bucket{le="+Inf"}']
    assert samples <= values["pw_probe_h_sum"] <= samples + len(failures) * 2**11
    for kind, zone in (("kv", "lru"), ("kv", "slru"), ("kv", "full"), ("queue", "jobs")):
        label = f'{{kind="{kind}",zone="{zone}"}}'
        assert 0 <= values["sluice_shared_used_bytes" + label] <= values["sluice_shared_bytes" + label] <= 64 * 1024
        assert values["sluice_shared_resets_total" + label] == 0
    assert values['sluice_shared_evicted_total{kind="kv",zone="lru"}'] > 0 and values['sluice_shared_evicted_total{kind="kv",zone="slru"}'] > 0
    assert values['sluice_shared_refused_total{kind="kv",zone="full"}'] > 0 == values['sluice_shared_evicted_total{kind="kv",zone="full"}']


def test_workers_killed_under_load_leave_state_that_works(start):
    # Who dies between being told and taking the item leaves it to those who take more than one.
    nginx = start(*LISTEN, "queue_ready: dequeue", "queue_ready: dequeue", workers=3, wasm="shm_kv * 64k;")
    nginx.allow("exited on signal 9", "was locked by", "was emptied")

    def do(client, i):
        run(nginx, f"shared_set k{i % 50} {'v' * (i % 700)}", "shared_get k1", "queue_resolve \\e q", "enqueue x", "metric counter c", "metric_add 1")

    end = load(nginx, 4, do)
    for i in range(6):
        more(end, 15)
        os.kill(nginx.worker_pids()[i % 3], signal.SIGKILL)
        nginx.wait_log("exited on signal 9", i + 1)
    more(end, 30)
    answers, failures = end()
    assert all(isinstance(failure, (http1.Closed, OSError)) for failure in failures), failures
    assert len(answers) <= int(metric(nginx, "counter", "c")) <= len(answers) + len(failures)
    assert run(nginx, "shared_set k v", "shared_get k x-v").get("x-v") == "v"
    before = len(took(nginx))
    run(nginx, "queue_resolve \\e q", "enqueue last")
    wait_for(lambda: "last" in {item for _, item in took(nginx)[before:]}, "the item is taken")


# ---- for operators ----


def scrape(nginx):
    """Name with labels -> value; checks the form of the text."""
    response = http1.get(nginx.port(), "/metrics")
    assert response.status == 200 and response.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    types, values = {}, {}
    for line in response.text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            sample, value = line.rsplit(" ", 1)
            name = re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", sample)[0]
            assert name in types or re.sub("_(bucket|sum|count)$", "", name) in types
            assert sample not in values
            values[sample] = int(value)
    return values


def test_the_metrics_of_filters_and_what_is_shared_are_shown(nginx):
    nginx.workers = 3
    body = f"location / {{ {PID} {probe.use('configure: queue_register q', probe.EXEC)} return 200 ok; }} location /metrics {{ sluice_metrics; }}"
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@ reuseport; {body} }}", wasm=probe.module() + "shm_kv mine 16k;")
    each = on_each_worker(nginx, "metric counter requests.total", "metric_add 1", "metric histogram size", "metric_record 300")
    run(nginx, "metric gauge level", "metric_add -4", "shared_set k v", "shared_set mine/1 v", "queue_resolve \\e q", "enqueue four")
    values = scrape(nginx)
    n = values["pw_probe_requests_total"]
    assert n >= len(each) == 3
    assert values["pw_probe_level"] == -4
    assert values['pw_probe_size_bucket{le="256"}'] == 0
    assert values['pw_probe_size_bucket{le="512"}'] == values['pw_probe_size_bucket{le="+Inf"}'] == values["pw_probe_size_count"] == n
    assert values["pw_probe_size_sum"] == 300 * n
    assert values['sluice_shared_entries{kind="kv",zone="*"}'] == values['sluice_shared_entries{kind="kv",zone="mine"}'] == 1
    assert 3 <= values['sluice_shared_entries{kind="metrics",zone="*"}'] <= 3 + nginx.workers  # a seat for each worker's calls
    assert 0 < values['sluice_shared_used_bytes{kind="queue",zone="*"}'] < values['sluice_shared_bytes{kind="queue",zone="*"}'] <= 1024 * 1024
    assert values['sluice_queue_bytes{vm_id="",queue="q"}'] == 4
    assert values['sluice_queue_listeners{vm_id="",queue="q"}'] == 3
    assert http1.request(nginx.port(), "HEAD", "/metrics").status == 200
    assert http1.request(nginx.port(), "POST", "/metrics", body=b"x").status == 405


# ---- configuration ----


@pytest.mark.parametrize(
    "wasm, text",
    [
        ("shm_kv * 12k; shm_kv * 12k;", '"*" shm already defined'),
        ("shm_queue * 12k; shm_queue * 12k;", '"*" shm already defined'),
        ("shm_kv a 12k; shm_queue a 12k;", '"a" shm already defined'),
        ("shm_kv a 8k;", "too small"),
        ("shm_queue q 12k eviction=lru;", "do not support eviction"),
    ],
)
def test_wrong_zones_are_refused(nginx, wasm, text):
    nginx.write(f"server {{ listen 127.0.0.1:@PORT@; {probe.use()} }}", wasm=probe.module() + wasm)
    result = nginx.check()
    assert result.returncode != 0 and text in result.stderr + nginx.log()


def test_zones_of_the_same_name_may_be_of_each_kind_if_they_are_the_defaults(start):
    nginx = start("configure: queue_register q", wasm="shm_kv * 12k; shm_queue * 12k;")
    assert run(nginx, "shared_set k v", "status").get("x-status") == "0"
    assert run(nginx, "queue_resolve \\e q", "enqueue x", "status").get("x-status") == "0"


def test_state_moves_to_a_zone_of_another_size(start):
    nginx = start("configure: queue_register q", wasm="shm_kv a 12k; shm_kv b 12k; shm_queue * 12k; metrics { slab_size 64k; }", workers=2)
    cas = run(nginx, "shared_set a/k v", "shared_set b/k v", "shared_get a/k", "note x-cas $cas").get("x-cas")
    run(nginx, "queue_resolve \\e q", "enqueue item", "metric counter c", "metric_add 5")
    text = nginx.conf.read_text()
    for name in ("shm_kv a", "shm_queue *"):
        text = text.replace(f"{name} 12k", f"{name} 64k")
    nginx.conf.write_text(text.replace("slab_size 64k", "slab_size 128k"))
    nginx.reload()
    wait_for(lambda: nginx.log().count("exited with code 0") == 2, "old workers are gone")
    response = run(nginx, "shared_get a/k x-a", "note x-cas $cas", "shared_get b/k x-b", "queue_resolve \\e q", "dequeue x-i")
    assert [response.get(name) for name in ("x-a", "x-cas", "x-b", "x-i")] == ["v", cas, "v", "item"]
    assert metric(nginx, "counter", "c") == "5"
    assert run(nginx, f"shared_set a/big {'v' * 7000}", "status").get("x-status") == "0"


def test_state_works_without_a_master(nginx):
    lines = (*LISTEN, probe.EXEC)
    nginx.workers = 1
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; {probe.use(*lines)} location / {{ return 200 ok; }} }}", wasm=probe.module(), master=False)
    assert run(nginx, "shared_set k v", "shared_get k x-v").get("x-v") == "v"
    assert run(nginx, "metric counter c", "metric_add 2", "metric_get x-m").get("x-m") == "2"
    run(nginx, "queue_resolve \\e q", "enqueue x")
    wait_for(lambda: took(nginx), "the item is taken")
