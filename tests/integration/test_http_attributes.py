"""Every attribute that filters can read, over HTTP/1.1, HTTP/2 and TLS: its value where it is known, absent where it is not."""

import re
import ssl
import subprocess

import pytest

from support import http1, http2, probe
from support.nginx import ROOT, free_port

ROWS = re.compile(r'\{"([a-z_0-9.]+)", ?get_|prefix "(\.[a-z_0-9]+)", ?get_')


def table():
    """The paths of the tables of the module."""
    found = set()
    for file in (ROOT / "src/nginx/http").glob("ngx_http_sluice_prop*.c"):
        for whole, tls in ROWS.findall(file.read_text()):
            found |= {whole} if whole else {f"connection{tls}", f"upstream{tls}"}
    return found


CORE = {"plugin_name", "plugin_root_id", "plugin_vm_id", "plugin_vm_memory", "filter_state"}


def test_every_attribute_is_in_the_reference_and_none_is_invented():
    text = (ROOT / "docs/reference/properties.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_0-9<>]+)*)`", " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))))
    here = {name for name in named if "<" not in name}
    assert table() | CORE <= here, sorted((table() | CORE) - here)
    assert {name for name in here if name.split(".")[0] not in ("ngx", "wasmx", "kong")} <= table() | CORE


# ---- kinds of values: a function of (hex digits, world) ----


def text_is(wanted):
    def check(hexed, world):
        got = bytes.fromhex(hexed).decode()
        want = wanted(world) if callable(wanted) else wanted
        assert got == want

    return check


def matches(pattern):
    return lambda hexed, world: re.fullmatch(pattern, bytes.fromhex(hexed).decode()) or pytest.fail(bytes.fromhex(hexed).decode())


def number(low, high=None):
    def check(hexed, world):
        assert len(hexed) == 16
        n = int.from_bytes(bytes.fromhex(hexed), "little", signed=True)
        a, b = low(world) if callable(low) else (low, high if high is not None else low)
        assert a <= n <= b, n

    return check


def boolean(wanted):
    return lambda hexed, world: hexed == ("01" if (wanted(world) if callable(wanted) else wanted) else "00") or pytest.fail(hexed)


def pairs(*some):
    def check(hexed, world):
        raw = bytes.fromhex(hexed)
        assert 1 <= int.from_bytes(raw[:4], "little") < 50
        for key, value in some:
            assert key + b"\0" + value + b"\0" in raw

    return check


HOUR_NS = 3600 * 10**9
PORT = lambda w: (w.port, w.port)  # noqa: E731
# path: what holds in response_headers of a proxied request
PLAIN = {
    "request.path": text_is("/etag/50?a=b&c"),
    "request.url_path": text_is("/etag/50"),
    "request.query": text_is("a=b&c"),
    "request.host": text_is("some.host:81"),
    "request.scheme": text_is(lambda w: "https" if w.tls else "http"),
    "request.method": text_is("POST"),
    "request.headers": pairs((b"x-mark", b"m"), (b":method", b"POST")),
    "request.headers_bytes": number(50, 20000),
    "request.referer": text_is("http://r/"),
    "request.useragent": text_is("agent"),
    "request.id": text_is("id-1"),
    "request.time": number(1700000000 * 10**9, 4000000000 * 10**9),
    "request.protocol": text_is(lambda w: "HTTP/2" if w.h2 else "HTTP/1.1"),
    "request.duration": None,
    "request.size": number(5),
    "request.total_size": number(50, 20000),
    "request.is_subrequest": boolean(False),
    "response.code": number(200),
    "response.code_details": text_is("via_upstream"),
    "response.flags": number(0),
    "response.grpc_status": None,
    "response.headers": pairs((b":status", b"200"), (b"content-type", b"text/plain")),
    "response.headers_bytes": number(0, 0),
    "response.trailers": None,
    "response.size": number(0, 0),
    "response.total_size": number(0, 0),
    "source.address": matches(r"127\.0\.0\.1:\d+"),
    "source.port": number(1024, 65535),
    "destination.address": text_is(lambda w: f"127.0.0.1:{w.port}"),
    "destination.port": number(PORT),
    "connection.id": number(1, 10**9),
    "connection_id": number(1, 10**9),
    "connection.mtls": boolean(lambda w: w.tls),
    "connection.requested_server_name": text_is(lambda w: "server.test" if w.tls else ""),
    "upstream.address": text_is(lambda w: f"127.0.0.1:{w.up}"),
    "upstream.port": number(lambda w: (w.up, w.up)),
    "upstream.num_endpoints": number(1),
    "upstream.locality": text_is(""),
    "upstream.local_address": matches(r"127\.0\.0\.1:\d+"),
    "upstream.request_attempt_count": number(1),
    "upstream.cx_pool_ready_duration": number(0, HOUR_NS),
    "upstream.transport_failure_reason": text_is(""),
    "response.backend_latency": None,
    "xds.cluster_name": text_is("backend"),
    "cluster_name": text_is("backend"),
    "xds.route_name": text_is("/"),
    "route_name": text_is("/"),
    "xds.virtual_host_name": text_is("the.server"),
    "xds.filter_chain_name": text_is(""),
    "xds.listener_direction": number(1),
    "listener_direction": number(1),
    "metadata": text_is(""),
    "plugin_name": text_is("probe"),
    "plugin_root_id": text_is(""),
    "plugin_vm_id": text_is(""),
    "plugin_vm_memory": number(65536, 1 << 32),
    "filter_state": pairs((b"wasm.kept", b"yes")),
}
for name in ("cluster", "route", "virtual_host", "upstream_host", "upstream_host_locality", "listener"):
    PLAIN[f"xds.{name}_metadata"] = text_is("")
for name in ("cluster", "route", "upstream_host", "listener"):
    PLAIN[f"{name}_metadata"] = text_is("")
for prefix in ("", "xds."):
    PLAIN[f"{prefix}node"] = matches(r"(?s)\n.+")
    PLAIN[f"{prefix}node.id"] = matches(r".+")

CERT = {
    "tls_version": matches(r"TLSv1\.[23]"),
    "subject_local_certificate": None,
    "subject_peer_certificate": None,
    "dns_san_local_certificate": None,
    "dns_san_peer_certificate": None,
    "uri_san_local_certificate": None,
    "uri_san_peer_certificate": None,
    "sha256_peer_certificate_digest": matches("[0-9a-f]{64}"),
    "peer_certificate": matches(r"(?s)-----BEGIN%20CERTIFICATE-----.*"),
}


def certificate(side, local, peer):
    rows = dict(CERT)
    for who, where in ((local, "local"), (peer, "peer")):
        rows[f"subject_{where}_certificate"] = text_is(f"CN={who}.test")
        rows[f"dns_san_{where}_certificate"] = text_is(f"{who}.test")
        rows[f"uri_san_{where}_certificate"] = text_is(f"spiffe://us/{who}")
    return {f"{side}.{name}": check for name, check in rows.items()}


def expected(tls):
    none = {f"{side}.{name}": None for side in ("connection", "upstream") for name in CERT}
    if not tls:
        return {**PLAIN, **none}
    return {**PLAIN, **certificate("connection", "server", "client"), **certificate("upstream", "client", "server")}


# what is different in the log
LOG = {
    "request.duration": number(0, HOUR_NS),
    "response.headers_bytes": number(40, 20000),
    "response.size": number(50, 200),
    "response.total_size": number(90, 20000),
    "response.backend_latency": number(0, HOUR_NS),
    "upstream.local_address": None,
}


# ---- the world ----


class World:
    def __init__(self, port, up, tls, h2):
        self.port, self.up, self.tls, self.h2 = port, up, tls, h2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attributes")
    for name in ("server", "client"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}.test",
             "-addext", f"subjectAltName=DNS:{name}.test,URI:spiffe://us/{name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"],
            check=True, capture_output=True,
        )
    return folder


