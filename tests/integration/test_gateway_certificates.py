"""TLS on both sides: certificates by server name from the store, and what a service shows and asks of its upstream."""

import json
import socket
import ssl
import threading

import pytest
from gateway_helpers import (  # noqa: F401
    Gateway,
    TlsConnection,
    TlsHttp2,
    document,
    echoed,
    folder,
    free_port,
    home,
    one_service,
    origin,
    origin_server,
    wait_for,
)
from gateway_tls import authority, certificate, common_name, tls_origin
from support import http1


def tls_gateway(path, config=None, **settings):
    gateway = Gateway(path, config, **settings)
    gateway.tls = free_port()
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{gateway.tls} ssl http2"
    return gateway


@pytest.fixture(scope="module")
def gateway(origin_server):
    with folder() as path, tls_gateway(path, one_service(origin_server.url)).start() as gateway:
        yield gateway


def shown(gateway, name, connection=TlsConnection):
    with connection(gateway.tls, name) as c:
        return common_name(c.sock)


def entry(pair, *snis, **more):
    return {"cert": pair[0], "key": pair[1], "snis": [{"name": n} for n in snis], **more}


# ---- from clients -----------------------------------------------------------------------------------------------------------


def test_the_certificate_is_chosen_by_the_server_name(gateway, origin):
    names = {n: certificate(n) for n in ("exact.a.test", "wild.a.test", "start.test", "default.test")}
    certificates = [
        entry(names["exact.a.test"], "exact.a.test"),
        entry(names["wild.a.test"], "*.a.test"),
        entry(names["start.test"], "shop.*", "exact.a.*"),
    ]
    gateway.configure({**one_service(origin.url), "certificates": certificates})
    expected = {
        "exact.a.test": "exact.a.test",
        "EXACT.A.test": "exact.a.test",
        "other.a.test": "wild.a.test",
        "deep.other.a.test": "localhost",  # a wildcard stands for one label
        "shop.test": "start.test",
        "exact.a.org": "start.test",
        "unknown.test": "localhost",
        None: "localhost",
    }
    default = shown(gateway, "unknown.test")
    for connection in (TlsConnection, TlsHttp2):
        assert {name: shown(gateway, name, connection) for name in expected} == {
            name: default if cn == "localhost" else cn for name, cn in expected.items()
        }
    gateway.configure({**one_service(origin.url), "certificates": [*certificates, entry(names["default.test"], "*")]})
    assert [shown(gateway, n) for n in ("unknown.test", None, "shop.test")] == ["default.test", "default.test", "start.test"]


def test_certificates_change_without_a_reload(home, origin):
    with tls_gateway(home, declarative_config=None, database="sqlite", workers=2).start() as gateway:

        def admin(method, path, doc):
            response = http1.request(gateway.admin, method, path, [("Content-Type", "application/json")], json.dumps(doc).encode())
            assert response.status in (200, 201, 204), response.text
            return json.loads(response.body)

        workers = gateway.workers()
        first, second = certificate("first.test"), certificate("second.test")
        made = admin("POST", "/certificates", {"cert": first[0], "key": first[1], "snis": ["a.test"]})
        for _ in range(6):
            assert shown(gateway, "a.test") == "first.test"
        with TlsConnection(gateway.tls, "a.test") as kept:
            admin("PATCH", f"/certificates/{made['id']}", {"cert": second[0], "key": second[1]})
            for _ in range(6):
                assert shown(gateway, "a.test") == "second.test"
            kept.send_request("GET", "/x")
            assert kept.read_response().status == 404  # the old connection goes on
        assert http1.request(gateway.admin, "DELETE", "/snis/a.test").status == 204
        assert shown(gateway, "a.test") not in ("first.test", "second.test")
        assert gateway.workers() == workers


def test_the_second_certificate_is_for_clients_of_the_other_algorithm(gateway, origin):
    rsa, ec = certificate("rsa.test", kind="rsa"), certificate("ec.test")
    gateway.configure({**one_service(origin.url), "certificates": [entry(rsa, "both.test", cert_alt=ec[0], key_alt=ec[1])]})

    def cipher(ciphers):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with socket.create_connection(("127.0.0.1", gateway.tls), timeout=20) as raw, context.wrap_socket(raw, server_hostname="both.test") as sock:
            return common_name(sock)

    assert cipher("ECDHE-RSA-AES128-GCM-SHA256") == "rsa.test"
    assert cipher("ECDHE-ECDSA-AES128-GCM-SHA256") == "ec.test"


