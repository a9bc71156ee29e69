"""What is in shared memory, as the Admin API's listener shows it: GET /metrics, /shared-data, /shared-queues."""

import json

from gateway_helpers import *  # noqa: F403
from gateway_helpers import Gateway, document, folder, install, origin_server  # noqa: F401


def test_metrics_of_filters_are_shown_by_the_admin_listener(origin_server):
    lines = "response_headers: metric counter hits\nresponse_headers: metric_add 1\nresponse_headers: shared_set k v"
    with folder() as path:
        install(path / "filters", "probe")
        service = {
            "name": "s",
            "url": origin_server.url,
            "routes": [{"name": "r", "paths": ["/"]}],
            "filter_chains": [{"filters": [{"name": "probe", "config": lines}]}],
        }
        with Gateway(path, document(service), workers=2).start() as gateway:
            for _ in range(20):
                assert gateway.get("/").status == 200
            answer = gateway.get_admin("/metrics")
            assert answer.status == 200
            assert answer.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
            assert "# TYPE pw_probe_hits counter\npw_probe_hits 20\n" in answer.text
            assert 'sluice_shared_entries{kind="kv",zone="*"} 1\n' in answer.text
            gateway.run("reload")
            assert gateway.get("/").status == 200
            assert "\npw_probe_hits 21\n" in gateway.get_admin("/metrics").text


def pages(gateway, path, size):
    """All entries; each page but the last has about as many as were asked for."""
    entries, offset, n = [], "0", 0
    while offset is not None:
        answer = gateway.get_admin(f"{path}?size={size}&offset={offset}")
        assert answer.status == 200 and answer.get("content-type") == "application/json; charset=utf-8"
        page = json.loads(answer.body)
        assert len(page["data"]) >= size or "offset" not in page
        entries += page["data"]
        offset, n = page.get("offset"), n + 1
    return entries, n


def test_keys_and_queues_are_listed_in_pages(origin_server):
    lines = "configure: queue_register jobs\nrequest_headers: exec x-do"
    with folder() as path:
        install(path / "filters", "probe")
        service = {
            "name": "s",
            "url": origin_server.url,
            "routes": [{"name": "r", "paths": ["/"]}],
            "filter_chains": [{"filters": [{"name": "probe", "config": lines}]}],
        }
        with Gateway(path, document(service), workers=1).start() as gateway:
            for i in range(30):
                do = ";".join(f"request_headers: shared_set key-{i}-{k} {'v' * k}" for k in range(10))
                assert gateway.get("/", [("x-do", do)]).status == 200
            do = 'request_headers: shared_set \\xff"\\n x;request_headers: shared_set quote" x;request_headers: queue_resolve \\e jobs;request_headers: enqueue four'
            assert gateway.get("/", [("x-do", do)]).status == 200
            entries, n = pages(gateway, "/shared-data", 25)
            assert n > 8
            keys = {entry.get("key"): entry for entry in entries}
            assert len(entries) == 302 and len(keys) == 302
            assert keys["key-3-7"]["size"] == 7 and keys["key-3-7"]["zone"] == "*" and keys["key-3-7"]["vm_id"] == ""
            assert 'quote"' in keys and keys[None]["key_hex"] == "ff220a"
            assert len({entry["cas"] for entry in entries}) == 302
            assert len(pages(gateway, "/shared-data", 1000)[0]) == 302
            (queue,) = pages(gateway, "/shared-queues", 10)[0]
            assert (queue["name"], queue["bytes"], queue["listeners"], queue["pushed"]) == ("jobs", 4, 1, 1)
            for query in ("?offset=18446744073709551615", "?offset=x&size=-1", "?offset=281474976710656", "?size=99999999999999999999999"):
                answer = gateway.get_admin("/shared-data" + query)
                assert answer.status == 200 and "data" in json.loads(answer.body)


def test_labels_in_names_of_metrics_are_taken_out_by_the_filters_metadata(origin_server):
    names = ["calls_s_id=a-1_total", "calls_s_id=b_total", "plain"]
    lines = "\n".join(f"response_headers: metric counter {name}\nresponse_headers: metric_add {i + 1}" for i, name in enumerate(names))
    meta = {"metrics": {"label_patterns": [{"label": "service", "pattern": "(_s_id=([0-9a-z%-]+))"}]}}
    with folder() as path:
        install(path / "filters", "probe")
        (path / "filters/probe.meta.json").write_text(json.dumps(meta))
        (path / "filters/probe.meta.json").chmod(0o644)
        service = {
            "name": "s",
            "url": origin_server.url,
            "routes": [{"name": "r", "paths": ["/"]}],
            "filter_chains": [{"filters": [{"name": "probe", "config": lines}]}],
        }
        with Gateway(path, document(service), workers=1).start() as gateway:
            assert gateway.get("/").status == 200
            text = gateway.get_admin("/metrics").text
            assert '# TYPE pw_probe_calls_total counter\npw_probe_calls_total{service="a-1"} 1\npw_probe_calls_total{service="b"} 2\n' in text
            assert "\npw_probe_plain 3\n" in text


def test_patterns_of_labels_that_make_no_sense_are_refused(origin_server):
    with folder() as path:
        install(path / "filters", "probe")
        gateway = Gateway(path, document())
        for patterns in ({}, [{}], [{"label": "a", "pattern": "(x"}], [{"label": "1 a", "pattern": "(x(y))"}], [1]):
            (path / "filters/probe.meta.json").write_text(json.dumps({"metrics": {"label_patterns": patterns}}))
            (path / "filters/probe.meta.json").chmod(0o644)
            done = gateway.run("start")
            assert done.returncode == 1 and "label_patterns" in done.stderr, (patterns, done)


def test_what_is_counted_about_filters_is_in_metrics_and_status(origin_server):
    with folder() as path:
        install(path / "filters", "hostile")
        service = {
            "name": "s",
            "url": origin_server.url,
            "routes": [{"name": "r", "paths": ["/"]}],
            "filter_chains": [{"filters": [{"name": "hostile", "breaker_traps": 2}]}],
        }
        with Gateway(path, document(service), workers=1).start() as gateway:
            assert [gateway.get("/", headers=[("x-do", "trap")]).status for _ in range(3)] == [500, 500, 503]
            metrics = gateway.get_admin("/metrics").text
            assert 'sluice_filter_traps_total{filter="hostile",reason="trap"} 2\n' in metrics
            assert 'sluice_filter_breaker_state{filter="hostile",worker="0"} 2\n' in metrics
            assert 'sluice_filter_requests_failed_total{filter="hostile",by="breaker"} 1\n' in metrics
            numbers = json.loads(gateway.get_admin("/status").body)["filters"]["hostile"]
            assert (numbers["traps"]["trap"], numbers["breaker_state"]["0"], numbers["requests_failed"]["trap"]) == (2, 2, 2)
