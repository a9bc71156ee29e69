"""A real Redis server for the tests."""

import shutil
import socket
import subprocess
import tempfile

from .nginx import free_port, wait_for


class Redis:
    def __init__(self, password=None, tls=None):
        """tls: a folder with cert.pem and key.pem; then there is a port for TLS, too."""
        self.tls, self.tls_port = tls, free_port() if tls else None
        self.port = free_port()
        self.password = password
        self.folder = tempfile.mkdtemp(prefix="redis-")
        self.process = None

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.folder]
        if self.password:
            options += ["--requirepass", self.password]
        if self.tls:
            options += ["--tls-port", str(self.tls_port), "--tls-cert-file", f"{self.tls}/cert.pem", "--tls-key-file", f"{self.tls}/key.pem", "--tls-auth-clients", "no"]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, "an answer of Redis", 10)
        return self

    def answers(self):
        try:
            return self.ask(b"PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def ask(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            if self.password:
                sock.sendall(command(b"AUTH", self.password.encode()))
                sock.recv(100)
            sock.sendall(command(*words))
            return sock.recv(65536)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
