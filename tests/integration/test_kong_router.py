"""Which route takes a request, seen from outside: the order of section "precedence", doubtful hosts, paths, methods, in both flavors."""

import json

import pytest
from gateway_helpers import Gateway, document, folder, origin, origin_server  # noqa: F401
from support import http1


@pytest.fixture(scope="module", params=["traditional", "traditional_compatible"])
def gateway(request, origin_server):  # noqa: F811
    with folder() as path, Gateway(path, document(), workers=1, router_flavor=request.param, allow_debug_header="on").start() as running:
        running.url = origin_server.url
        running.flavor = request.param
        running.services, running.serving = origin_server.url, None
        yield running


def routes(gateway, table, **service):
    """Serves {name: route}; the table is sent only once for a run of tests."""
    if gateway.serving != (id(table), str(service)):
        gateway.configure(document({"name": "s", "url": gateway.url, **service, "routes": [{"name": k, **v} for k, v in table.items()]}))
        gateway.serving = (id(table), str(service))


def ask(gateway, path, host="localhost", method="GET", headers=()):
    """(name of the route, path for the upstream), or the status when nothing took it."""
    answer = http1.request(gateway.proxy, method, path, [("Host", host), ("Kong-Debug", "1"), *headers])
    if answer.status != 200:
        return answer.status
    return answer.get("kong-route-name"), json.loads(answer.body)["path"]


ORDER = {
    "short": {"paths": ["/a"]},
    "long": {"paths": ["/a/b"]},
    "regex": {"paths": ["~/a/b$"]},
    "first-regex": {"paths": ["~/a"], "regex_priority": 5},
    "method": {"paths": ["/a"], "methods": ["POST"]},
    "header": {"paths": ["/a"], "headers": {"x": ["1"]}},
    "headers": {"paths": ["/a"], "headers": {"x": ["1"], "y": ["2"]}},
    "host": {"paths": ["/a"], "hosts": ["h.test"]},
    "wildcard": {"paths": ["/a/b/c"], "hosts": ["*.test"]},
}


@pytest.mark.parametrize(
    "path, more, taken",
    [
        ("/a", {}, "first-regex"),
        ("/a/b", {}, "first-regex"),  # the other regex is longer, the priority counts
        ("/ab", {}, "first-regex"),  # a prefix matches characters
        ("/a", {"method": "POST"}, "method"),
        ("/a", {"headers": [("X", "1")]}, "header"),
        ("/a", {"headers": [("X", "0"), ("x", "1")]}, "header"),
        ("/a", {"headers": [("X", "1"), ("Y", "2")]}, "headers"),
        ("/a", {"headers": [("X", "1"), ("Y", "3")]}, "header"),
        ("/a", {"host": "h.test"}, "host"),
        ("/a/b/c", {"host": "h.test"}, "host"),  # all plain hosts beat a wildcard, whatever the path is
        ("/a/b/c", {"host": "z.test:8080"}, "wildcard"),
        ("/a", {"host": "H.TEST"}, "first-regex"),  # hosts are compared as they were sent
        ("/a", {"host": "h.test", "headers": [("X", "1")]}, "host"),  # hosts count for more than headers
        ("/%61", {}, "first-regex"),
        ("/x/../a", {}, "first-regex"),
        ("//a", {}, "first-regex"),
        ("/b?/a", {}, 404),
        ("/A", {}, 404),
    ],
)
def test_the_order_of_routes(gateway, path, more, taken):
    routes(gateway, ORDER)
    found = ask(gateway, path, **more)
    assert (found if isinstance(found, int) else found[0]) == taken


PLAIN = {"short": {"paths": ["/a"]}, "long": {"paths": ["/a/b"], "regex_priority": 0}, "loud": {"paths": ["/a/"], "regex_priority": 9}}


@pytest.mark.parametrize("path, taken", [("/a", "short"), ("/a/", "loud"), ("/a/b", "long"), ("/a/bc", "long"), ("/a/%62", "long"), ("/a//b", "long"), ("/a%2Fb", "short")])
def test_the_longest_plain_path_wins_whatever_its_regex_priority(gateway, path, taken):
    routes(gateway, PLAIN)
    assert ask(gateway, path)[0] == taken


HOSTS = {
    "plain": {"hosts": ["a.test"]},
    "left": {"hosts": ["*.b.test"]},
    "left-port": {"hosts": ["*.b.test:82"]},
    "right": {"hosts": ["b.*"]},
    "port": {"hosts": ["c.test:81"]},
    "deep": {"hosts": ["x.y.b.test"], "methods": ["GET"]},
    "verb": {"methods": ["PURGE"]},
}