def tls_context(certificates, h2):
    context = ssl.create_default_context(cafile=f"{certificates}/server.pem")
    context.load_cert_chain(f"{certificates}/client.pem", f"{certificates}/client.key")
    context.set_alpn_protocols(["h2"] if h2 else ["http/1.1"])
    return context


HEADERS = [("User-Agent", "agent"), ("Referer", "http://r/"), ("X-Request-Id", "id-1"), ("X-Mark", "m")]
SETUPS = [(False, False), (False, True), (True, False), (True, True)]
IDS = ["http1", "http2", "tls-http1", "tls-http2"]


def request(port, certificates, tls, h2, path="/etag/50?a=b&c", headers=HEADERS):
    client = http2 if h2 else http1
    context = tls_context(certificates, h2) if tls else None
    with client.Connection(port, tls=context, server_name="server.test") as c:
        if h2:
            stream = c.send_headers("POST", path, [*headers, ("content-length", "5")], "some.host:81", end=False)
            c.send_data(stream, b"hello", end=True)
            return c.finish(stream)
        c.send_request("POST", path, [*headers, ("Connection", "close")], b"hello", host="some.host:81")
        return c.read_response("POST")


def start(nginx, upstream, certificates, tls, lines, extra="", locations=""):
    """With TLS the origin is reached through a second server of the same nginx, with a certificate of its own."""
    back = free_port()
    files = f"ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key; ssl_verify_client optional_no_ca;"
    over = (
        # nginx leaves a kept session behind when a worker ends.
        f"proxy_pass https://backend; proxy_ssl_session_reuse off; proxy_ssl_certificate {certificates}/client.pem; proxy_ssl_certificate_key {certificates}/client.key;"
        if tls else "proxy_pass http://backend;"
    )
    listen = (
        f"listen 127.0.0.1:@PORT@ ssl; listen 127.0.0.1:@PORT2@ ssl http2; {files}" if tls else "listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2;"
    )
    nginx.start(
        f"server {{ {listen} server_name the.server; {extra} {probe.use(*lines)} {locations} location / {{ {over} }} }}"
        f"server {{ listen 127.0.0.1:{back} ssl; {files} location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }} }}",
        http=f"upstream backend {{ server 127.0.0.1:{back if tls else upstream.port}; keepalive 4; }}",
        wasm=probe.module(),
    )
    return back if tls else upstream.port


