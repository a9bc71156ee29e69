"""
The gateway under test: `sluice start` with a prefix, filters and ports of its own, in the foreground, and an origin server behind it.
Settings that tools/run-tests.sh passes choose nginx and module. Importing this starts nothing.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

import h2.config
import h2.connection
import pytest
import yaml
from support import http1, http2
from support.nginx import START_SECONDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAVOR = os.environ.get("SLUICE_TEST_NGINX", "debian")
NGINX = os.environ.get("SLUICE_TEST_NGINX_BINARY") or shutil.which("nginx") or "/usr/sbin/nginx"
MODULE = os.environ.get("SLUICE_TEST_MODULE") or str(ROOT / "build/modules/ngx_http_sluice_module.so")
SLUICE = ROOT / "build/bin/sluice"
FILTERS = ROOT / "build/filters"
IS_ROOT = os.geteuid() == 0
VERSION = subprocess.run([SLUICE, "version"], capture_output=True, text=True, check=False).stdout.strip() if SLUICE.exists() else ""

DEADLINE = 30
BAD = re.compile(r"\[(alert|crit|emerg)\]|Sanitizer|runtime error|exited on signal|exited with code (?!0)\d|open socket .* left")


def wait_for(condition, what, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"timeout: {what() if callable(what) else what}")


_given = set()


def free_port():
    """A port that the kernel has free now, and that this run has not had before."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


_launched = []  # (folder, process)


