"""The main job: a filter behind a route, with each family of settings; the life of a gateway and its commands."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess

import pytest
from gateway_helpers import *  # noqa: F403
from gateway_helpers import FILTERS, IS_ROOT, ROOT, VERSION, Gateway, TlsHttp2, clean_env, echoed, free_port, home, install, module_home, one_service, origin, origin_server, sluice, wait_for  # noqa: F401
from gateway_tls import certificate
from support import http1

GREETING = "Hello from Sluice using WebAssembly!"
HELLO = (ROOT / "examples/hello/kong.yml").read_text()
LANGUAGE = "go" if (FILTERS / "my-go-filter.wasm").exists() else "c"


def hello(origin, language="c"):
    text = HELLO.replace("http://127.0.0.1:9000", origin.url)
    assert text != HELLO
    return text.replace("my-go-filter", f"my-{language}-filter")


def greeter(home, language="c", **settings):
    install(home / "filters", f"my-{language}-filter")
    return Gateway(home, **settings)


def check_hello(gateway):
    response = gateway.get("/echo")
    echo = echoed(response)
    assert response.all("x-greeting") == [GREETING]
    assert response.all("via") == [f"1.1 sluice/{VERSION}"]
    assert re.fullmatch(r"\d+", response.get("x-kong-proxy-latency"))
    assert re.fullmatch(r"\d+", response.get("x-kong-upstream-latency"))
    request_id = response.get("x-kong-request-id")
    assert re.fullmatch(r"[0-9a-f]{32}", request_id)
    assert response.get("x-kong-response-latency") is None
    assert echo["path"] == "/echo"
    assert echo["headers"]["x-kong-request-id"] == request_id
    assert echo["headers"]["via"] == f"1.1 sluice/{VERSION}"


@pytest.mark.parametrize("family", ["KONG", "SLUICE"])
def test_the_example_serves_with_the_variables_of_one_family_only(home, origin, family):
    with greeter(home, LANGUAGE, config=hello(origin, LANGUAGE), family=family).start() as gateway:
        check_hello(gateway)
        assert not gateway.stderr()
        assert not [k for k in gateway.env if k.startswith("SLUICE_" if family == "KONG" else "KONG_") and "BINARY" not in k and "MODULE" not in k]


def test_the_kong_command_line_of_the_documentation_serves_from_relative_paths(home, origin):
    """KONG_WASM=on KONG_WASM_FILTERS_PATH=./filters KONG_DATABASE=off KONG_DECLARATIVE_CONFIG=./config/kong.yml sluice start"""
    gateway = greeter(home)
    (home / "config").mkdir()
    (home / "config/kong.yml").write_text(hello(origin))
    own = {k: gateway.env[k] for k in gateway.env if k.endswith(("_PREFIX", "_LISTEN", "_PROCESSES"))}
    kong = {"KONG_WASM": "on", "KONG_WASM_FILTERS_PATH": "./filters", "KONG_DATABASE": "off", "KONG_DECLARATIVE_CONFIG": "./config/kong.yml"}
    gateway.env = clean_env(**own, **kong)
    done = sluice("start", env=gateway.env, cwd=home)
    try:
        assert (done.returncode, done.stderr) == (0, "")
        wait_for(gateway.ready, "ready")
        check_hello(gateway)
    finally:
        assert gateway.run("quit").returncode == 0
    gateway.check_log()


def test_a_settings_file_is_enough(home, origin):
    gateway = greeter(home, config=hello(origin))
    conf = home / "sluice.conf"
    values = {k[len("SLUICE_") :].lower(): v for k, v in gateway.env.items() if k.startswith("SLUICE_")}
    conf.write_text("# everything in a file\n" + "".join(f"{k} = {v}   # a comment\n" for k, v in values.items()))
    gateway.env = {k: v for k, v in clean_env().items() if not k.startswith("SLUICE_")}
    gateway.start("-c", str(conf))
    check_hello(gateway)
    assert gateway.run("reload", "-c", conf).returncode == 0
    gateway.wait_log("generation 2")
    check_hello(gateway)
    assert gateway.run("quit", "-c", conf).returncode == 0
    assert gateway.process.wait(20) == 0
    gateway.process = None
    gateway.check_log()


def test_our_names_win_and_a_warning_says_where_they_differ(home, origin):
    gateway = greeter(home, config=hello(origin))
    gateway.env.update(KONG_LOG_LEVEL="debug", KONG_ADMIN_LISTEN="127.0.0.1:1", KONG_DATABASE="off", KONG_NO_SUCH_THING="1")
    with gateway.start():
        check_hello(gateway)
        warnings = gateway.stderr().splitlines()
        assert len(warnings) == 3 and all(w.startswith("Warning: ") for w in warnings)
        assert any("SLUICE_LOG_LEVEL='info'" in w and "KONG_LOG_LEVEL='debug'" in w for w in warnings)
        assert any("SLUICE_ADMIN_LISTEN" in w and "KONG_ADMIN_LISTEN='127.0.0.1:1'" in w for w in warnings)
        assert any("KONG_NO_SUCH_THING" in w for w in warnings)
        assert "[debug]" not in gateway.log()


def test_variables_win_over_the_file_and_options_over_variables(home, origin):
    gateway = greeter(home, config=hello(origin))
    conf = home / "sluice.conf"
    conf.write_text(f"log_level = debug\nprefix = {home}/elsewhere\nheaders = off\n")
    gateway.env["SLUICE_PREFIX"] = str(home / "not-here")
    with gateway.start("-c", str(conf), "-p", str(gateway.prefix)):
        assert gateway.get("/echo").get("via") is None  # headers = off, of the file
        assert "[debug]" not in gateway.log()  # SLUICE_LOG_LEVEL=info wins
        assert not (home / "elsewhere").exists() and not (home / "not-here").exists()
        gateway.env["SLUICE_PREFIX"] = str(gateway.prefix)


def test_headers_off_hides_what_the_gateway_adds(home, origin):
    with greeter(home, config=hello(origin), headers="off").start() as gateway:
        response = gateway.get("/echo")
        names = {name for name, _ in response.headers}
        assert not names & {"via", "server", "x-kong-proxy-latency", "x-kong-upstream-latency", "x-kong-request-id"}
        assert response.get("x-greeting") == GREETING
        assert re.fullmatch(r"[0-9a-f]{32}", echoed(response)["headers"]["x-kong-request-id"])  # that is headers_upstream
        names = {name for name, _ in gateway.get_admin("/services").headers}
        assert not names & {"server", "x-kong-admin-latency"}


def test_each_token_of_headers_stands_for_one_header(home, origin):
    gateway = Gateway(home, one_service(origin.url, paths=["/echo", "/status"], strip_path=False), family="KONG", headers="X-Kong-Upstream-Latency, x-kong-upstream-status,Via", headers_upstream="off")
    with gateway.start():
        response = gateway.get("/status/418")
        ours = {name: value for name, value in response.headers if name.startswith("x-kong-") or name in ("via", "server")}
        assert set(ours) == {"x-kong-upstream-latency", "x-kong-upstream-status", "via"} and ours["x-kong-upstream-status"] == "418"
        assert "x-kong-request-id" not in echoed(gateway.get("/echo"))["headers"]
        assert not {n for n, _ in gateway.get("/none").headers} & {"x-kong-response-latency", "x-kong-upstream-status", "via", "server"}
        assert gateway.get_admin("/services").get("x-kong-admin-latency") is None


def test_ports_are_those_that_clients_see(home, origin):
    config = one_service(origin.url, hosts=["a.test:80"], paths=None)
    gateway = Gateway(home, config, family="KONG")
    gateway.env["KONG_PORT_MAPS"] = f"80:{gateway.proxy}, 443:8443"
    with gateway.start():
        assert echoed(gateway.get("/echo", [("Host", "a.test")]))["headers"]["x-forwarded-port"] == "80"
        assert gateway.get("/echo", [("Host", f"a.test:{gateway.proxy}")]).status == 404


def test_certificates_may_be_one_of_each_kind(home, origin):
    pairs = {kind: certificate("a.test", kind=kind) for kind in ("ec", "rsa")}
    for kind, (cert, key) in pairs.items():
        (home / f"{kind}.crt").write_text(cert)
        (home / f"{kind}.key").write_text(key)
    gateway = Gateway(home, one_service(origin.url), ssl_cert=f"{home}/ec.crt, {home}/rsa.crt", ssl_cert_key=f"{home}/ec.key,{home}/rsa.key")
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy} ssl"
    with gateway.start():
        for kind, cipher in (("ec", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("rsa", "ECDHE-RSA-AES128-GCM-SHA256")):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
            context.set_ciphers(cipher)
            with socket.create_connection(("127.0.0.1", gateway.proxy), timeout=20) as raw, context.wrap_socket(raw) as tls:
                assert ssl.DER_cert_to_PEM_cert(tls.getpeercert(True)) == pairs[kind][0]
    done = gateway.run("start", SLUICE_SSL_CERT_KEY=f"{home}/ec.key")
    assert done.returncode == 1 and "ssl_cert was specified 2 times while ssl_cert_key was specified 1 times" in done.stderr


def test_a_log_may_have_a_format_of_ones_own(home, origin):
    gateway = Gateway(home, one_service(origin.url), family="KONG", proxy_access_log="logs/mine.log mine", nginx_http_log_format="mine 'seen $request_uri'")
    with gateway.start():
        assert gateway.get("/echo").status == 200
        wait_for(lambda: "seen /echo" in (gateway.prefix / "logs/mine.log").read_text(), "a line of that format")


def test_timeouts_of_kongs_lua_sockets_are_those_of_calls(home, origin):
    gateway = Gateway(home, one_service(origin.url), family="KONG", nginx_http_lua_socket_read_timeout="7s", nginx_http_lua_socket_send_timeout="8s", nginx_http_wasm_socket_send_timeout="9s")
    with gateway.start():
        text = (gateway.prefix / "nginx.conf").read_text()
        assert "lua_socket" not in text and "wasm_socket_read_timeout 7s;" in text
        assert "wasm_socket_send_timeout 9s;" in text and "wasm_socket_send_timeout 8s;" not in text


def test_several_gateways_run_side_by_side_and_do_not_mix(home, origin):
    gateways = []
    try:
        for i in range(3):
            (home / str(i)).mkdir(mode=0o755)
            text = hello(origin).replace(GREETING, f"gateway {i}")
            gateways.append(greeter(home / str(i), config=text, family=["KONG", "SLUICE"][i % 2]).launch())
        for gateway in gateways:
            wait_for(gateway.ready, "ready")
        assert [g.get("/echo").get("x-greeting") for g in gateways] == ["gateway 0", "gateway 1", "gateway 2"]
        # ending one leaves the others, and only those two addresses of each are open
        gateways.pop(1).stop()
        assert [g.get("/echo").get("x-greeting") for g in gateways] == ["gateway 0", "gateway 2"]
        for gateway in gateways:
            assert listening(gateway) == {gateway.proxy, gateway.admin}
    finally:
        for gateway in gateways:
            gateway.stop()


def listening(gateway):
    """TCP ports on which this gateway's processes listen."""
    inodes = set()
    for pid in [gateway.pid(), *gateway.workers()]:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    ports = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}") as f:
            for line in f.readlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[9] in inodes:
                    ports.add(int(words[1].rsplit(":", 1)[1], 16))
    return ports


