"""Which route a request takes and why: GET /plan of a running gateway, `sluice routes explain` with and without one."""

import json
import urllib.parse

import pytest
from gateway_helpers import Gateway, chain, document, echoed, folder, install, origin, origin_server, sluice  # noqa: F401
from support import http1


@pytest.fixture(scope="module")
def running(origin_server):
    with folder() as path:
        install(path / "filters", "probe", "my-c-filter")
        service = {
            "name": "shop",
            "url": f"{origin_server.url}/base",
            "routes": [
                {"name": "get", "paths": ["/a"], "methods": ["GET"], "filter_chains": [chain(("my-c-filter", '{"my_greeting":"hi"}'), name="own")]},
                {"name": "any", "paths": ["/a/b"]},
                {"name": "post", "paths": ["/a"], "methods": ["POST"]},
            ],
            "filter_chains": [chain(("probe", ""), name="first")],
        }
        with Gateway(path, document(service), workers=2).start() as gateway:
            yield gateway


def plan(gateway, **args):
    answer = gateway.get_admin("/plan?" + urllib.parse.urlencode(args, doseq=True))
    assert answer.status == 200, answer.text
    return json.loads(answer.body)


def test_the_plan_says_what_the_request_then_meets(running):
    told = plan(running, method="GET", host="localhost", path="/a/b?q=1")
    assert told["route"]["name"] == "get" and told["route"]["matched"] == {"methods": "GET", "paths": "/a"}
    assert [(f["name"], f["from"], f["filter_chain"]["name"]) for f in told["filters"]] == [("probe", "service", "first"), ("my-c-filter", "route", "own")]
    reasons = {c["route"]["name"]: c["reason"] for c in told["candidates"]}
    assert reasons == {"any": "kinds of attributes: 1 against 2", "post": None}
    target = urllib.parse.urlsplit(told["upstream"]["url"])
    answer = running.get("/a/b?q=1")
    assert answer.status == 200 and answer.get("x-greeting") == "hi"
    assert echoed(answer)["path"] == f"{target.path}?{target.query}" == "/base/b?q=1"


def test_the_plan_without_a_request_is_a_summary(running):
    told = json.loads(running.get_admin("/plan").body)
    assert told["routes"] == 3 and told["services"] == 1 and told["router_flavor"] == "traditional_compatible" and told["generation"] >= 1


@pytest.mark.parametrize("query", ["scheme=ftp", "port=0", "port=70000", "port=1x", "header=x", "path=x", "url=nothing", "path=%ff", "method="])
def test_requests_that_make_no_sense_are_refused(running, query):
    answer = running.get_admin(f"/plan?{query}")
    assert answer.status == 400 and json.loads(answer.body)["message"]


def test_the_command_says_the_same_of_the_running_gateway(running):
    told = plan(running, method="GET", url="http://localhost/a/b")
    done = running.run("routes", "explain", "GET", "http://localhost/a/b", "--json", "-p", running.prefix)
    assert done.returncode == 0, done
    assert json.loads(done.stdout) == told
    text = running.run("routes", "explain", "GET", "/a/b").stdout.splitlines()
    assert text[0] == 'route     get, by methods "GET", paths "/a"'
    assert text[1] == "service   shop" and text[2].startswith("upstream  http://")
    assert text[3] == "filter 1  probe, of the service's chain first" and text[4] == "filter 2  my-c-filter, of the route's chain own"
    assert "not any: matches too, but kinds of attributes: 1 against 2" in text
    assert 'not post: wants methods ["POST"]' in text


def test_headers_and_a_document_may_be_given(tmp_path):
    file = tmp_path / "kong.yml"
    file.write_text('{"_format_version": "3.0", "routes": [{"name": "h", "headers": {"x-a": ["1"]}, "paths": ["/"]}]}')
    done = sluice("routes", "explain", "GET", "/", file, "-H", "X-A: 1")
    assert done.returncode == 0 and done.stdout.splitlines()[:2] == ['route     h, by paths "/", headers {"x-a":["1"]}', "answer    503 no Service found with those values"], done
    done = sluice("routes", "explain", "GET", "/", file)
    assert done.stdout.splitlines() == ["answer    404 no Route matched with those values", 'not h: wants headers {"x-a":["1"]}']
    file.write_text('{"_format_version": "3.0", "routes": [{"name": "h"}]}')
    done = sluice("routes", "explain", "GET", "/", file)
    assert done.returncode == 1 and "must set one of" in done.stderr
    assert sluice("routes", "explain", "GET").returncode == 2
    assert sluice("routes", "explain", "GET", "nowhere", file).returncode == 2
    assert sluice("routes", "explain", "GET", "/", "-H", "x", file).returncode == 2


def test_the_store_is_asked_when_nothing_runs():
    with folder() as path:
        gateway = Gateway(path, declarative_config=None, database=None)
        done = gateway.run("routes", "explain", "GET", "/x")
        assert done.returncode == 1 and "holds no gateway" in done.stderr
        with gateway.start():
            for name, body in [("services/s", {"url": "http://a.test:81/p"}), ("services/s/routes/r", {"paths": ["/x"]})]:
                answer = http1.request(gateway.admin, "PUT", f"/{name}", [("Content-Type", "application/json")], json.dumps(body).encode())
                assert answer.status == 200, answer.text
            served = gateway.run("routes", "explain", "GET", "/x/y")
        done = gateway.run("routes", "explain", "GET", "/x/y")
        assert done.returncode == 0 and done.stdout == served.stdout
        assert "upstream  http://a.test:81/p/y, Host: a.test:81" in done.stdout
