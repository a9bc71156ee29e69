"""Requests of filters to Redis, against a real server and against peers that are none."""

import re
import shutil
import socket
import subprocess
import threading

import pytest

from support import http1, http2, probe
from support.nginx import wait_for
from support.redis_server import Redis
from support.upstream import payload

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")

ANSWER = ("redis_response: body x-answer", "redis_response: note x-status $code", "redis_response: resume")
PAUSE = "request_headers: pause"


@pytest.fixture(scope="module")
def server():
    redis = Redis().start()
    yield redis
    redis.remove()


@pytest.fixture
def redis(server):
    server.ask(b"FLUSHALL")
    return server


@pytest.fixture
def locked():
    redis = Redis(password="secret").start()
    redis.ask(b"ACL", b"SETUSER", b"worker", b"on", b">pass", b"~*", b"+@all")
    yield redis
    redis.remove()


@pytest.fixture
def calls(nginx, upstream):
    """The filter makes the clusters of `inits` known when it is configured."""

    def start(*inits, lines=ANSWER, http="", wasm="", extra="", workers=""):
        configure = [f"configure: redis_init {init}" for init in inits]
        servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {extra} {probe.use(*configure, *lines, probe.EXEC)} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}"
        nginx.start(servers, http=http, wasm=probe.module() + wasm)
        return nginx

    return start


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def ask(nginx, client, *lines):
    return client.get(port(nginx, client), "/bytes/5", probe.do(*lines))


def request(target, *words):
    return f"request_headers: redis {target} {' '.join(words)}"


def at(redis):
    return f"127.0.0.1:{redis.port}"


# ---- answers ----


def test_a_paused_request_goes_on_with_the_answer(calls, client, redis):
    nginx = calls(f"{at(redis)} 5000")
    answers = []
    for words in (("SET", "k", "v"), ("GET", "k"), ("GET", "none"), ("INCR", "n"), ("INCR", "n"), ("INCR", "k"), ("RPUSH", "l", "a", "b"), ("LRANGE", "l", "0", "-1"), ("NONSENSE",)):
        response = ask(nginx, client, request(at(redis), *words), PAUSE)
        assert (response.status, response.body, response.get("x-status")) == (200, payload(5), "0")
        answers.append(response.get("x-answer"))
    assert answers[:5] == ["+OK\\x0d\\x0a", "$1\\x0d\\x0av\\x0d\\x0a", "$-1\\x0d\\x0a", ":1\\x0d\\x0a", ":2\\x0d\\x0a"]
    assert answers[5].startswith("-ERR value is not an integer")
    assert answers[6].startswith(":2") and answers[7].startswith("*2") and answers[8].startswith("-ERR unknown command")
    assert redis.ask(b"GET", b"n") == b"$1\r\n2\r\n"


def test_binary_and_large_values_pass(calls, redis):
    nginx = calls(f"{at(redis)} 5000", lines=("redis_response: checksum x-sum", "redis_response: note x-size $size", "redis_response: resume"))
    value = bytes(range(256)) * 20000
    with socket.create_connection(("127.0.0.1", redis.port)) as sock:
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n%s\r\n" % (len(value), value))
        assert sock.recv(100) == b"+OK\r\n"
    response = ask(nginx, http1, request(at(redis), "GET", "big"), PAUSE)
    frame = b"$%d\r\n%s\r\n" % (len(value), value)
    fnv = 0x811C9DC5
    for byte in frame:
        fnv = (fnv ^ byte) * 0x01000193 & 0xFFFFFFFF
    assert (response.get("x-size"), response.get("x-sum")) == (str(len(frame)), f"{fnv:08x}")


def test_an_answer_for_which_there_is_no_room_is_a_failure(calls, redis):
    nginx = calls(f"{at(redis)} 5000", lines=("redis_response: note x-status $code", "redis_response: resume"), wasm="call_memory_limit 256k;", extra="location /metrics { sluice_metrics; }")
    redis.ask(b"SET", b"big", b"x" * 300000)
    redis.ask(b"SET", b"small", b"x" * 100)
    for _ in range(2):
        ask(nginx, http1, request(at(redis), "GET", "big"), PAUSE)
        ask(nginx, http1, request(at(redis), "GET", "small"), PAUSE)
    text = http1.get(nginx.port(), "/metrics").text
    assert 'sluice_calls_failed_total{kind="redis",reason="memory limit",filter="probe"} 2' in text
    assert 'sluice_calls_total{kind="redis",filter="probe"} 4' in text


