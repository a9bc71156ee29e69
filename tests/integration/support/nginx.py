"""nginx with the module under test: configuration in a folder of its own, free ports, a log that is checked at the end."""

import atexit
import contextlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
FLAVOR = os.environ.get("SLUICE_TEST_NGINX", "debian")
BINARY = os.environ.get("SLUICE_TEST_NGINX_BINARY") or shutil.which("nginx") or "/usr/sbin/nginx"
MODULE = os.environ.get("SLUICE_TEST_MODULE") or str(ROOT / "build/modules/ngx_http_sluice_module.so")
FILTERS = ROOT / "build/filters"

BAD = re.compile(
    r"\[(alert|crit|emerg)\]|AddressSanitizer|LeakSanitizer|runtime error|exited on signal|exited with code (?!0)\d|open socket .* left"
)


def version():
    out = subprocess.run([BINARY, "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(int(n) for n in re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", out).groups())


# Compiled code, kept for the run: most of the time of a start goes into it otherwise.
compiled = tempfile.mkdtemp(prefix="sluice-test-compiled-")
atexit.register(shutil.rmtree, compiled, ignore_errors=True)

# Below the ports that the kernel gives to outgoing connections, and apart for runs that go side by side.
LANE = 7168
LANES = {"debian": 10240, "stable": 10240 + LANE, "asan": 10240 + 2 * LANE}
next_port = itertools.count(os.getpid() * 37)


def free_port():
    """One that nobody listens on, and that this run has not given out for long."""
    for _ in range(LANE):
        port = LANES[FLAVOR] + next(next_port) % LANE
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("all ports of this run are in use")


# A filter in Go that is not in the cache takes 12 s of CPU time to compile, and machines that test have other things to do.
START_SECONDS = 120


def wait_for(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"timeout: {what}")


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def quote(text):
    """As a quoted argument of a directive."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def filter_path(name):
    return FILTERS / f"{name}.wasm"


class Nginx:
    """
    conf pieces: `http` stands in http{}, `servers` makes server{} blocks: a text, or a list of them, in which @PORT@ (HTTP/1.1) and
    @PORT2@ (HTTP/2) are replaced by this server's ports.
    """

    def __init__(self, folder, workers=2, level="info"):
        self.folder = pathlib.Path(folder)
        self.workers, self.level = workers, level
        self.process = None
        self.leaks = True  # whether what is left at the end is reported, by the sanitized nginx
        self.allowed = []  # parts of bad-looking log lines that a test expects
        self.ports = {}
        for name in ("logs", "html", "temp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    # ---- configuration ----

    def port(self, name="main"):
        if name not in self.ports:
            self.ports[name] = free_port()
        return self.ports[name]

    def write(self, servers="", http="", wasm="", main="", master=True):
        def fill(text):
            return re.sub(r"@PORT(\w*)@", lambda m: str(self.port("main" if m[1] == "" else m[1])), text)

        cache = "" if wasm is None or "cache_dir" in wasm else f"cache_dir {compiled};\n"
        block = "" if wasm is None else f"wasm {{\n{cache}{wasm}\n}}\n"
        temp = "".join(
            f"{name}_temp_path temp/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""  # pytest's folders belong to whoever runs it
        text = f"""load_module {MODULE};
{user}
daemon off;
master_process {"on" if master else "off"};
worker_processes {self.workers};
error_log logs/error.log {self.level};
pid logs/nginx.pid;
{main}
events {{ worker_connections 512; }}
{block}
http {{
access_log off;
{temp}
types {{ text/html html; text/plain txt; }}
default_type text/plain;
{http}
{servers}
}}
"""
        self.conf = self.folder / "nginx.conf"
        self.conf.write_text(fill(text))
        return self.conf

    # ---- life ----

    def env(self):
        env = dict(os.environ)
        env["ASAN_OPTIONS"] = f"detect_odr_violation=0:detect_leaks={int(self.leaks)}:abort_on_error=0"
        env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=0"
        env["LSAN_OPTIONS"] = f"suppressions={pathlib.Path(__file__).resolve().parent / 'lsan.supp'}:print_suppressions=0"
        return env

    def command(self, *more):
        return [BINARY, "-p", str(self.folder), "-e", "logs/error.log", "-c", str(self.conf), *more]

    def check(self, cwd=None):
        """nginx -t, which leaves freeing to the end of the process."""
        env = {**self.env(), "ASAN_OPTIONS": "detect_odr_violation=0:detect_leaks=0"}
        return subprocess.run(self.command("-t"), capture_output=True, text=True, env=env, cwd=cwd, timeout=120)

    def start(self, servers="", http="", wasm="", main="", master=True, cwd=None):
        self.write(servers, http, wasm, main, master)
        self.has_master = master
        self.stderr = open(self.folder / "logs/stderr.log", "wb")
        self.process = subprocess.Popen(self.command(), stderr=self.stderr, stdin=subprocess.DEVNULL, env=self.env(), cwd=cwd)
        wait_for(self.ready, "nginx listens", START_SECONDS)
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"nginx ended with {self.process.returncode}:\n{self.log()[-4000:]}\n{self.errors()[-4000:]}")
        return self.ports and all(listens(port) for port in self.ports.values()) and self.workers_started()

    has_master = True

    def workers_started(self):
        return not self.has_master or self.worker_pids()

    def worker_pids(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return [int(child) for child in children.read().split()]

    def one_worker(self):
        return wait_for(self.worker_pids, "a worker")[0]

    def reload(self):
        """All old workers have stopped accepting when this is over; they may still have something to do."""
        before, old = self.log().count("gracefully shutting down"), self.worker_pids()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count("gracefully shutting down") > before, "old workers shut down")
        told = lambda pid: f" {pid}#{pid}: gracefully shutting down" in self.log()  # noqa: E731
        wait_for(lambda: all(told(pid) or pid not in self.worker_pids() for pid in old), "all old workers shut down")

    def stop(self, sig=signal.SIGQUIT):
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(sig)
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"nginx did not end:\n{self.log()[-4000:]}") from None
        self.stderr.close()
        assert code == 0, f"nginx ended with {code}:\n{self.log()[-4000:]}\n{self.errors()[-4000:]}"
        self.check_log()

    # ---- log ----

    def log(self):
        path = self.folder / "logs/error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def errors(self):
        path = self.folder / "logs/stderr.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log_lines(self, part):
        return [line for line in self.log().splitlines() if part in line]

    def wait_log(self, part, count=1):
        wait_for(lambda: len(self.log_lines(part)) >= count, f"log has {part!r}: {self.log()[-3000:]}")

    def allow(self, *parts):
        self.allowed += parts

    def check_log(self):
        text = self.log() + self.errors()
        bad = [
            line
            for line in text.splitlines()
            if BAD.search(line) and not any(part in line for part in self.allowed)
        ]
        assert not bad, "\n".join(bad[:20]) + "\n" + self.errors()[:6000]


@contextlib.contextmanager
def stopped(pid):
    """A process that does not run meanwhile: what comes for it comes at once, afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        status = pathlib.Path(f"/proc/{pid}/status")
        wait_for(lambda: re.search(r"State:\s+T", status.read_text()), f"{pid} stands still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
