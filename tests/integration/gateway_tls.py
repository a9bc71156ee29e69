"""Certificates for tests of TLS: authorities, what they sign, origins that speak TLS."""

import functools
import pathlib
import ssl
import subprocess
import tempfile

from gateway_helpers import Origin


def _openssl(*args, text=None):
    return subprocess.run(["openssl", *map(str, args)], input=text, check=True, capture_output=True, text=True).stdout


@functools.cache
def authority(name="root", issuer=None):
    """(certificate, key) of an authority, self-signed or signed by another one."""
    return certificate(name, issuer=issuer, ca=True)


@functools.cache
def certificate(name, issuer=None, ca=False, kind="ec", alt=None):
    """(certificate, key) for a name, both PEM."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        key = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        signer = []
        if issuer:
            (folder / "ca.pem").write_text(issuer[0])
            (folder / "ca.key").write_text(issuer[1])
            signer = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"]
        extensions = ["-addext", "basicConstraints=critical,CA:TRUE"] if ca else ["-addext", f"subjectAltName={alt or 'DNS:' + name}"]
        if not ca:
            extensions += ["-addext", "basicConstraints=CA:FALSE"]
        config = folder / "openssl.cnf"
        config.write_text("[req]\ndistinguished_name=dn\n[dn]\n")
        _openssl("req", "-x509", "-config", config, *key, "-nodes", "-subj", f"/CN={name}", "-days", "3", *signer, *extensions, "-keyout", folder / "k", "-out", folder / "c")
        return (folder / "c").read_text(), (folder / "k").read_text()


def tls_origin(pair, client_ca=None, alpn=None):
    """An origin with this certificate; with client_ca it wants a client certificate of that authority. `origin.peers` has who came."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "c").write_text(pair[0])
        (folder / "k").write_text(pair[1])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "c", folder / "k")
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_ca)
    names = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    origin = Origin(tls=context)
    origin.names = names
    return origin


def common_name(sock):
    """Of the certificate that a server showed on a TLS socket."""
    return _openssl("x509", "-noout", "-subject", "-nameopt", "multiline", text=ssl.DER_cert_to_PEM_cert(sock.getpeercert(True))).split("=")[-1].strip()