def sweep(path):
    """Ends what a test that failed has left running in its folder."""
    for where, process in _launched:
        if where.is_relative_to(path) and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for file in path.rglob("pids/nginx.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(file.read_text())
            if str(path).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def folder():
    """Readable for the worker user, which pytest's own folders are not."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        sweep(path)
        shutil.rmtree(path, ignore_errors=True)


def install(path, *names, **renamed):
    """A filters folder with these of the built filters; new_name="name" gives one another name."""
    path.mkdir(mode=0o755, exist_ok=True)
    for new, old in [(n, n) for n in names] + list(renamed.items()):
        shutil.copyfile(FILTERS / f"{old}.wasm", path / f"{new}.wasm")
        (path / f"{new}.wasm").chmod(0o644)
    return path


@functools.cache
def nginx_binary():
    """
    nginx itself, or for a sanitized one a script: `nginx -t` ends without freeing what it read, and a worker leaves its table of
    connections behind.
    """
    if FLAVOR != "asan":
        return NGINX
    path = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    (path / "lsan").write_text("leak:ngx_event_process_init\n")
    (path / "nginx").write_text(
        f"""#!/bin/sh
export LSAN_OPTIONS=suppressions={path}/lsan:print_suppressions=0
for word; do
    [ "$word" != -t ] || export ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"
done
exec {NGINX} "$@"
"""
    )
    (path / "nginx").chmod(0o755)
    (path / "lsan").chmod(0o644)
    path.chmod(0o755)
    return str(path / "nginx")


def clean_env(**more):
    """An environment without settings of somebody else's gateway, but with those that choose nginx and module."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "KONG_")) and k != "NGINX"}
    env.update(SLUICE_NGINX_BINARY=nginx_binary(), SLUICE_WASM_DYNAMIC_MODULE=str(MODULE))
    env.update({k: str(v) for k, v in more.items() if v is not None})
    return env


def sluice(*args, env=None, cwd=None, timeout=60):
    """Runs a command to its end."""
    return subprocess.run(
        [str(SLUICE), *map(str, args)], env=env or clean_env(), cwd=cwd, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
    )


def document(*services, **more):
    return {"_format_version": "3.0", "services": list(services), **more}


def chain(*filters, **more):
    """A filter chain: each filter is (name, config) or a dictionary."""
    return {"filters": [f if isinstance(f, dict) else {"name": f[0], "config": f[1]} for f in filters], **more}


def one_service(url, *filters, name="s", **route):
    """The usual document: a service, its route `r` for every path, a chain on the route."""
    route = {"name": "r", "paths": ["/"], **route}
    if filters:
        route["filter_chains"] = [chain(*filters)]
    return document({"name": name, "url": url, "routes": [route]})


class Gateway:
    """`settings` are names in lower case without a family: log_level="info". `family` is the family in which they are passed."""

    def __init__(self, path, config=None, filters=None, workers=1, family="SLUICE", listens=True, **settings):
        self.path = pathlib.Path(path)
        self.prefix = self.path / "prefix"
        self.filters = filters or self.path / "filters"
        self.proxy, self.admin = free_port(), free_port()
        self.file = self.path / "kong.yml"
        self.process = None
        self.allowed = []  # parts of bad-looking log lines that a test expects
        self.filters.mkdir(mode=0o755, exist_ok=True)
        if config is not None:
            self.write(config)
        values = {"prefix": self.prefix, "nginx_daemon": "off", "nginx_worker_processes": workers, "log_level": "info"}
        if listens:
            values.update(proxy_listen=f"127.0.0.1:{self.proxy}", admin_listen=f"127.0.0.1:{self.admin}")
        values.update(wasm_filters_path=self.filters, declarative_config=self.file, database="off")
        values.update(settings)
        self.env = clean_env(**{f"{family}_{k.upper()}": v for k, v in values.items()})

    def write(self, config):
        self.file.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
        self.file.chmod(0o644)

    # ---- life ----

    def launch(self, *args):
        """Does not wait."""
        self.path.joinpath("stderr").touch()
        with open(self.path / "stdout", "ab") as out, open(self.path / "stderr", "ab") as err:
            self.process = subprocess.Popen(
                [str(SLUICE), "start", *args], env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        _launched.append((self.path, self.process))
        return self

    def start(self, *args):
        self.launch(*args)
        wait_for(self.ready, lambda: f"the gateway does not serve: {self.stderr()}\n{self.log()[-3000:]}", START_SECONDS)
        return self

    def ready(self):
        assert self.process is None or self.process.poll() is None, f"ended: {self.stderr()}\n{self.log()[-3000:]}"
        try:
            return self.get_admin("/status").status == 200
        except (OSError, http1.Closed):
            return False

    def stderr(self):
        return (self.path / "stderr").read_text()

    def stdout(self):
        return (self.path / "stdout").read_text()

    def run(self, command, *args, timeout=60, **env):
        """Another command on this gateway."""
        return sluice(command, *args, env={**self.env, **{k: str(v) for k, v in env.items()}}, timeout=timeout)

    def pid(self):
        try:
            return int((self.prefix / "pids/nginx.pid").read_text())
        except (OSError, ValueError):
            return 0

    def workers(self):
        pid = self.pid()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        return sorted(int(p) for p in children.read_text().split()) if children.exists() else []

    def stop(self, command="quit"):
        """Ends it and looks at its log; safe to call twice."""
        if self.process is None:
            return
        process, self.process = self.process, None
        ended = process.poll()
        try:
            if ended is None:
                done = self.run(command)
                assert done.returncode == 0, done
                assert process.wait(DEADLINE) == 0, f"exit code {process.returncode}: {self.log()[-3000:]}"
            assert ended is None, f"it had ended before, with exit code {ended}: {self.stderr()}\n{self.log()[-3000:]}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.check_log()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.stop()
            return
        with contextlib.suppress(Exception):
            self.stop()
        if isinstance(value, Exception):
            value.add_note("error.log:\n" + self.log()[-3000:])

    # ---- logs ----

    def log(self):
        path = self.prefix / "logs/error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check_log(self):
        lines = [line for line in self.log().splitlines() if BAD.search(line) and not any(a in line for a in self.allowed)]
        assert not lines, "\n".join(lines[:20]) + "\n...\n" + self.log()[-4000:]

    def wait_log(self, text, times=1, seconds=DEADLINE):
        wait_for(lambda: self.log().count(text) >= times, lambda: f"{text!r} {times} times in the log\n{self.log()[-3000:]}", seconds)

    # ---- requests ----

    def get(self, path="/", headers=(), **more):
        return http1.request(self.proxy, "GET", path, headers, **more)

    def request(self, method="GET", path="/", headers=(), body=None, **more):
        return http1.request(self.proxy, method, path, headers, body, **more)

    def get_admin(self, path, headers=(), **more):
        return http1.request(self.admin, "GET", path, headers, **more)

    def post_config(self, body, content_type="application/json", query=""):
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        body = body.encode() if isinstance(body, str) else body
        headers = [("Content-Type", content_type)] if content_type else []
        return http1.request(self.admin, "POST", f"/config{query}", headers, body, timeout=60)

    def configure(self, doc):
        answer = self.post_config(doc)
        assert answer.status == 201, answer.text
        return json.loads(answer.body)


# ---- clients ----------------------------------------------------------------------------------------------------------


def tls_socket(port, alpn=None, server_name=None):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(raw, server_hostname=server_name)


class TlsConnection(http1.Connection):
    def __init__(self, port, server_name=None):
        self.sock = tls_socket(port, ["http/1.1"], server_name)
        self.buffer = b""


class TlsHttp2(http2.Connection):
    def __init__(self, port, server_name=None):
        self.sock = tls_socket(port, ["h2"], server_name)
        assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        self.streams = {}
        self.corked = False
        self.flush()


def multipart(name, text):
    body = f'--BoUnDaRy\r\nContent-Disposition: form-data; name="{name}"; filename="kong.yml"\r\nContent-Type: application/octet-stream\r\n\r\n{text}\r\n--BoUnDaRy--\r\n'
    return body, "multipart/form-data; boundary=BoUnDaRy"


# ---- the origin -------------------------------------------------------------------------------------------------------


def payload(n):
    line = b"%015d\n"
    return b"".join(line % i for i in range(n // 16 + 1))[:n]


class _Handler(socketserver.StreamRequestHandler):
    """Keeps connections alive, says in x-connection which one it was."""

    disable_nagle_algorithm = True

    def setup(self):
        with self.server.lock:
            self.server.connections += 1
            self.number = self.server.connections
        if self.server.tls is not None:
            self.request.settimeout(20)
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.sni = getattr(self.request, "seen_sni", None)
        super().setup()

    def handle(self):
        with contextlib.suppress(ConnectionError, socket.timeout, ValueError, ssl.SSLError):
            while self.one():
                pass

    def read_head(self):
        line = self.rfile.readline(65536).decode("latin-1").rstrip("\r\n")
        if not line:
            return False
        self.method, self.target, self.version = line.split(" ")
        self.headers = []
        while True:
            line = self.rfile.readline(65536).decode("latin-1").rstrip("\r\n")
            if not line:
                return True
            name, _, value = line.partition(":")
            self.headers.append((name.lower(), value.strip()))

    def header(self, name):
        return next((v for n, v in self.headers if n == name), None)

    def read_body(self):
        if (self.header("transfer-encoding") or "").lower() != "chunked":
            return self.rfile.read(int(self.header("content-length") or 0))
        pieces = []
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(pieces)

    def send(self, status, headers, body=b""):
        lines = [f"HTTP/1.1 {status} X", f"x-connection: {self.number}", f"Content-Length: {len(body)}"]
        lines += [f"{n}: {v}" for n, v in headers]
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (b"" if self.method == "HEAD" else body))

    def one(self):
        if not self.read_head():
            return False
        server = self.server
        with server.lock:
            server.seen.append((self.method, self.target, self.headers))
            attempt = sum(1 for _, target, _ in server.seen if target == self.target)
        url = urllib.parse.urlsplit(self.target)
        words = urllib.parse.unquote(url.path).strip("/").split("/")
        at = next((i for i, w in enumerate(words) if hasattr(self, f"do_{w}")), None)
        if at is None:
            self.do_echo()
            return True
        return getattr(self, f"do_{words[at]}")(*words[at + 1 :], **({"attempt": attempt} if words[at] in ("flaky",) else {})) is not False

    def do_echo(self, *_):
        body = self.read_body()
        doc = {
            "method": self.method,
            "path": self.target,
            "headers": self.headers,
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "body": body.decode("latin-1") if len(body) < 65536 else None,
        }
        self.send(200, [("Content-Type", "application/json")], json.dumps(doc).encode())

    def do_bytes(self, n, *_):
        self.read_body()
        self.send(200, [("Content-Type", "text/plain")], payload(int(n)))

    def do_status(self, code, *_):
        self.read_body()
        self.send(int(code), [("Content-Type", "text/plain")], b"from the origin\n")

    def do_headers(self, *_):
        self.send(200, urllib.parse.parse_qsl(urllib.parse.urlsplit(self.target).query), b"headers\n")

    def do_flaky(self, n, *_, attempt):
        """Breaks off the first n attempts."""
        if attempt <= int(n):
            return False
        self.do_echo()
        return True

    def do_reset(self, *_):
        return False

    def do_hang(self, *_):
        self.request.settimeout(30)
        self.request.recv(1)
        return False

    def do_hold(self, *_):
        """Answers when the test says so."""
        self.server.held.release()
        self.server.go.wait(30)
        self.do_echo()

    def do_websocket(self, *_):
        if (self.header("upgrade") or "").lower() != "websocket":
            self.send(400, [], b"no upgrade\n")
            return True
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: test\r\n\r\n"
        self.wfile.write(head.encode())
        while data := self.request.recv(65536):
            self.request.sendall(data[::-1])
        return False


class Origin(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, tls=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = self.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.tls = tls
        self.lock = threading.Lock()
        self.seen, self.connections = [], 0
        self.held, self.go = threading.Semaphore(0), threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass

    def forget(self):
        with self.lock:
            self.seen.clear()
        self.go.clear()

    def stop(self):
        self.go.set()
        self.shutdown()
        self.server_close()


def echoed(response):
    """What the origin received, headers as a dictionary."""
    assert response.status == 200, response.text
    doc = json.loads(response.body)
    doc["all"] = doc["headers"]
    doc["headers"] = dict(doc["headers"])
    return doc


# ---- fixtures, for import by name ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def origin_server():
    server = Origin()
    yield server
    server.stop()


@pytest.fixture
def origin(origin_server):
    origin_server.forget()
    return origin_server


@pytest.fixture
def home():
    """A folder for one test."""
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def module_home():
    with folder() as path:
        yield path
