"""What all measurements share: an upstream, an nginx for one case, and a client that asks it one thing after another."""
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PATHS = os.environ.get("PATH", "") + ":/usr/sbin"
DEBIAN_MODULES = pathlib.Path("/usr/lib/nginx/modules")

UPSTREAM = """
daemon off; master_process off; pid {dir}/upstream.pid; error_log {dir}/upstream.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temp}
    keepalive_requests 1000000000;
    server {{
        listen unix:{dir}/upstream.sock;
        listen 127.0.0.1:{port};
        location / {{ return 200 "hello\\n"; }}
        location /file/ {{ root {dir}; }}
    }}
}}
"""

GATEWAY = """
{load}
daemon off; {process} pid {dir}/gateway.pid; error_log {dir}/gateway.log warn;
events {{ worker_connections 512; }}
{main}
http {{
    access_log off;
    {temp}
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream backend {{ server unix:{dir}/upstream.sock; keepalive 64; }}
    {http}
    server {{
        listen unix:{dir}/gateway.sock;
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {location}
        }}
    }}
}}
"""


class BenchError(Exception):
    """A case that cannot be measured; the text says why."""


def find_nginx(name="nginx"):
    return shutil.which(name, path=PATHS) or name


def temp_paths(folder):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def connect(path, process, patience_s):
    """Connects when the server listens; a server that ends first is an error. The kernel has no event for a listening socket."""
    end = time.monotonic() + patience_s
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
        if process.poll() is not None:
            raise BenchError(f"the server ended with exit code {process.returncode}")
        if time.monotonic() > end:
            raise BenchError(f"nothing listens at {path}")
        time.sleep(0.005)


def stop(process):
    process.terminate()
    try:
        process.wait(600)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Client:
    def __init__(self, sock, path="/echo"):
        sock.settimeout(600)
        self.sock = sock
        self.data = b""
        self.request = f"GET {path} HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode()

    def more(self):
        got = self.sock.recv(1 << 18)
        if not got:
            raise BenchError("the connection was closed")
        self.data += got

    def head(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        return head

    def get(self):
        """One exchange; the response's head."""
        try:
            return self.exchange()
        except OSError as e:
            raise BenchError(f"the server gave no answer: {e}") from None

    def exchange(self):
        self.sock.sendall(self.request)
        head = self.head()
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length is None:
            while not self.data.endswith(b"0\r\n\r\n"):
                self.more()
            self.data = b""
            return head
        left = int(length.group(1)) - len(self.data)
        self.data = self.data[int(length.group(1)) :]
        while left > 0:
            got = self.sock.recv(min(left, 1 << 18))
            if not got:
                raise BenchError("the connection was closed in a body")
            left -= len(got)
        return head


def check(case, head):
    if not head.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"{case.name}: {head.splitlines()[0].decode()}")
    if case.shows and b"\r\n" + case.shows.lower().encode() not in head.lower():
        raise BenchError(f"{case.name}: the answer has no {case.shows}")


class Rig:
    """The upstream and a folder; gateways come and go. Use it in a with statement."""

    def __init__(self, module=None, nginx=None):
        self.module = str(module or BUILD / "modules" / "ngx_http_sluice_module.so")
        self.nginx = nginx or find_nginx()
        # Compiled modules stay: under valgrind a large one takes minutes, and its code is not what the CPU itself would get.
        self.cache = BUILD / "bench" / "cache"
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.upstream_port = s.getsockname()[1]  # for who cannot use the Unix socket

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-"))
        conf = pathlib.Path(self.folder, "upstream.conf")
        conf.write_text(UPSTREAM.format(dir=self.folder, temp=temp_paths(self.folder), port=self.upstream_port))
        command = [find_nginx(), "-c", str(conf), "-p", self.folder, "-e", f"{self.folder}/upstream.log"]
        upstream = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.stack.callback(stop, upstream)
        connect(f"{self.folder}/upstream.sock", upstream, 10).close()
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def file(self, size):
        """A path whose body is that long."""
        folder = pathlib.Path(self.folder, "file")
        folder.mkdir(exist_ok=True)
        (folder / str(size)).write_bytes(b"0123456789abcdef" * (size // 16))
        return f"/file/{size}"

    def why_not(self, case):
        """Why a case cannot run here, or None."""
        missing = [f for f in case.modules if not pathlib.Path(self.so(f)).exists()]
        if missing:
            return f"no {missing[0]}"
        missing = [f for f in case.filters if not (BUILD / "filters" / f"{f}.wasm").exists()]
        return f"no {missing[0]}.wasm (is its compiler installed?)" if missing else None

    def so(self, name):
        return self.module if name == "sluice" else str(DEBIAN_MODULES / name)

    def config(self, case, master=False):
        load = "".join(f"load_module {self.so(name)};" for name in case.modules)
        main = case.main
        if case.filters and "sluice" in case.modules:
            main += "wasm { " + " ".join(f"module {f} {BUILD}/filters/{f}.wasm;" for f in case.filters) + " @cache@ " + case.wasm + " }"
            self.cache.mkdir(parents=True, exist_ok=True)
            main = main.replace("@cache@", f"cache_dir {self.cache};")
        for name, text in case.files.items():
            pathlib.Path(self.folder, name).write_text(text.replace("@upstream_port@", str(self.upstream_port)))
        fields = {"dir": self.folder, "temp": temp_paths(self.folder), "load": load, "main": main}
        fields |= {"http": case.http.replace("@dir@", self.folder), "location": case.location.replace("@dir@", self.folder)}
        fields["port"] = self.port
        fields["process"] = ("user root; " if os.geteuid() == 0 else "") + "worker_processes 1;" if master else "master_process off;"
        path = pathlib.Path(self.folder, "gateway.conf")
        path.write_text(GATEWAY.format(**fields))
        return str(path)

    @contextlib.contextmanager
    def gateway(self, case, under=(), master=False, patience_s=900, **popen):
        """Runs nginx for the case; `under` are words in front of its command. Gives the process and the socket's path."""
        sock = os.path.join(self.folder, "gateway.sock")
        if os.path.exists(sock):
            os.unlink(sock)
        command = [*under, case.nginx or self.nginx, "-c", self.config(case, master), "-p", self.folder, "-e", f"{self.folder}/gateway.log"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **popen)
        try:
            connect(sock, process, patience_s).close()
            yield process, sock
        except BenchError as e:
            raise BenchError(f"{case.name}: {e}\n{self.log()}") from None
        finally:
            stop(process)

    def log(self):
        try:
            return pathlib.Path(self.folder, "gateway.log").read_text()[-2000:]
        except OSError:
            return ""