def test_files_are_where_kong_has_them(home, origin):
    with greeter(home, config=hello(origin)).start() as gateway:
        gateway.get("/echo")
        assert int((gateway.prefix / "pids/nginx.pid").read_text()) == gateway.process.pid
        access = wait_for(lambda: (gateway.prefix / "logs/access.log").read_text(), "access log")
        assert re.search(r'"GET /echo HTTP/1.1" 200 .* kong_request_id: "[0-9a-f]{32}"', access)
        assert '"GET /status' in (gateway.prefix / "logs/admin_access.log").read_text()
        assert (gateway.prefix / "nginx.conf").exists() and (gateway.prefix / "logs/error.log").exists()
        assert oct((gateway.prefix / ".sluice_env").stat().st_mode & 0o777) == "0o600"


def test_a_daemon_starts_and_stops_by_commands(home, origin):
    gateway = greeter(home, config=hello(origin), nginx_daemon="on")
    started = gateway.run("start")
    assert (started.returncode, started.stderr) == (0, "")
    assert f"127.0.0.1:{gateway.proxy}" in started.stdout and "Sluice started" in started.stdout
    try:
        check_hello(gateway)
        assert gateway.run("health").returncode == 0
        again = gateway.run("start")
        assert again.returncode == 1
        assert again.stderr.splitlines() == [f"Error: Sluice is already running in {gateway.prefix}; stop it first, or set SLUICE_PREFIX to another folder"]
        check_hello(gateway)
        pid = gateway.pid()
        restarted = gateway.run("restart")
        assert restarted.returncode == 0
        wait_for(gateway.ready, "ready again")
        assert gateway.pid() not in (0, pid)
        check_hello(gateway)
    finally:
        stopped = gateway.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Sluice stopped\n")
    assert not (gateway.prefix / "pids/nginx.pid").exists()
    gateway.check_log()


