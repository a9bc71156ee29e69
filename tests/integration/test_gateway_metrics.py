"""GET /metrics of the Admin API's listener."""

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
