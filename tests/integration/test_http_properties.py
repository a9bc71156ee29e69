"""Properties over HTTP: Envoy's attributes with their encodings, WasmX's texts, and nginx's variables."""

import re
import socket
import ssl
import subprocess
import time

import pytest

from support import http1, http2, probe


def start(nginx, upstream, *lines, extra="", locations="", http=""):
    location = f"location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }}"
    servers = f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; server_name the.server; {extra} {probe.use(*lines, probe.EXEC)} {locations} {location} }}"
    nginx.start(servers, http=http, wasm=probe.module())
    return nginx


def port(nginx, client):
    return nginx.port("2" if client is http2 else "main")


def read(client, nginx, *paths, phase="response_headers", path="/bytes/5?a=b&c", method="GET", headers=(), kind="value"):
    """The values of properties, or None."""
    lines = []
    for i, name in enumerate(paths):
        lines += [f"{phase}: prop {name}", f"{phase}: note x-s{i} $status", f"{phase}: note x-p{i} ${kind}"]
    response = client.request(port(nginx, client), method, path, [*headers, *probe.do(*lines)], host="some.host:81")
    return [response.get(f"x-p{i}") if response.get(f"x-s{i}") == "0" else None for i in range(len(paths))]


def number(text):
    return int.from_bytes(bytes.fromhex(text), "little", signed=True)


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_texts_of_the_request(nginx, upstream, client, phase):
    start(nginx, upstream)
    headers = [("User-Agent", "agent"), ("Referer", "http://r/"), ("X-Request-Id", "id-1"), ("X-Two", "1"), ("X-Two", "2")]
    names = ["request.path", "request.url_path", "request.query", "request.host", "request.scheme", "request.method", "request.useragent", "request.referer", "request.id", "request.headers.x-two", "request.headers.absent"]
    values = read(client, nginx, *names, phase=phase, headers=headers)
    assert values == ["/bytes/5?a=b&c", "/bytes/5", "a=b&c", "some.host:81", "http", "GET", "agent", "http://r/", "id-1", "1,2", None]


def test_the_protocol(nginx, upstream, client):
    start(nginx, upstream)
    assert read(client, nginx, "request.protocol") == ["HTTP/2" if client is http2 else "HTTP/1.1"]


def test_numbers_are_eight_bytes(nginx, upstream, client):
    start(nginx, upstream)
    code, size, total, hbytes, destination, source, connection, attempts = read(
        client, nginx, "response.code", "request.size", "request.total_size", "request.headers_bytes", "destination.port", "source.port", "connection.id", "upstream.request_attempt_count", kind="hex"
    )
    assert number(code) == 200
    assert number(size) == 0
    assert number(total) > 40 and number(hbytes) > 40
    assert number(destination) == port(nginx, client)
    assert number(source) > 1000
    assert len(connection) == 16 and number(connection) > 0
    assert number(attempts) == 1


def test_the_size_of_a_request_is_its_content_length(nginx, upstream, client):
    start(nginx, upstream, "response_headers: prop request.size", "response_headers: note x-size $hex")
    assert number(client.request(port(nginx, client), "POST", "/bytes/5", body=b"hello").get("x-size")) == 5


def test_addresses(nginx, upstream, client):
    start(nginx, upstream)
    source, destination, up, local = read(client, nginx, "source.address", "destination.address", "upstream.address", "upstream.local_address")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", source)
    assert destination == f"127.0.0.1:{port(nginx, client)}"
    assert up == f"127.0.0.1:{upstream.port}"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", local)


def test_times(nginx, upstream, client):
    start(nginx, upstream)
    (when,) = read(client, nginx, "request.time", kind="hex")
    assert abs(number(when) / 1e9 - time.time()) < 5
    assert read(client, nginx, "request.duration") == [None]


def test_what_is_known_at_the_end(nginx, upstream, client):
    lines = ["log: prop request.duration", "log: log duration=$hex", "log: prop response.size", "log: log size=$hex", "log: prop response.code_details", "log: log details=$value"]
    start(nginx, upstream, *lines)
    client.get(port(nginx, client), "/bytes/5000")
    nginx.wait_log("details=")
    assert any("details=via_upstream" in line for line in nginx.log_lines("details="))
    size = number(re.search(r"size=([0-9a-f]{16})", "\n".join(nginx.log_lines(" size="))).group(1))
    assert 5000 <= size < 5100


def test_names_of_places(nginx, upstream, client):
    start(nginx, upstream, http=f"upstream named {{ server 127.0.0.1:{upstream.port}; }}", locations="location /named/ { proxy_pass http://named/; }")
    route, host, cluster, direction = read(client, nginx, "xds.route_name", "xds.virtual_host_name", "cluster_name", "xds.listener_direction")
    assert (route, host, cluster) == ("/", "the.server", "127.0.0.1")
    assert read(client, nginx, "xds.cluster_name", "route_name", path="/named/bytes/1") == ["named", "/named/"]
    assert read(client, nginx, "node.id") == [socket.gethostname().lower()]