@pytest.mark.parametrize("command", ["stop", "quit"])
def test_both_ways_to_stop_end_the_foreground_with_zero(home, origin, command):
    gateway = greeter(home, config=hello(origin)).start()
    check_hello(gateway)
    gateway.stop(command)
    assert gateway.run("health").returncode == 1
    with pytest.raises(OSError):
        gateway.get("/")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGQUIT"])
def test_signals_to_the_foreground_process_end_it_with_zero(home, origin, name):
    gateway = greeter(home, config=hello(origin)).start()
    gateway.process.send_signal(getattr(signal, name))
    assert gateway.process.wait(20) == 0
    gateway.process = None
    gateway.check_log()


def test_quit_lets_a_request_in_flight_end_on_its_configuration(home, origin):
    gateway = greeter(home, config=hello(origin)).start()
    with gateway_connection(gateway) as c:
        c.send_request("GET", "/hold/1")
        assert origin.held.acquire(timeout=20)
        gateway.process.send_signal(signal.SIGQUIT)
        gateway.wait_log("gracefully shutting down")
        origin.go.set()
        response = c.read_response()
    assert response.status == 200 and response.get("x-greeting") == GREETING
    assert gateway.process.wait(20) == 0
    gateway.process = None
    gateway.check_log()


def gateway_connection(gateway):
    return http1.Connection(gateway.proxy)