def test_the_chain_is_sent_whole(gateway, origin):
    middle = authority("middle", authority())
    leaf = certificate("leaf.test", issuer=middle)
    gateway.configure({**one_service(origin.url), "certificates": [entry((leaf[0] + middle[0], leaf[1]), "leaf.test")]})
    context = ssl.create_default_context(cadata=authority("root")[0])
    with socket.create_connection(("127.0.0.1", gateway.tls), timeout=20) as raw, context.wrap_socket(raw, server_hostname="leaf.test") as sock:
        assert common_name(sock) == "leaf.test"


def test_many_handshakes_while_certificates_change(gateway, origin):
    pairs = [certificate("first.test"), certificate("second.test")]
    stop, bad, seen = threading.Event(), [], set()

    def client():
        while not stop.is_set():
            try:
                seen.add(shown(gateway, "a.test"))
            except OSError as e:
                bad.append(e)

    gateway.configure({**one_service(origin.url), "certificates": [entry(pairs[1], "a.test")]})
    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(100):
            gateway.configure({**one_service(origin.url), "certificates": [entry(pairs[i % 2], "a.test")]})
            if i >= 10 and (len(seen) == 2 or bad):
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not bad and seen == {"first.test", "second.test"}


def test_an_id_is_no_server_name(gateway, origin):
    pair = certificate("first.test")
    doc = gateway.configure({**one_service(origin.url), "certificates": [entry(pair, "a.test")]})
    (sni,) = doc["snis"]
    assert shown(gateway, sni) != "first.test" and shown(gateway, "a.test") == "first.test"


@pytest.mark.parametrize("protocols, works", [("TLSv1.3", False), ("TLSv1.2", True)])
def test_the_versions_of_tls_are_a_setting(home, origin, protocols, works):
    with tls_gateway(home, one_service(origin.url), ssl_protocols=protocols).start() as gateway:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", gateway.tls), timeout=20) as raw:
            if works:
                assert context.wrap_socket(raw).version() == "TLSv1.2"
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(raw)


