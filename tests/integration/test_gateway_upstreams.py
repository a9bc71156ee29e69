"""Upstreams and targets: whose turn it is, names, retries, changes while requests come."""

import collections
import contextlib
import json
import re
import socket
import struct
import threading

import pytest
from gateway_helpers import (  # noqa: F401
    FLAVOR,
    Gateway,
    Origin,
    chain,
    document,
    echoed,
    folder,
    home,
    install,
    origin,
    origin_server,
    wait_for,
)
from support import http1

NO_PEER = "failure to get a peer from the ring-balancer"


@pytest.fixture(scope="module")
def origins():
    servers = [Origin() for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def forget(request):
    for server in request.getfixturevalue("origins") if "origins" in request.fixturenames else ():
        server.forget()


def pool(*targets, name="pool.test", route=(), service=(), **upstream):
    """A service whose host is an upstream with these targets: "host:port" or ("host:port", weight)."""
    targets = [{"target": t} if isinstance(t, str) else {"target": t[0], "weight": t[1]} for t in targets]
    return document(
        {"name": "s", "host": name, **dict(service), "routes": [{"name": "r", "paths": ["/"], **dict(route)}]},
        upstreams=[{"name": name, "targets": targets, **upstream}],
    )


def at(server):
    return f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def gateway(origin_server):
    with folder() as path, Gateway(path, pool(at(origin_server))).start() as gateway:
        yield gateway


def counts(gateway, origins, n, path="/"):
    for _ in range(n):
        assert gateway.get(path).status == 200
    return [len(server.seen) for server in origins]


# ---- whose turn it is ----------------------------------------------------------------------------------------------------


def test_targets_get_their_weights_share_exactly(gateway, origins):
    gateway.configure(pool((at(origins[0]), 10), (at(origins[1]), 30), (at(origins[2]), 20)))
    assert counts(gateway, origins, 60) == [10, 30, 20]
    assert counts(gateway, origins, 6) == [11, 33, 22]  # in every row of six, not only on average


def test_turns_are_taken_smoothly(gateway, origins):
    gateway.configure(pool((at(origins[0]), 3), (at(origins[1]), 1)))
    order = [echoed(gateway.get("/"))["headers"]["host"] for _ in range(8)]
    assert collections.Counter(order) == {at(origins[0]): 6, at(origins[1]): 2}
    first, second = (i for i, host in enumerate(order) if host == at(origins[1]))
    assert second - first == 4


def test_weight_0_gets_nothing(gateway, origins):
    gateway.configure(pool((at(origins[0]), 0), at(origins[1])))
    assert counts(gateway, origins, 10) == [0, 10, 0]


@pytest.mark.parametrize("targets", [(), (("127.0.0.1:9", 0),)])
@pytest.mark.parametrize("accept", [None, "text/plain"])
def test_an_upstream_without_a_usable_target_is_503(gateway, targets, accept):
    gateway.configure(pool(*targets))
    response = gateway.get("/", [("Accept", accept)] if accept else [])
    assert response.status == 503
    assert NO_PEER in response.text and (accept or json.loads(response.body)["message"] == NO_PEER)


def test_all_workers_balance(home, origins):
    with Gateway(home, pool(*(at(o) for o in origins)), workers=3).start() as gateway:
        counted = counts(gateway, origins, 90)
    assert sum(counted) == 90 and min(counted) >= 20


@pytest.mark.parametrize("algorithm", ["least-connections", "latency", "consistent-hashing"])
def test_other_algorithms_are_kept_and_served_in_turn(gateway, origins, algorithm):
    more = {"hash_on": "ip"} if algorithm == "consistent-hashing" else {}
    gateway.configure(pool(at(origins[0]), at(origins[1]), algorithm=algorithm, slots=100, **more))
    assert counts(gateway, origins, 10) == [5, 5, 0]
    assert json.loads(gateway.get_admin("/upstreams/pool.test").body)["algorithm"] == algorithm
    gateway.wait_log(f"algorithm {algorithm} is not there yet")


# ---- changes ------------------------------------------------------------------------------------------------------------------


def test_targets_change_without_a_reload_and_without_a_failed_request(home, origins):
    with Gateway(home, workers=2, declarative_config=None, database="sqlite").start() as gateway:
        workers = gateway.workers()

        def admin(method, path, doc=None):
            response = http1.request(gateway.admin, method, path, [("Content-Type", "application/json")] if doc is not None else [], json.dumps(doc).encode() if doc is not None else None)
            assert response.status in (200, 201, 204), response.text
            return json.loads(response.body) if response.body else None

        admin("PUT", "/upstreams/pool.test", {})
        admin("PUT", "/services/s", {"host": "pool.test"})
        admin("POST", "/services/s/routes", {"paths": ["/"]})
        assert gateway.get("/").status == 503
        first = admin("POST", "/upstreams/pool.test/targets", {"target": at(origins[0])})
        stop, bad = threading.Event(), []

        def client():
            while not stop.is_set():
                response = gateway.get("/x")
                if response.status != 200:
                    bad.append(response)

        threads = [threading.Thread(target=client) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                second = admin("POST", "/upstreams/pool.test/targets", {"target": at(origins[1]), "weight": 50})
                origins[1].forget()
                wait_for(lambda: origins[1].seen, "the new target is used")
                admin("PATCH", f"/upstreams/pool.test/targets/{first['id']}", {"weight": 0})
                origins[0].forget()
                wait_for(lambda: len(origins[1].seen) > 20, "the other one is")
                assert len(origins[0].seen) <= 3  # in flight when it was drained
                admin("PATCH", f"/upstreams/pool.test/targets/{first['id']}", {"weight": 100})
                admin("DELETE", f"/upstreams/pool.test/targets/{second['id']}")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not bad
        assert gateway.workers() == workers


def test_a_change_elsewhere_does_not_begin_the_turns_anew(gateway, origins):
    doc = pool((at(origins[0]), 1), (at(origins[1]), 1))
    gateway.configure(doc)
    for i in range(20):
        gateway.get("/")
        doc["consumers"] = [{"username": f"c{i}"}]
        gateway.configure(doc)
    assert [len(o.seen) for o in origins[:2]] == [10, 10]


# ---- Host -------------------------------------------------------------------------------------------------------------------------


def test_the_host_is_the_targets_or_what_the_upstream_or_the_client_says(gateway, origins):
    host = at(origins[0])
    for more, expected in (
        ({}, host),
        ({"host_header": "shop.test:81"}, "shop.test:81"),
        ({"route": {"preserve_host": True}}, "client.test"),
        ({"route": {"preserve_host": True}, "host_header": "shop.test"}, "client.test"),
    ):
        gateway.configure(pool(host, **more))
        assert echoed(gateway.get("/", host="client.test"))["headers"]["host"] == expected


def test_the_host_follows_the_target_that_is_tried(home, origins):
    (home / "hosts").write_text("127.0.0.1 good.test\n127.0.0.1 bad.test\n")
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        bad = refusing.getsockname()[1]
    doc = pool((f"bad.test:{bad}", 1000), (f"good.test:{origins[0].port}", 1))
    with Gateway(home, doc, dns_hostsfile=home / "hosts").start() as gateway:
        for _ in range(4):
            assert echoed(gateway.request("POST", "/x", body=b"a body"))["headers"]["host"] == f"good.test:{origins[0].port}"
        assert [dict(h)["host"] for _, _, h in origins[0].seen] == [f"good.test:{origins[0].port}"] * 4


# ---- failures -----------------------------------------------------------------------------------------------------------------------


class Broken:
    """A server that ends every connection: after a request, at once with a reset, or after half an answer."""

    def __init__(self, how):
        self.how, self.came = how, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                self.came += 1
                threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with contextlib.suppress(OSError), peer:
            if self.how != "reset":
                peer.recv(65536)
            if isinstance(self.how, bytes):
                peer.sendall(self.how)
            if self.how == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self):
        self.listener.close()


@pytest.fixture
def broken():
    made = []

    def make(how):
        made.append(Broken(how))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_another_target_is_tried(gateway, origins, broken, how):
    bad = [broken(how), broken(how)]
    gateway.configure(pool(*(at(b) for b in bad), at(origins[0]), service={"retries": 2}))
    for _ in range(9):
        assert gateway.get("/").status == 200
    assert all(2 <= b.came <= 9 for b in bad)  # never twice for one request


def test_retries_end_where_the_service_says(gateway, origins, broken):
    bad = [broken("close") for _ in range(3)]
    gateway.configure(pool(*((at(b), 1000) for b in bad), (at(origins[0]), 1), service={"retries": 1}))
    response = gateway.get("/")
    assert response.status == 502
    assert sum(b.came for b in bad) == 2


def test_one_target_is_tried_again_when_there_is_no_other(gateway, broken):
    bad = broken("close")
    gateway.configure(pool(at(bad), service={"retries": 3}))
    assert gateway.get("/").status == 502
    assert bad.came == 4


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02garbage",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon at all\x00\r\n\r\n",
        b"",
    ],
    ids=["bytes", "status", "large", "header", "nothing"],
)
def test_garbage_from_an_upstream_is_502(gateway, broken, garbage):
    bad = broken(garbage)
    gateway.configure(pool(at(bad), service={"retries": 0}))
    response = gateway.get("/", [("Accept", "application/json")])
    assert response.status == 502
    assert json.loads(response.body)["message"] == "An invalid response was received from the upstream server"


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz"], ids=["length", "chunked"]
)
def test_an_answer_that_breaks_off_is_not_complete(gateway, origins, broken, start):
    bad = broken(start)
    gateway.configure(pool(at(bad), service={"retries": 0}))
    for _ in range(3):
        with contextlib.suppress(http1.Closed):  # before anything was sent
            response = gateway.get("/")
            assert response.status == 502 or not response.complete
    workers = gateway.workers()
    gateway.configure(pool(at(origins[0])))
    assert gateway.get("/").status == 200 and gateway.workers() == workers