@pytest.mark.parametrize(
    "host, taken",
    [
        ("a.test", "plain"),
        ("a.test:8000", "plain"),
        ("x.b.test", "left"),
        ("w.x.b.test", "left"),
        ("x.b.test:82", {"traditional": ["left-port"], "traditional_compatible": ["left-port", "left"]}),  # equal priority in the latter
        ("x.b.test:83", "left"),
        ("x.y.b.test", "deep"),
        ("b.test", "right"),
        ("b.test.x.y", "right"),
        ("c.test:81", "port"),
        ("c.test:82", 404),
        ("c.test", 404),
        (".b.test", 404),
        ("b.", 404),
        ("A.TEST", 404),
        ("a.test.", 404),
        ("xa.test", 404),
    ],
)
def test_hosts_and_their_ports(gateway, host, taken):
    routes(gateway, HOSTS)
    found = ask(gateway, "/", host)
    assert (found if isinstance(found, int) else found[0]) in (taken[gateway.flavor] if isinstance(taken, dict) else [taken])


def test_methods_are_exact_and_may_be_anybodys(gateway):
    routes(gateway, HOSTS)
    assert ask(gateway, "/", "z.test", "PURGE")[0] == "verb"
    assert ask(gateway, "/", "z.test", "PURGED") == 404
    assert ask(gateway, "/", "z.test", "purge") == 400  # nginx takes no lower-case methods


PATHS = {
    "regex": {"paths": ["~/r/(?<id>\\d+)/x"]},
    "kept": {"paths": ["/s"], "strip_path": False},
    "slash": {"paths": ["/t/"]},
    "v1": {"paths": ["/u"], "path_handling": "v1"},
    "end": {"paths": ["~/w$"]},
    "letters": {"paths": ["/é"]},
    "space": {"paths": ["/sp ace"]},
    "pattern": {"paths": ["/h"], "headers": {"h": ["~*^ab.$"]}},
    "value": {"paths": ["/h"], "headers": {"h": ["AB"]}},
}


@pytest.mark.parametrize(
    "path, headers, expected",
    [
        ("/r/12/x/y?z", (), ("regex", "/base/y?z")),
        ("/r/12/xy", (), ("regex", "/base/y")),
        ("/r/1a/x", (), 404),
        ("/s/1", (), ("kept", "/base/s/1")),
        ("/t/1", (), ("slash", "/base/1")),
        ("/t", (), 404),
        ("/u/1", (), ("v1", "/base/1")),
        ("/u/", (), ("v1", "/base/")),
        ("/u", (), {"traditional": ("v1", "/base/"), "traditional_compatible": ("v1", "/base")}),  # v1 exists in traditional only
        ("/u/a%20b%2Fc%3F", (), ("v1", "/base/a%20b%2Fc%3F")),
        ("/u//x", (), ("v1", "/base/x")),
        ("/u?", (), {"traditional": ("v1", "/base/?"), "traditional_compatible": ("v1", "/base?")}),
        ("/w", (), ("end", "/base")),
        ("/w/", (), 404),
        ("/%C3%A9/1", (), ("letters", "/base/1")),
        ("/sp%20ace/2", (), ("space", "/base/2")),
        ("/h", [("H", "ABC")], ("pattern", "/base")),
        ("/h", [("H", "ab")], ("value", "/base")),
        ("/h", [("H", "abcd")], 404),
        ("/u/..", (), 404),
        ("/u/../../x", (), 400),
        ("/u/%2e%2e/t/", (), ("slash", "/base/")),
        ("/u%00", (), 400),
        ("/u%zz", (), 400),
    ],
)
def test_paths_as_they_match_and_as_they_leave(gateway, path, headers, expected):
    routes(gateway, PATHS, path="/base/", url=None, protocol="http", host="127.0.0.1", port=int(gateway.url.rsplit(":", 1)[1]))
    wanted = expected[gateway.flavor] if isinstance(expected, dict) else expected
    assert ask(gateway, path, headers=headers) == wanted


def test_route_and_service_are_named_to_who_asks(gateway):
    routes(gateway, {"r": {"paths": ["/"]}})
    answer = http1.request(gateway.proxy, "GET", "/", [("Kong-Debug", "1")])
    entities = {kind: json.loads(gateway.get_admin(f"/{kind}").body)["data"][0] for kind in ("routes", "services")}
    assert answer.get("kong-route-id") == entities["routes"]["id"] and answer.get("kong-route-name") == "r"
    assert answer.get("kong-service-id") == entities["services"]["id"] and answer.get("kong-service-name") == "s"
    assert gateway.get("/").get("kong-route-id") is None


def test_nothing_is_named_unless_the_setting_allows_it(origin_server):  # noqa: F811
    with folder() as path:
        doc = document({"name": "s", "url": origin_server.url, "routes": [{"name": "r", "paths": ["/"]}]})
        with Gateway(path, doc, workers=1, family="KONG").start() as gateway:
            answer = gateway.get("/", [("Kong-Debug", "1")])
            assert answer.status == 200 and not [n for n, _ in answer.headers if n.startswith("kong-")]