def test_quit_with_a_time_limit_ends_a_request_that_hangs(home, origin):
    gateway = greeter(home, config=hello(origin)).start()
    gateway.allowed += ["open socket", "aborting"]  # what nginx says when it gives up waiting
    with gateway_connection(gateway) as c:
        c.send_request("GET", "/hold/1")
        assert origin.held.acquire(timeout=20)
        done = gateway.run("quit", "-t", "1")
        assert (done.returncode, done.stdout) == (0, "Timeout, Sluice stopped forcefully\n")
    assert gateway.process.wait(20) == 0
    gateway.process = None
    gateway.check_log()


@pytest.mark.parametrize("command", ["stop", "quit", "reload", "health"])
def test_commands_without_a_gateway_say_so(home, command):
    gateway = Gateway(home)
    nowhere = gateway.run(command)
    assert (nowhere.returncode, nowhere.stderr) == (1, f"Error: no such prefix: {gateway.prefix}\n")
    gateway.prefix.mkdir()
    done = gateway.run(command)
    assert (done.returncode, done.stderr) == (1, f"Error: Sluice is not running in {gateway.prefix}\n")


def test_an_error_is_one_line_without_control_characters(home):
    install(home / "filters", "trap_start")
    gateway = Gateway(home, one_service("http://a", ("trap_start", None)))
    done = gateway.run("check", gateway.file)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "unreachable code was reached at " in done.stderr
    gateway.write('_format_version: "3.0"\nservices: [{name: "a\\e[2J\\nb", url: "http://a"}]\n')
    done = gateway.run("check", gateway.file)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "\\x1b[2J\\x0ab" in done.stderr and "\x1b" not in done.stderr


def test_health_and_version(home, origin):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", sluice("version").stdout)
    assert sluice("--version").stdout == sluice("version").stdout
    with greeter(home, config=hello(origin)).start() as gateway:
        done = gateway.run("health")
        assert done.returncode == 0
        assert str(gateway.prefix) in done.stdout
        assert gateway.run("health", "-p", home / "other").returncode == 1


def test_a_pid_file_that_was_left_behind_is_no_running_gateway(home, origin):
    """kill -9 leaves the file; its number may by then be somebody else's process."""
    gateway = greeter(home, config=hello(origin))
    (gateway.prefix / "pids").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            (gateway.prefix / "pids/nginx.pid").write_text(f"{stranger.pid}\n")
            assert gateway.run("health").returncode == 1
            assert gateway.run("stop").returncode == 1
            assert stranger.poll() is None
            with gateway.start():
                check_hello(gateway)
        finally:
            stranger.kill()