def test_a_request_for_which_there_is_no_room_is_refused(calls, redis):
    nginx = calls(f"{at(redis)} 5000", wasm="call_memory_limit 2k;")
    response = ask(nginx, http1, request(at(redis), "SET", "k", "x" * 3000), "request_headers: status x-s", "request_headers: reply 200 done")
    assert response.get("x-s") == "10"
    assert ask(nginx, http1, request(at(redis), "SET", "k", "v"), PAUSE).get("x-answer").startswith("+OK")


def test_several_commands_have_one_answer(calls, client, redis):
    nginx = calls(f"{at(redis)} 5000", lines=("redis_response: note x-size $size", "redis_response: resume"))
    text = "*1\\r\\n$5\\r\\nMULTI\\r\\n*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$1\\r\\nv\\r\\n*1\\r\\n$4\\r\\nEXEC\\r\\n"
    response = ask(nginx, client, f"request_headers: redis_raw {at(redis)} {text}", PAUSE)
    assert response.get("x-size") == str(len("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"))


def test_many_requests_at_once_are_answered_in_their_order(calls, redis):
    lines = ("redis_response: note x-all $hex", "redis_response: body", "redis_response: log got $value", "redis_response@60: resume")
    nginx = calls(f"{at(redis)} 5000", lines=lines, extra="large_client_header_buffers 4 64k;")
    sends = [request(at(redis), "RPUSH", "order", str(i)) for i in range(60)]
    response = ask(nginx, http1, *sends, PAUSE)
    assert response.status == 200
    items = redis.ask(b"LRANGE", b"order", b"0", b"-1")
    assert items == b"*60\r\n" + b"".join(b"$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(60))
    assert redis.ask(b"INFO", b"clients").count(b"connected_clients:2") == 1  # this one, and the worker's


def test_a_command_that_blocks_does_not_hold_up_others(calls, redis):
    nginx = calls(f"{at(redis)} 10000")
    results = []
    waiting = threading.Thread(target=lambda: results.append(ask(nginx, http1, request(at(redis), "BLPOP", "list", "0"), PAUSE)))
    waiting.start()
    wait_for(lambda: b"blocked_clients:1" in redis.ask(b"INFO", b"clients"), "a blocked client")
    for i in range(4):
        assert ask(nginx, http1, request(at(redis), "INCR", "n"), PAUSE).get("x-answer").startswith(f":{i + 1}")
    redis.ask(b"RPUSH", b"list", b"x")
    waiting.join(10)
    assert results[0].get("x-answer").startswith("*2")


# ---- who asks, and when ----


@pytest.mark.parametrize("phase", ["request_body", "response_headers", "response_body", "log"])
def test_requests_may_be_made_in_every_phase(calls, client, redis, phase):
    nginx = calls(f"{at(redis)} 5000", lines=("redis_response: log answered $code",))
    response = client.request(port(nginx, client), "POST", "/bytes/500", probe.do(f"{phase}@1: redis {at(redis)} INCR n"), b"hello")
    assert response.body == payload(500)
    wait_for(lambda: redis.ask(b"GET", b"n") == b"$1\r\n1\r\n", "the increment")
    nginx.wait_log("answered 0")


@pytest.mark.parametrize("phase", ["configure", "tick@1"])
def test_root_contexts_may_ask(calls, redis, phase):
    lines = ("configure: tick 20", f"{phase}: redis {at(redis)} INCR n", "redis_response: log answered $code", f"redis_response@1: redis {at(redis)} INCR m")
    nginx = calls(f"{at(redis)} 5000", lines=lines)
    nginx.wait_log("answered 0", 2)
    wait_for(lambda: redis.ask(b"EXISTS", b"n", b"m") == b":2\r\n", "both")


def test_queue_events_may_ask(calls, client, redis):
    lines = ("configure: queue_register q", f"queue_ready: redis {at(redis)} INCR q", "redis_response: log answered $code")
    nginx = calls(f"{at(redis)} 5000", lines=lines)
    ask(nginx, client, "request_headers: queue_resolve \\e q", "request_headers: enqueue item")
    wait_for(lambda: redis.ask(b"EXISTS", b"q") == b":1\r\n", "the increment")


def test_a_client_that_leaves_leaves_the_rest_alone(calls, redis):
    nginx = calls(f"{at(redis)} 5000")
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", nginx.port())) as sock:
            lines = ";".join([request(at(redis), "BLPOP", "list", "1"), request(at(redis), "INCR", "left"), PAUSE])
            sock.sendall(f"GET /bytes/5 HTTP/1.1\r\nHost: a\r\nx-do: {lines}\r\n\r\n".encode())
            wait_for(lambda: redis.ask(b"EXISTS", b"left") == b":1\r\n", "the request at Redis")
        redis.ask(b"DEL", b"left")
    assert ask(nginx, http1, request(at(redis), "PING"), PAUSE).get("x-answer").startswith("+PONG")


def test_a_reload_and_an_end_with_requests_in_flight(calls, redis):
    nginx = calls(f"{at(redis)} 5000", lines=("configure: tick 20", f"tick: redis {at(redis)} BLPOP nothing 0", *ANSWER))
    wait_for(lambda: b"blocked_clients:0" not in redis.ask(b"INFO", b"clients"), "a blocked client")
    nginx.reload()
    assert http1.get(nginx.port(), "/bytes/5").body == payload(5)
    nginx.stop()
    wait_for(lambda: b"blocked_clients:0" in redis.ask(b"INFO", b"clients"), "the end of all connections")


def test_isolated_requests_know_the_clusters_of_the_configuration(calls, client, redis):
    nginx = calls(f"{at(redis)} 5000", extra="proxy_wasm_isolation request;")
    for i in range(3):
        assert ask(nginx, client, request(at(redis), "INCR", "n"), PAUSE).get("x-answer").startswith(f":{i + 1}")


# ---- upstreams, databases, users ----


def test_upstreams_and_databases_have_names(calls, client, redis):
    http = f"upstream named {{ server 127.0.0.1:1; server 127.0.0.1:{redis.port} backup; }}"
    nginx = calls("named?db=3 5000", f"{at(redis)} 5000", http=http)
    assert ask(nginx, client, request("named", "SET", "k", "three"), PAUSE).get("x-status") == "0"
    assert ask(nginx, client, request(at(redis), "GET", "k"), PAUSE).get("x-answer").startswith("$-1")
    assert ask(nginx, client, request(f"{at(redis)}?db=3", "GET", "k"), PAUSE).get("x-answer").startswith("$5")


def test_users_and_passwords(calls, client, locked):
    nginx = calls(f"{at(locked)} 5000 \\e secret")
    assert ask(nginx, client, request(at(locked), "PING"), PAUSE).get("x-answer").startswith("+PONG")
    assert "default" in ask(nginx, client, request(at(locked), "ACL", "WHOAMI"), PAUSE).get("x-answer")
    init = f"request_headers: redis_init {at(locked)} 5000 worker pass"
    assert "worker" in ask(nginx, client, init, request(at(locked), "ACL", "WHOAMI"), PAUSE).get("x-answer")


@pytest.mark.parametrize("credentials", ["\\e wrong", "worker wrong", "nobody pass"])
def test_a_wrong_password_is_a_failure(calls, client, locked, credentials):
    nginx = calls(f"{at(locked)} 5000 {credentials}")
    nginx.allow("user, password or database are refused")
    for _ in range(3):
        response = ask(nginx, client, request(at(locked), "SET", "k", "v"), PAUSE)
        assert (response.get("x-status"), response.get("x-answer")) == ("11", None)
    assert locked.ask(b"EXISTS", b"k") == b":0\r\n"


def test_no_password_is_an_answer_of_the_server(calls, client, locked):
    nginx = calls(f"{at(locked)} 5000")
    assert ask(nginx, client, request(at(locked), "GET", "k"), PAUSE).get("x-answer").startswith("-NOAUTH")


def test_a_database_that_does_not_exist_is_a_failure(calls, client, redis):
    nginx = calls(f"{at(redis)}?db=99 5000")
    nginx.allow("user, password or database are refused")
    assert ask(nginx, client, request(at(redis), "PING"), PAUSE).get("x-status") == "11"


# ---- failures ----


def test_nobody_listens(calls, client):
    nginx = calls("127.0.0.1:1 5000")
    nginx.allow("no peer could be reached")
    assert ask(nginx, client, request("127.0.0.1:1", "PING"), PAUSE).get("x-status") == "11"


def test_a_server_that_goes_away_and_comes_back(calls, client):
    redis = Redis().start()
    try:
        nginx = calls(f"{at(redis)} 5000")
        nginx.allow("Redis at")
        assert ask(nginx, client, request(at(redis), "PING"), PAUSE).get("x-status") == "0"
        redis.stop()
        assert ask(nginx, client, request(at(redis), "PING"), PAUSE).get("x-status") == "11"
        redis.start()
        assert ask(nginx, client, request(at(redis), "PING"), PAUSE).get("x-status") == "0"
    finally:
        redis.remove()


def test_a_slow_server_is_out_of_time_and_forgiven(calls, client, redis):
    nginx = calls(f"{at(redis)} 150")
    nginx.allow("waited too long")
    redis.ask(b"CLIENT", b"PAUSE", b"700", b"ALL")
    assert ask(nginx, client, request(at(redis), "INCR", "n"), PAUSE).get("x-status") == "11"
    wait_for(lambda: ask(nginx, client, request(at(redis), "PING"), PAUSE).get("x-status") == "0", "an answer in time")


@pytest.mark.parametrize("bytes_sent, close", [(b"HTTP/1.1 400 Bad Request\r\n\r\n", False), (b"$100\r\nshort", True), (b"", True), (b"+" + b"x" * 200000, False), (b"*2000000000\r\n" * 20000, False), (b"$99999999999\r\n", False), (b"+OK\r\n+MORE\r\n", False)])
def test_peers_that_are_no_redis(calls, bytes_sent, close):
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.recv(1000)
            try:
                sock.sendall(bytes_sent)
            except OSError:
                pass
            if close:
                sock.close()
            held.append(sock)

    threading.Thread(target=serve, daemon=True).start()
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    try:
        nginx = calls(f"{target} 300")
        nginx.allow("Redis at")
        expected = "0" if bytes_sent.startswith(b"+OK") else "11"
        for _ in range(3):
            assert ask(nginx, http1, request(target, "PING"), PAUSE).get("x-status") == expected
    finally:
        listener.close()


def test_what_is_bad_for_others_is_refused(calls, client, redis):
    nginx = calls(f"{at(redis)} 5000")
    for words in (("SELECT", "1"), ("AUTH", "x"), ("SUBSCRIBE", "c"), ("MULTI",), ("HELLO", "3")):
        response = ask(nginx, client, request(at(redis), *words), "request_headers: status x-refused")
        assert response.get("x-refused") == "2"


# ---- operators ----


def numbers(nginx):
    """The counters of calls out, by name and reason, or by name alone."""
    found = {}
    for line in http1.get(nginx.port(), "/metrics").text.splitlines():
        match = re.fullmatch(r'sluice_calls_(\w+)\{kind="redis",(?:reason="([^"]+)",)?filter="probe"\} (\d+)', line)
        if match and match[3] != "0":
            found[match[2] or match[1]] = int(match[3])
    return found


METRICS = "location = /metrics { sluice_metrics; }"


def test_calls_are_counted_by_filter_and_reason(calls, redis, locked):
    listener = socket.create_server(("127.0.0.1", 0))
    garbage = f"127.0.0.1:{listener.getsockname()[1]}"

    def serve():
        with listener.accept()[0] as sock:
            sock.recv(1000)
            sock.sendall(b"HTTP/1.1 400\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        nginx = calls(f"{at(redis)} 200", f"{at(locked)} 5000 \\e wrong", "127.0.0.1:1 5000", f"{garbage} 5000", extra=METRICS)
        nginx.allow("Redis at")
        assert numbers(nginx) == {}
        targets = ((request(at(redis), "PING"), "0"), (request(at(redis), "NONSENSE"), "0"), (request(at(locked), "PING"), "11"), (request("127.0.0.1:1", "PING"), "11"), (request(garbage, "PING"), "11"), (request(at(redis), "BLPOP", "nothing", "0"), "11"))
        for line, status in targets:
            assert ask(nginx, http1, line, PAUSE).get("x-status") == status
        assert numbers(nginx) == {"total": 6, "login refused": 1, "broken connection": 1, "reader failure": 1, "timeout": 1}
    finally:
        listener.close()


def test_calls_in_flight_and_those_that_end_with_their_filter_are_counted(nginx, calls, redis):
    nginx.workers = 1
    calls(f"{at(redis)} 0", lines=("request_headers?x-trap: trap",), extra=METRICS)
    nginx.allow("trap")
    for _ in range(2):
        ask(nginx, http1, request(at(redis), "BLPOP", "nothing", "0"))
    assert numbers(nginx) == {"total": 2, "in_flight": 2}
    http1.get(nginx.port(), "/bytes/5", [("x-trap", "1")])
    assert numbers(nginx) == {"total": 2, "dropped_total": 2}


# ---- TLS ----


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redistls")
    names = "subjectAltName=DNS:good.test,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=good.test", "-addext", names, "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, capture_output=True,
    )
    redis = Redis(password="secret", tls=folder).start()
    yield redis
    redis.remove()


def test_redis_over_tls_is_verified(calls, client, secure):
    cluster = f"127.0.0.1:{secure.tls_port}"
    nginx = calls(f"rediss://{cluster}?db=2 5000 \\e secret", wasm=f"tls_trusted_certificate {secure.tls}/cert.pem;")
    for words, answer in ((("SET", "k", "v"), "+OK"), (("GET", "k"), "$1"), (("CLIENT", "GETNAME"), None)):
        response = ask(nginx, client, request(cluster, *words), PAUSE if answer else "request_headers: status x-s")
        assert response.get("x-answer").startswith(answer) if answer else response.get("x-s") == "2"
    clients = int(re.search(rb"connected_clients:(\d+)", secure.ask(b"INFO", b"clients"))[1])
    assert clients <= 1 + nginx.workers  # this one, and one of each worker


def test_an_unknown_authority_of_redis_is_not_trusted(calls, client, secure):
    cluster = f"127.0.0.1:{secure.tls_port}"
    nginx = calls(f"rediss://{cluster} 5000 \\e secret", extra="location /metrics { sluice_metrics; }")
    assert ask(nginx, client, request(cluster, "PING"), PAUSE).get("x-status") == "11"
    text = http1.get(nginx.port(), "/metrics").text
    assert 'sluice_calls_failed_total{kind="redis",reason="tls handshake failure",filter="probe"} 1' in text


def test_redis_in_cleartext_is_not_tls(calls, client, secure):
    cluster = f"127.0.0.1:{secure.port}"
    nginx = calls(f"rediss://{cluster} 5000 \\e secret", wasm="tls_verify_cert off; tls_verify_host off;")
    assert ask(nginx, client, request(cluster, "PING"), PAUSE).get("x-status") == "11"


def test_many_requests_over_tls_are_answered_in_their_order(calls, secure):
    cluster = f"127.0.0.1:{secure.tls_port}"
    lines = ("redis_response: body", "redis_response@60: resume")
    nginx = calls(f"rediss://{cluster} 5000 \\e secret", lines=lines, extra="large_client_header_buffers 4 64k;", wasm="tls_verify_cert off; tls_verify_host off; tls_no_verify_warn off;")
    sends = [request(cluster, "RPUSH", "order", str(i)) for i in range(60)]
    assert ask(nginx, http1, *sends, PAUSE).status == 200
    assert secure.ask(b"LRANGE", b"order", b"0", b"-1").startswith(b"*60\r\n$1\r\n0\r\n$1\r\n1\r\n")