def lines_for(phase, names):
    return [line for i, name in enumerate(names) for line in (f"{phase}: prop {name}", f"{phase}: log seen {phase} {name} $status [$hex]")]


def seen(nginx, phase):
    nginx.wait_log(f"seen {phase} done")
    found = re.findall(rf"seen {phase} ([a-z_.0-9]+) (\d+) \[([0-9a-f]*)\]", nginx.log())
    return {name: (int(status), value) for name, status, value in found}


@pytest.mark.parametrize("tls, h2", SETUPS, ids=IDS)
def test_all_attributes_in_response_headers_and_log(nginx, upstream, certificates, tls, h2):
    want = expected(tls)
    assert set(want) >= table() | CORE, sorted((table() | CORE) - set(want))
    up = start(nginx, upstream, certificates, tls, ["quiet", "request_headers: set_prop kept yes", probe.EXEC])
    port, names = nginx.port("2" if h2 else "main"), sorted(want)
    world = World(port, up, tls, h2)
    long = [name for name in names if name.endswith((".headers", ".peer_certificate"))]  # a line of the log takes 2048 bytes
    short = [name for name in names if name not in long]
    for batch in [[name] for name in long] + [short[i : i + 15] for i in range(0, len(short), 15)]:
        lines = [line for phase in ("response_headers", "log") for line in lines_for(phase, batch)]
        assert request(port, certificates, tls, h2, headers=[*HEADERS, *probe.do(*lines)]).status == 200
    last = [f"{phase}: log seen {phase} done" for phase in ("response_headers", "log")]
    request(port, certificates, tls, h2, headers=[*HEADERS, *probe.do(*last)])
    for phase, rows in (("response_headers", want), ("log", {**want, **LOG})):
        got = seen(nginx, phase)
        wrong = []
        for name, check in rows.items():
            status, value = got[name]
            try:
                assert status == (0 if check else 1), f"status {status}"
                if check:
                    check(value, world)
            except (AssertionError, pytest.fail.Exception) as e:
                wrong.append(f"{phase} {name}: {e}")
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("h2", [False, True], ids=["http1", "http2"])
def test_what_is_not_known_while_the_request_comes(nginx, upstream, certificates, h2):
    absent = [name for name in expected(False) if re.match(r"response\.|upstream\.|cluster_name|xds.cluster_name", name) and name not in ("response.flags", "upstream.locality", "upstream.request_attempt_count")]
    start(nginx, upstream, certificates, False, ["quiet", *lines_for("request_headers", absent), "request_headers: log seen request_headers done"])
    request(nginx.port("2" if h2 else "main"), certificates, False, h2)
    got = seen(nginx, "request_headers")
    assert [name for name in absent if got[name][0] != 1] == []