def test_an_http_1_0_upstream_and_one_without_a_length_pass(gateway, broken):
    old = broken(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
    gateway.configure(pool(at(old)))
    response = gateway.get("/")
    assert (response.status, response.body, response.complete) == (200, b"until the end", True)


def test_a_target_that_is_too_slow_is_left_for_another(gateway, origins):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = f"127.0.0.1:{silent.getsockname()[1]}"
        gateway.configure(pool((slow, 100), (at(origins[0]), 1), service={"read_timeout": 200, "retries": 1}))
        assert gateway.get("/").status == 200
        gateway.configure(pool(slow, service={"read_timeout": 200, "retries": 1}))
        response = gateway.get("/", [("Accept", "application/json")])
        assert response.status == 504 and json.loads(response.body)["message"] == "The upstream server is timing out"


# ---- names ----------------------------------------------------------------------------------------------------------------------------


class Names:
    """A name server: `names` may be changed while it runs. ttl in seconds. While `silent` it says nothing."""

    def __init__(self, ttl=1, **names):
        self.names, self.ttl, self.asked, self.silent, self.fail = names, ttl, [], False, False
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.sock.recvfrom(2048)
                labels, at = [], 12
                while query[at]:
                    labels.append(query[at + 1 : at + 1 + query[at]].decode())
                    at += query[at] + 1
                kind = int.from_bytes(query[at + 1 : at + 3], "big")
                name = ".".join(labels)
                self.asked.append(name)
                if self.silent:
                    continue
                known = self.names.get(name.replace(".", "_"))
                addresses = known if known is not None and kind == 1 else []
                answers = b"".join(b"\xc0\x0c\x00\x01\x00\x01" + struct.pack(">IH", self.ttl, 4) + socket.inet_aton(a) for a in addresses)
                flags = b"\x81\x82" if self.fail else b"\x81\x80" if known is not None else b"\x81\x83"
                self.sock.sendto(query[:2] + flags + b"\x00\x01" + struct.pack(">H", len(addresses)) + b"\x00" * 4 + query[12 : at + 5] + answers, peer)

    def close(self):
        self.sock.close()


@pytest.fixture
def names():
    made = []

    def make(**more):
        made.append(Names(**more))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def everywhere():
    """Origins on one port of several loopback addresses."""
    listeners = []
    first = socket.create_server(("127.0.0.1", 0))
    port = first.getsockname()[1]
    listeners = [first, *(socket.create_server((f"127.0.0.{i}", port)) for i in (2, 3))]
    seen = collections.Counter()

    def run(listener):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    seen[listener.getsockname()[0]] += 1
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    for listener in listeners:
        threading.Thread(target=run, args=(listener,), daemon=True).start()
    yield port, seen
    for listener in listeners:
        listener.close()


def test_each_address_of_a_name_has_the_targets_weight(home, names, everywhere):
    port, seen = everywhere
    dns = names(ttl=60, two_test=["127.0.0.1", "127.0.0.2"], one_test=["127.0.0.3"])
    with Gateway(home, pool((f"two.test:{port}", 100), (f"one.test:{port}", 100)), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        wait_for(lambda: gateway.get("/").status == 200 and len(seen) == 3, "all addresses are known")
        seen.clear()
        for _ in range(30):
            assert gateway.get("/").status == 200
        assert seen == {"127.0.0.1": 10, "127.0.0.2": 10, "127.0.0.3": 10}
        assert sorted(set(dns.asked)) == ["one.test", "two.test"] and len(dns.asked) <= 4  # remembered for their time


def test_a_name_that_moves_is_followed_when_its_time_is_over(home, names, everywhere):
    port, seen = everywhere
    dns = names(ttl=1, move_test=["127.0.0.1"])
    with Gateway(home, pool(f"move.test:{port}"), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        assert gateway.get("/").status == 200 and set(seen) == {"127.0.0.1"}
        dns.names["move_test"] = ["127.0.0.2"]
        wait_for(lambda: gateway.get("/").status == 200 and "127.0.0.2" in seen, "the new address is used")
        dns.fail = True  # a server that fails takes nothing away
        asked = len(dns.asked)
        wait_for(lambda: gateway.get("/").status == 200 and len(dns.asked) > asked + 1, "it is asked again")
        assert gateway.get("/").status == 200


def test_requests_wait_for_the_first_name_only(home, names, everywhere):
    port, seen = everywhere
    dns = names(ttl=60, slow_test=["127.0.0.2"])
    dns.silent = True
    with Gateway(home, pool((f"127.0.0.1:{port}", 0), f"slow.test:{port}"), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        clients = [http1.Connection(gateway.proxy) for _ in range(6)]
        for c in clients:
            c.send_request("GET", "/x")
        wait_for(lambda: dns.asked, "the question")
        for c in clients[:3]:
            c.close()
        wait_for(lambda: gateway.log().count("prematurely closed connection") >= 3, "nginx sees them leave")
        dns.silent = False
        for c in clients[3:]:
            assert c.read_response().status == 200
            c.close()
        assert set(seen) == {"127.0.0.2"}
        dns.silent = True
        gateway.configure(pool(f"127.0.0.1:{port}", f"other.test:{port}"))
        assert gateway.get("/").status == 200  # one address is enough


def test_who_waits_for_an_upstream_that_a_filter_has_named_may_leave_after_it_was_replaced(home, names, origins):
    """The request's own reference is all that keeps it then."""
    dns = names(ttl=60)
    dns.silent = True
    install(home / "filters", "probe")
    choose = chain(("probe", "quiet\nrequest_headers: set_prop kong.service.upstream named.test"))

    def doc(target):
        route = {"filter_chains": [choose]}
        made = pool(at(origins[0]), route=route)
        made["upstreams"].append({"name": "named.test", "targets": [{"target": target}]})
        return made

    with Gateway(home, doc("slow.test:80"), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        clients = [http1.Connection(gateway.proxy) for _ in range(3)]
        for c in clients:
            c.send_request("GET", "/x")
        wait_for(lambda: dns.asked, "the question")
        gateway.configure(doc(at(origins[1])))
        assert echoed(gateway.get("/"))["headers"]["host"] == at(origins[1])
        for c in clients:
            c.close()
        wait_for(lambda: gateway.log().count("prematurely closed connection") >= 3, "nginx sees them leave")
        assert echoed(gateway.get("/"))["headers"]["host"] == at(origins[1])


def test_the_gateway_ends_while_a_name_is_looked_up(home, names):
    dns = names()
    dns.silent = True
    with Gateway(home, pool("slow.test:80"), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        with http1.Connection(gateway.proxy) as c:
            c.send_request("GET", "/x")
            wait_for(lambda: dns.asked, "the question")
            gateway.configure(pool("127.0.0.1:9", service={"retries": 0}))
        assert gateway.get("/").status == 502


def test_names_that_do_not_exist_leave_no_peer(home, names, origins):
    dns = names()
    with Gateway(home, pool("nowhere.test:80"), dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        for _ in range(3):
            response = gateway.get("/")
            assert response.status == 503 and json.loads(response.body)["message"] == NO_PEER
        gateway.configure(pool("nowhere.test:80", at(origins[0])))
        assert all(gateway.get("/").status == 200 for _ in range(4))


# ---- many targets ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def anywhere():
    """An origin on one port of all addresses; `seen` has those that were called."""
    seen = set()
    with socket.create_server(("0.0.0.0", 0)) as listener:

        def run():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(65536)
                        seen.add(peer.getsockname()[0])
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1], seen


def holds(gateway):
    """What held the worker for more than 5 ms, by the time that it computed."""
    return [int(us) for us in re.findall(r"held this worker for \d+ us, (\d+) of them computing", gateway.log()) if int(us) > 5000]


def test_an_upstream_of_10000_targets_holds_no_worker(home, anywhere):
    port, seen = anywhere

    def targets(n):
        return [f"127.{1 + i // 250}.{i % 250}.1:{port}" for i in range(n)]

    with Gateway(home, pool(*targets(10000)), workers=1).start() as gateway:
        for _ in range(3):
            assert gateway.get("/").status == 200
        gateway.configure(pool(*targets(10000), route={"paths": ["/other"]}))
        for _ in range(3):
            assert gateway.get("/other").status == 200
        assert len(seen) == 6  # the pool goes on, and keeps its turns
        if FLAVOR != "asan":
            assert holds(gateway) == []


def test_names_of_many_targets_are_asked_for_some_at_a_time(home, names, anywhere):
    port, seen = anywhere
    dns = names(**{f"t{i}_test": ["127.0.0.9"] for i in range(200)})
    with Gateway(home, pool(*(f"t{i}.test:{port}" for i in range(200))), workers=1, dns_resolver=f"127.0.0.1:{dns.port}").start() as gateway:
        wait_for(lambda: gateway.get("/").status == 200 and len(set(dns.asked)) == 200, "all names are asked for at last")
        assert seen == {"127.0.0.9"}
        dns.silent = True
        gateway.configure(pool(*(f"u{i}.test:{port}" for i in range(200))))
        with http1.Connection(gateway.proxy) as c:
            c.send_request("GET", "/")
            wait_for(lambda: len(set(dns.asked)) >= 264, "the first names are asked for")
            for _ in range(3):
                with http1.Connection(gateway.proxy) as more:
                    more.send_request("GET", "/")
        wait_for(lambda: (gateway.prefix / "logs/access.log").read_text().count(" 499 ") == 4, "all have left")
        assert len(set(dns.asked)) == 264