def test_plugin_names(nginx, upstream, client):
    start(nginx, upstream)
    assert read(client, nginx, "plugin_name", "plugin_root_id", "plugin_vm_id") == ["probe", "", ""]


def test_maps_are_pairs(nginx, upstream, client):
    start(nginx, upstream)
    (value,) = read(client, nginx, "request.headers", kind="hex", headers=[("X-Mark", "m")])
    raw = bytes.fromhex(value)
    assert int.from_bytes(raw[:4], "little") >= 5
    assert b"x-mark\0m\0" in raw


def test_unknown_properties_are_not_found(nginx, upstream, client):
    start(nginx, upstream)
    assert read(client, nginx, "no.such", "request.nothing", "connection.tls_version", "ngx.no_such_variable") == [None] * 4
    assert read(client, nginx, "upstream.address", "response.code", phase="request_headers") == [None, None]


def test_variables_of_nginx(nginx, upstream, client):
    start(nginx, upstream, extra="set $mine before;")
    assert read(client, nginx, "ngx.request_uri", "ngx.mine", "ngx.server_name") == ["/bytes/5?a=b&c", "before", "the.server"]
    lines = ("response_headers: set_prop ngx.mine after", "response_headers: prop ngx.mine x-mine", "response_headers: set_prop ngx.request_uri x", "response_headers: status x-ro")
    response = client.get(port(nginx, client), "/bytes/5", probe.do(*lines))
    assert (response.get("x-mine"), response.get("x-ro")) == ("after", "2")


def test_what_a_filter_keeps_the_next_one_sees(nginx, upstream, client):
    filters = probe.use("request_headers: set_prop my.key from-first") + probe.use("response_headers: prop my.key x-seen")
    nginx.start(f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; {filters} location / {{ return 200; }} }}", wasm=probe.module())
    assert client.get(port(nginx, client)).get("x-seen") == "from-first"


def test_values_are_text_in_the_dialect_of_wasmx(nginx, upstream, client):
    start(nginx, upstream, extra="proxy_wasm_dialect wasmx;")
    code, source, mtls, sub = read(client, nginx, "response.code", "source.port", "connection.mtls", "request.is_subrequest")
    assert (code, mtls, sub) == ("200", "false", "false")
    assert 1000 < int(source) < 65536


# ---- TLS ----


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")

    def make(name, subject, san):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", subject, "-addext", f"subjectAltName={san}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"],
            check=True, capture_output=True,
        )

    make("server", "/CN=server.test/O=Us", "DNS:server.test,URI:spiffe://us/server")
    make("client", "/CN=client.test/O=Them", "DNS:client.test,URI:spiffe://them/client")
    return folder


def tls_request(port, certificates, with_certificate, headers):
    context = ssl.create_default_context(cafile=f"{certificates}/server.pem")
    if with_certificate:
        context.load_cert_chain(f"{certificates}/client.pem", f"{certificates}/client.key")
    connection = http1.Connection(port)
    connection.sock = context.wrap_socket(connection.sock, server_hostname="server.test")
    with connection as c:
        c.send_request("GET", "/", [*headers, ("Connection", "close")])
        return c.read_response()


def tls_read(nginx, certificates, with_certificate, *names):
    lines = []
    for i, name in enumerate(names):
        lines += [f"response_headers: prop {name}", f"response_headers: note x-s{i} $status", f"response_headers: note x-p{i} $value"]
    response = tls_request(nginx.port("tls"), certificates, with_certificate, probe.do(*lines))
    return [response.get(f"x-p{i}") if response.get(f"x-s{i}") == "0" else None for i in range(len(names))]


@pytest.fixture
def tls(nginx, certificates):
    listen = f"listen 127.0.0.1:@PORTtls@ ssl; ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key; ssl_verify_client optional_no_ca;"
    nginx.start(f"server {{ {listen} {probe.use(probe.EXEC)} location / {{ return 200; }} }}", wasm=probe.module())
    return nginx


def test_the_tls_connection(tls, certificates):
    names = ["connection.tls_version", "connection.requested_server_name", "connection.subject_local_certificate", "connection.dns_san_local_certificate", "connection.uri_san_local_certificate", "request.scheme"]
    version, sni, subject, dns, uri, scheme = tls_read(tls, certificates, False, *names)
    assert version.startswith("TLSv1.")
    assert (sni, dns, uri, scheme) == ("server.test", "server.test", "spiffe://us/server", "https")
    assert subject == "O=Us,CN=server.test"


def test_the_clients_certificate(tls, certificates):
    names = ["connection.subject_peer_certificate", "connection.dns_san_peer_certificate", "connection.uri_san_peer_certificate", "connection.sha256_peer_certificate_digest", "connection.peer_certificate"]
    subject, dns, uri, digest, pem = tls_read(tls, certificates, True, *names)
    assert (subject, dns, uri) == ("O=Them,CN=client.test", "client.test", "spiffe://them/client")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert pem.startswith("-----BEGIN%20CERTIFICATE-----%0A")
    assert tls_read(tls, certificates, False, *names) == [None] * 5