def test_reload_takes_the_file_and_the_settings_and_loses_no_request(home, origin):
    gateway = greeter(home, config=hello(origin)).start()
    with gateway, gateway_connection(gateway) as c:
        c.send_request("GET", "/hold/1")
        assert origin.held.acquire(timeout=20)
        old = gateway.workers()
        gateway.write(hello(origin).replace(GREETING, "changed"))
        port = free_port()
        done = gateway.run("reload", SLUICE_PROXY_LISTEN=f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{port}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Sluice reloaded\n", "")
        wait_for(lambda: gateway.get("/echo").get("x-greeting") == "changed", "new configuration")
        origin.go.set()
        response = c.read_response()
        assert response.status == 200 and response.get("x-greeting") == GREETING
        wait_for(lambda: not set(old) & set(gateway.workers()), "the old workers end")
        wait_for(lambda: port in listening(gateway), "the new listener")


def test_a_reload_that_is_refused_changes_nothing(home, origin):
    with greeter(home, config=hello(origin)).start() as gateway:
        before = gateway.get_admin("/config").body
        workers = gateway.workers()
        for bad in ["services: [", "services: {}\n", hello(origin).replace("my-c-filter", "no-such-filter")]:
            gateway.write(bad)
            done = gateway.run("reload")
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        gateway.write(hello(origin))
        for settings in [{"SLUICE_LOG_LEVEL": "loud"}, {"SLUICE_NGINX_HTTP_NO_SUCH_DIRECTIVE": "1"}, {"SLUICE_PROXY_LISTEN": "nonsense"}, {"SLUICE_HEADERS": "x-no-such"}, {"SLUICE_ADMIN_LISTEN": f"127.0.0.1:{origin.port}"}]:
            done = gateway.run("reload", **settings)
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert gateway.get_admin("/config").body == before
        assert gateway.workers() == workers
        check_hello(gateway)
        # and the one after it works
        assert gateway.run("reload").returncode == 0
        wait_for(lambda: not set(gateway.workers()) & set(workers), "new workers")
        check_hello(gateway)


def test_a_reload_reads_the_settings_of_the_start_again(home, origin):
    """From another shell, which knows only the prefix."""
    with greeter(home, config=hello(origin)).start() as gateway:
        gateway.write(hello(origin).replace(GREETING, "changed"))
        done = sluice("reload", "-p", gateway.prefix, env=clean_env())
        assert (done.returncode, done.stderr) == (0, "")
        wait_for(lambda: gateway.get("/echo").get("x-greeting") == "changed", "new configuration")


def test_reload_and_restart_from_another_folder_and_shell_keep_the_settings(home, origin):
    """Relative paths, a configuration of several lines, an edited settings file: only the prefix is named again."""
    gateway = greeter(home, nginx_daemon="on")
    (home / "my.conf").write_text("headers = off\nlog_level = info\n")
    env = clean_env(SLUICE_PROXY_LISTEN=gateway.env["SLUICE_PROXY_LISTEN"], SLUICE_ADMIN_LISTEN=gateway.env["SLUICE_ADMIN_LISTEN"])
    started = sluice("start", "-c", "my.conf", env={**env, "SLUICE_PREFIX": "prefix", "SLUICE_WASM_FILTERS_PATH": "filters", "SLUICE_DECLARATIVE_CONFIG_STRING": hello(origin)}, cwd=home)
    assert (started.returncode, started.stderr) == (0, "")
    try:
        assert gateway.get("/echo").get("x-greeting") == GREETING and gateway.get("/echo").get("via") is None
        (home / "my.conf").write_text("headers = via\nlog_level = info\n")
        done = sluice("reload", "-p", gateway.prefix, env=clean_env(KONG_NO_SUCH_THING=1), cwd="/")
        assert (done.returncode, len(done.stderr.splitlines())) == (0, 1), done.stderr
        wait_for(lambda: gateway.get("/echo").get("via"), "the edited file counts")
        assert gateway.get("/echo").get("x-greeting") == GREETING
        pid = gateway.pid()
        done = sluice("restart", "-p", gateway.prefix, env=clean_env(), cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        assert gateway.pid() not in (0, pid)
        response = gateway.get("/echo")
        assert response.get("x-greeting") == GREETING and response.get("via") and response.get("server") is None
    finally:
        assert sluice("quit", "-p", gateway.prefix, env=clean_env()).returncode == 0
    gateway.check_log()


@pytest.mark.parametrize("name", ["with blanks", "quote'\"s", "ünï-códe", "back\\slash", "semi;colon {braces}", "#hash"])
def test_a_prefix_may_have_any_name(home, origin, name):
    gateway = greeter(home, config=hello(origin), nginx_daemon="on")
    gateway.prefix = home / name
    gateway.env["SLUICE_PREFIX"] = str(gateway.prefix)
    done = gateway.run("start")
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert gateway.get("/echo").get("x-greeting") == GREETING
        assert gateway.run("health").returncode == 0
        done = sluice("reload", "-p", gateway.prefix, env=clean_env())
        assert (done.returncode, done.stderr) == (0, "")
        gateway.wait_log("generation 2")
    finally:
        assert gateway.run("quit").returncode == 0
    gateway.check_log()


def test_a_prefix_that_nginx_would_misread_is_refused(home):
    done = sluice("start", "-p", home / "a$b", env=clean_env())
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "$" in done.stderr


def test_the_default_prefix_is_usr_local_sluice():
    assert "/usr/local/sluice" in sluice("health", env=clean_env()).stderr + sluice("health", env=clean_env()).stdout


def test_all_flags_of_kongs_listen_values_are_taken(home, origin):
    flags = "proxy_protocol deferred bind reuseport backlog=512 ipv6only=on so_keepalive=30m::10"
    gateway = greeter(home, config=hello(origin), trusted_ips="127.0.0.1", real_ip_header="proxy_protocol")
    other, six = free_port(), free_port()
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{other} {flags.replace('ipv6only=on ', '')}, [::1]:{six} {flags}"
    with gateway.start():
        check_hello(gateway)
        with http1.Connection(other) as c:
            c.send("PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n")
            c.send_request("GET", "/echo")
            assert echoed(c.read_response())["headers"]["x-real-ip"] == "203.0.113.7"


def test_without_a_declarative_file_the_gateway_is_empty_until_one_is_posted(home, origin):
    with greeter(home, declarative_config=None).start() as gateway:
        assert gateway.get("/echo").status == 404
        assert gateway.post_config(hello(origin), "text/yaml").status == 201
        check_hello(gateway)


def test_the_configuration_may_be_a_text_in_a_variable(home, origin):
    with greeter(home, declarative_config=None, declarative_config_string=hello(origin)).start() as gateway:
        check_hello(gateway)
        root = json.loads(gateway.get_admin("/").body)
        assert root["configuration"]["declarative_config_string"] == "******"


def test_a_posted_configuration_is_what_a_restarted_gateway_with_the_same_file_forgets(home, origin):
    """The declarative file is the truth at each start."""
    gateway = greeter(home, config=hello(origin)).start()
    gateway.configure(one_service(origin.url, name="posted"))
    assert json.loads(gateway.get_admin("/services").body)["data"][0]["name"] == "posted"
    gateway.stop()
    with gateway.start():
        check_hello(gateway)


def test_tls_listeners_have_a_certificate_of_their_own_and_speak_http2(home, origin):
    gateway = greeter(home, config=hello(origin))
    tls = free_port()
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, 127.0.0.1:{tls} http2 ssl reuseport backlog=1024"
    with gateway.start():
        with TlsHttp2(tls) as c:
            response = c.finish(c.send_headers("GET", "/echo"))
        assert response.status == 200 and response.get("x-greeting") == GREETING
        echo = json.loads(response.body)
        headers = dict(echo["headers"])
        assert headers["x-forwarded-proto"] == "https" and headers["x-forwarded-port"] == str(tls)
        assert headers["via"] == f"2 sluice/{VERSION}"
        assert oct((gateway.prefix / "ssl/default.key").stat().st_mode & 0o777) == "0o600"
        assert (gateway.prefix / "ssl/default.crt").exists()
        check_hello(gateway)


def test_a_prepared_prefix_is_all_that_nginx_needs(home, origin):
    with greeter(home, config=hello(origin)) as gateway:
        done = gateway.run("prepare")
        assert done.returncode == 0 and f"-p {gateway.prefix} -c {gateway.prefix}/nginx.conf" in done.stdout, done
        words = done.stdout.split("start it with: ")[1].split()
        gateway.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        wait_for(gateway.ready, "nginx serves")
        check_hello(gateway)
        again = gateway.run("prepare")
        assert again.returncode == 1 and "already running" in again.stderr


def test_commands_of_kong_that_are_not_there_say_what_is():
    done = sluice("migrations", "bootstrap")
    assert done.returncode == 0 and "nothing to migrate" in done.stdout
    for command in ("hybrid", "vault", "drain"):
        done = sluice(command)
        assert done.returncode == 1 and done.stderr.startswith("Error: ") and "No such command" not in done.stderr


def test_options_of_kongs_commands_are_taken_or_refused_with_the_reason(home, origin):
    with greeter(home, config=hello(origin)).launch("--run-migrations") as gateway:
        wait_for(gateway.ready, "the gateway serves")
        check_hello(gateway)
        assert gateway.run("quit", "--wait", "soon").returncode == 2
        done = gateway.run("quit", "--wait", "0", "-t", "20")
        assert (done.returncode, done.stdout) == (0, "Sluice stopped (gracefully)\n")
        assert gateway.process.wait(20) == 0
        gateway.process = None
    done = sluice("start", "--nginx-conf", "custom.template")
    assert done.returncode == 1 and "SLUICE_NGINX_<BLOCK>_<DIRECTIVE>" in done.stderr


def test_settings_files_are_checked_without_a_start(home):
    conf = home / "kong.conf"
    conf.write_text(f"# settings\nprefix = {home}/prefix\nlog_level = debug # all of it\nplugins = bundled\n")
    for args in [(conf,), ("-c", conf)]:
        done = sluice("check", *args)
        assert (done.returncode, done.stdout) == (0, f"configuration at {conf} is valid\n")
        assert done.stderr == f"Warning: {conf} line 4: 'plugins' is not known here and has no effect\n"
    assert not (home / "prefix").exists()
    conf.write_text("log_level = loud\n")
    done = sluice("check", conf)
    assert done.returncode == 1 and "log_level has an invalid value: 'loud'" in done.stderr


@pytest.mark.parametrize("setting, connections", [("pool_size", 3), ("max_requests", 1), ("idle_timeout", 1)])
def test_0_means_no_pool_of_connections_and_no_end_of_their_use(home, origin, setting, connections):
    with greeter(home, config=hello(origin), **{f"upstream_keepalive_{setting}": 0}).start() as gateway:
        assert len({gateway.get("/echo").get("x-connection") for _ in range(3)}) == connections


def test_the_built_in_listen_values_open_four_ports(home, origin):
    """8000 and 8001 of this machine may be taken; then the message is part of another test."""
    for port in (8000, 8001, 8443, 8444):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("0.0.0.0", port))
            except OSError:
                pytest.skip(f"port {port} is in use")
    gateway = greeter(home, config=hello(origin), listens=False)
    gateway.proxy, gateway.admin = 8000, 8001
    with gateway.start():
        check_hello(gateway)
        assert listening(gateway) == {8000, 8001, 8443, 8444}
        done = sluice("start", env=clean_env(SLUICE_PREFIX=home / "second", SLUICE_DATABASE="off"))
        assert done.returncode == 1 and "SLUICE_PROXY_LISTEN" in done.stderr


def test_listeners_may_be_off_ipv6_or_unix_sockets(home, origin):
    path = home / "admin.sock"
    gateway = greeter(home, config=hello(origin), admin_listen=f"unix:{path}", log_level="notice")
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{gateway.proxy}, [::1]:{gateway.proxy}"
    gateway.launch()
    wait_for(lambda: "generation 1" in gateway.log(), "generation")
    check_hello(gateway)
    with socket.create_connection(("::1", gateway.proxy)) as s:
        s.sendall(b"GET /echo HTTP/1.0\r\n\r\n")
        assert b"HTTP/1.1 200" in s.recv(65536)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        s.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        assert b"200 OK" in s.recv(65536)
    gateway.stop()


def test_wrong_usage_is_exit_code_2():
    for args in [[], ["dance"], ["start", "--no-such-option"], ["check"], ["check", "a", "b"], ["quit", "-t", "soon"]]:
        done = sluice(*args)
        assert done.returncode == 2, args
        assert "sage: sluice" in done.stderr
    assert sluice("--help").returncode == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root can choose a user")
def test_workers_run_as_the_worker_user(home, origin):
    with greeter(home, config=hello(origin)).start() as gateway:
        uids = {os.stat(f"/proc/{pid}").st_uid for pid in gateway.workers()}
        assert uids and 0 not in uids