def test_a_filters_own_answer_has_its_details_and_no_upstream(nginx, upstream, certificates):
    names = ["response.code_details", "response.code", "upstream.address", "upstream.request_attempt_count"]
    start(nginx, upstream, certificates, False, ["quiet", "request_headers: reply 403 no details=a_reason", *lines_for("log", names), "log: log seen log done"])
    assert request(nginx.port(), certificates, False, False).status == 403
    got = seen(nginx, "log")
    assert bytes.fromhex(got["response.code_details"][1]) == b"a_reason"
    assert got["response.code"] == (0, (403).to_bytes(8, "little").hex())
    assert got["upstream.address"][0] == 1 and got["upstream.request_attempt_count"] == (0, "00" * 8)


def test_flags_and_grpc_status_of_an_upstream_that_is_not_there(nginx, upstream, certificates):
    names = ["response.flags", "response.grpc_status", "upstream.request_attempt_count"]
    nobody = f"location /nobody {{ proxy_pass http://127.0.0.1:{free_port()}; }}"
    start(nginx, upstream, certificates, False, ["quiet", *lines_for("log", names), "log: log seen log done"], locations=nobody)
    http1.request(nginx.port(), "POST", "/nobody", [("Content-Type", "application/grpc")], b"x")
    got = {name: int.from_bytes(bytes.fromhex(value), "little") for name, (status, value) in seen(nginx, "log").items()}
    assert got == {"response.flags": 0x20, "response.grpc_status": 14, "upstream.request_attempt_count": 1}


def test_a_client_that_left_is_a_flag(nginx, upstream, certificates):
    start(nginx, upstream, certificates, False, ["quiet", *lines_for("log", ["response.flags"]), "log: log seen log done"])
    connection = http1.Connection(nginx.port())
    connection.send_request("GET", "/hang")
    assert upstream.hanging.wait(10)
    connection.close()
    assert int.from_bytes(bytes.fromhex(seen(nginx, "log")["response.flags"][1]), "little") == 0x4000


def test_unix_sockets_have_a_path_and_no_port(nginx, upstream, certificates, tmp_path):
    names = ["destination.address", "destination.port", "upstream.address", "upstream.port", "source.port"]
    lines = ["quiet", *lines_for("response_headers", names), "response_headers: log seen response_headers done"]
    nginx.start(
        f"server {{ listen 127.0.0.1:@PORT@; location / {{ proxy_pass http://unix:{tmp_path}/s.sock; }} }}"
        f"server {{ listen unix:{tmp_path}/s.sock; {probe.use(*lines)} location / {{ proxy_pass http://unix:{tmp_path}/t.sock; }} }}"
        f"server {{ listen unix:{tmp_path}/t.sock; location / {{ return 200; }} }}",
        wasm=probe.module(),
    )
    assert http1.get(nginx.port()).status == 200
    got = seen(nginx, "response_headers")
    assert bytes.fromhex(got["destination.address"][1]).decode() == f"{tmp_path}/s.sock"
    assert bytes.fromhex(got["upstream.address"][1]).decode() == f"{tmp_path}/t.sock"
    assert [got[name][0] for name in ("destination.port", "upstream.port", "source.port")] == [1, 1, 1]