@pytest.mark.parametrize("settings, cipher", [({"ssl_cipher_suite": "intermediate"}, "CAMELLIA128-SHA"), ({"ssl_cipher_suite": "custom", "ssl_ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}, "ECDHE-ECDSA-AES128-GCM-SHA256")])
def test_the_ciphers_are_a_setting(home, origin, settings, cipher):
    with tls_gateway(home, one_service(origin.url), **settings).start() as gateway:
        for ciphers, works in ((cipher, False), ("ECDHE-ECDSA-AES256-GCM-SHA384", True)):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
            context.set_ciphers(ciphers)
            with socket.create_connection(("127.0.0.1", gateway.tls), timeout=20) as raw:
                if works:
                    assert context.wrap_socket(raw).cipher()[0] == ciphers
                else:
                    with pytest.raises(ssl.SSLError):
                        context.wrap_socket(raw)


# ---- to upstreams ----------------------------------------------------------------------------------------------------------------


CA_ID = "11111111-1111-4111-8111-111111111111"
OTHER_CA_ID = "22222222-2222-4222-8222-222222222222"
CLIENT_ID = "33333333-3333-4333-8333-333333333333"
CLIENT2_ID = "44444444-4444-4444-8444-444444444444"


@pytest.fixture(scope="module")
def signed():
    server = tls_origin(certificate("origin.test", issuer=authority("root")))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def deep():
    """Behind two authorities between its certificate and the root."""
    middle = authority("middle", authority())
    low = authority("low", middle)
    leaf = certificate("origin.test", issuer=low)
    server = tls_origin((leaf[0] + low[0] + middle[0], leaf[1]))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mutual():
    server = tls_origin(certificate("origin.test", issuer=authority("root")), client_ca=authority("clients")[0])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client_gateway():
    with folder() as path:
        (path / "hosts").write_text("127.0.0.1 origin.test other.test\n")
        with Gateway(path, document(), dns_hostsfile=path / "hosts").start() as gateway:
            # The one alert of a peer that nginx does not know and calls critical: `mutual` misses a certificate.
            gateway.allowed.append("tlsv13 alert certificate required")
            yield gateway


def entities():
    client, second = certificate("client", issuer=authority("clients")), certificate("stranger", issuer=authority("other"))
    return {
        "ca_certificates": [{"id": CA_ID, "cert": authority("root")[0]}, {"id": OTHER_CA_ID, "cert": authority("other")[0]}],
        "certificates": [{"id": CLIENT_ID, "cert": client[0], "key": client[1]}, {"id": CLIENT2_ID, "cert": second[0], "key": second[1]}],
    }


def ask(gateway, server, host="origin.test", **service):
    doc = document({"name": "s", "url": f"https://{host}:{server.port}", "retries": 0, "routes": [{"name": "r", "paths": ["/"]}], **service}, **entities())
    gateway.configure(doc)
    return gateway.get("/").status


def test_the_upstreams_certificate_is_verified_when_the_service_says_so(client_gateway, signed):
    assert ask(client_gateway, signed) == 200
    assert ask(client_gateway, signed, tls_verify=False) == 200
    assert ask(client_gateway, signed, tls_verify=True) == 502  # the system does not know this authority
    assert ask(client_gateway, signed, tls_verify=True, ca_certificates=[CA_ID]) == 200
    assert ask(client_gateway, signed, tls_verify=True, ca_certificates=[OTHER_CA_ID]) == 502
    assert ask(client_gateway, signed, tls_verify=True, ca_certificates=[OTHER_CA_ID, CA_ID]) == 200
    assert ask(client_gateway, signed, "other.test", tls_verify=True, ca_certificates=[CA_ID]) == 502  # another name
    assert ask(client_gateway, signed, "other.test", tls_verify=False, ca_certificates=[CA_ID]) == 200


def test_the_depth_of_verification_is_the_services(client_gateway, deep):
    assert ask(client_gateway, deep, tls_verify=True, ca_certificates=[CA_ID]) == 502
    assert ask(client_gateway, deep, tls_verify=True, ca_certificates=[CA_ID], tls_verify_depth=1) == 502
    assert ask(client_gateway, deep, tls_verify=True, ca_certificates=[CA_ID], tls_verify_depth=2) == 200


def test_a_service_shows_its_client_certificate(client_gateway, mutual):
    assert ask(client_gateway, mutual) in (400, 502)
    assert ask(client_gateway, mutual, client_certificate={"id": CLIENT_ID}) == 200
    assert ask(client_gateway, mutual, client_certificate={"id": CLIENT2_ID}) in (400, 502)
    assert ask(client_gateway, mutual, client_certificate={"id": CLIENT_ID}, tls_verify=True, ca_certificates=[CA_ID]) == 200


def test_an_upstream_shows_its_client_certificate_where_the_service_has_none(client_gateway, mutual):
    def serve(of_upstream, of_service=None):
        service = {"name": "s", "protocol": "https", "host": "pool.test", "port": 443, "retries": 0, "routes": [{"name": "r", "paths": ["/"]}]}
        if of_service:
            service["client_certificate"] = {"id": of_service}
        upstream = {"name": "pool.test", "host_header": "origin.test", "targets": [{"target": f"127.0.0.1:{mutual.port}"}]}
        if of_upstream:
            upstream["client_certificate"] = {"id": of_upstream}
        client_gateway.configure(document(service, upstreams=[upstream], **entities()))
        return client_gateway.get("/").status

    assert serve(CLIENT_ID) == 200
    assert serve(None) in (400, 502)
    assert serve(CLIENT2_ID, CLIENT_ID) == 200
    assert serve(CLIENT_ID, CLIENT2_ID) in (400, 502)


def test_connections_are_not_kept_for_a_service_with_another_certificate(client_gateway, mutual):
    url = f"https://origin.test:{mutual.port}"
    services = [
        {"name": n, "url": url, "retries": 0, "client_certificate": {"id": CLIENT_ID} if n != "none" else None, "routes": [{"name": n, "paths": [f"/{n}"]}]}
        for n in ("one", "none", "same")
    ]
    client_gateway.configure(document(*services, **entities()))
    numbers = [client_gateway.get(path).get("x-connection") for path in ("/one", "/one", "/same")]
    assert numbers[0] == numbers[1] == numbers[2]
    assert client_gateway.get("/none").status in (400, 502)


def test_the_node_may_trust_authorities_of_its_own(home, signed):
    (home / "hosts").write_text("127.0.0.1 origin.test\n")
    (home / "ca.pem").write_text(authority("root")[0])
    with Gateway(home, document(), dns_hostsfile=home / "hosts", lua_ssl_trusted_certificate=f"system,{home}/ca.pem").start() as gateway:
        assert ask(gateway, signed, tls_verify=True) == 200
        assert ask(gateway, signed, tls_verify=True, ca_certificates=[OTHER_CA_ID]) == 502


def test_the_node_may_show_a_certificate_of_its_own(home, mutual):
    (home / "hosts").write_text("127.0.0.1 origin.test\n")
    client = certificate("client", issuer=authority("clients"))
    (home / "c.pem").write_text(client[0])
    (home / "k.pem").write_text(client[1])
    settings = {"client_ssl": "on", "client_ssl_cert": home / "c.pem", "client_ssl_cert_key": home / "k.pem"}
    with Gateway(home, document(), dns_hostsfile=home / "hosts", **settings).start() as gateway:
        assert ask(gateway, mutual) == 200
        assert ask(gateway, mutual, client_certificate={"id": CLIENT2_ID}) in (400, 502)
