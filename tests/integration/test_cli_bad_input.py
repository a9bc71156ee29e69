"""
Bad input: each mistake is one line on stderr that says what, where and what to do, the exit code is not 0, nothing starts, and a gateway
that runs goes on with what it had. `sluice start`, `sluice check` and `sluice reload` are given the same mistakes.
"""

import json
import os
import socket

import pytest
import yaml
from gateway_helpers import *  # noqa: F403
from gateway_helpers import FILTERS, IS_ROOT, Gateway, chain, clean_env, document, folder, home, install, one_service, origin, origin_server, sluice  # noqa: F401

GOOD = ("my-c-filter", '{"my_greeting": "goes on"}')


@pytest.fixture(scope="module")
def running(origin_server):
    """A gateway that must not notice anything of all this."""
    with folder() as path:
        install(path / "filters", "my-c-filter", "probe", "noabi", "badimport", "badwasi", "badtype", "badexport", "configfail", "vmstartfail", "trap_start", "abi_future")
        (path / "filters/nowasm.wasm").write_text("this is a text file\n")
        (path / "filters/empty.wasm").write_bytes(b"")
        (path / "filters/cut.wasm").write_bytes((FILTERS / "probe.wasm").read_bytes()[:5000])
        for name in ("nowasm", "empty", "cut"):
            (path / f"filters/{name}.wasm").chmod(0o644)
        with Gateway(path, one_service(origin_server.url, GOOD)).start() as gateway:
            yield gateway


def with_chain(*chains):
    doc = one_service("http://127.0.0.1:9000")
    doc["services"][0]["routes"][0]["filter_chains"] = list(chains)
    return doc


def top_chain(**owners):
    doc = one_service("http://127.0.0.1:9000")
    doc["filter_chains"] = [chain(("probe", None), **owners)]
    return doc


def services(*entries, **more):
    return {"_format_version": "3.0", "services": list(entries), **more}


# name: document, what the line says
DOCUMENTS = {
    "an unknown filter": (with_chain(chain(("no-such-filter", None))), ["services[0].routes[0].filter_chains[0].filters[0].name: no such filter 'no-such-filter'; put no-such-filter.wasm into "]),
    "a file that is no Wasm": (with_chain(chain(("nowasm", None))), ["nowasm.wasm", "not a WebAssembly module", "filter chain of route 'r', filters[0]"]),
    "an empty file": (with_chain(chain(("empty", None))), ["empty.wasm"]),
    "a module that was cut": (with_chain(chain(("cut", None))), ["cut.wasm"]),
    "a module without the ABI's marker": (with_chain(chain(("noabi", None))), ["noabi", "proxy_abi_version"]),
    "a module of an unknown ABI": (with_chain(chain(("abi_future", None))), ["abi_future", "proxy_abi_version"]),
    "an import that nobody provides": (with_chain(chain(("badimport", None))), ["badimport", "no_such_function"]),
    "several imports that nobody provides": (with_chain(chain(("badwasi", None))), ["badwasi", "wasi_snapshot_preview1.thread_spawn", "env.proxy_not_in_any_abi"]),
    "an import of another type": (with_chain(chain(("badtype", None))), ["badtype"]),
    "an export of another type": (with_chain(chain(("badexport", None))), ["badexport"]),
    "a filter whose configure refuses": (with_chain(chain(("configfail", "bad words"))), ["configfail", "filters[0]", "refused on purpose: bad words"]),
    "a filter whose vm_start refuses": (with_chain(chain(("vmstartfail", None))), ["vmstartfail", "refused on purpose"]),
    "a filter that traps at its start": (with_chain(chain(("trap_start", None))), ["trap_start"]),
    "a configuration that the filter does not take": (with_chain(chain(("my-c-filter", "{ not json"))), ["my-c-filter"]),
    "two chains on one route": (with_chain(chain(("probe", None)), chain(("probe", None))), ["filter_chains[1]", "uniqueness violation"]),
    "a chain with neither service nor route": (top_chain(), ["filter_chains[0]", "at least one of these fields must be non-empty: 'service', 'route'"]),
    "a chain with both service and route": (top_chain(service="s", route="r"), ["filter_chains[0]", "only one or none of these fields must be set: 'service', 'route'"]),
    "a chain without filters": (with_chain({"filters": []}), ["filters", "length must be at least 1"]),
    "a chain of an unknown route": (top_chain(route="ghost"), ["invalid reference 'route: ghost' (no such entry in 'routes')"]),
    "an unknown key at the top": (services(serwices=[]), ["serwices", "unknown field"]),
    "an unknown key of a service": (services({"name": "s", "url": "http://h", "hots": "x"}), ["services[0].hots", "unknown field"]),
    "an unknown key of a filter": (with_chain(chain({"name": "probe", "konfig": "x"})), ["filters[0].konfig", "unknown field"]),
    "no version": ({"services": []}, ["_format_version", "required field missing"]),
    "an unknown version": ({"_format_version": "9.9"}, ["_format_version", "expected one of: 1.1, 2.1, 3.0"]),
    "a path without a slash": (one_service("http://h", paths=["x"]), ["services[0].routes[0].paths[0]", "should start with: / (fixed path) or ~/ (regex path)"]),
    "a regex that does not compile": (one_service("http://h", paths=["~/("]), ["paths[0]", "invalid regex"]),
    "a wrong type": (services({"name": "s", "host": "h", "port": "many"}), ["services[0].port", "expected an integer"]),
    "two services of one name": (services({"name": "s", "host": "h"}, {"name": "s", "host": "h"}), ["services[1]", "uniqueness violation"]),
    "broken YAML": ("_format_version: '3.0'\nservices: [\n", ["line "]),
    "a tab in YAML": ("_format_version: '3.0'\nservices:\n\t- name: s\n", ["line 3"]),
    "no object": ("- a\n- b\n", ["expected an object"]),
    "an empty file of configuration": ("", ["expected an object"]),
    "bytes that are no UTF-8": (b"_format_version: '3.0'\nservices:\n- name: \xff\xfe\n", ["invalid UTF-8 at byte 42"]),
}


def write(path, doc):
    if isinstance(doc, bytes):
        path.write_bytes(doc)
    else:
        path.write_text(doc if isinstance(doc, str) else yaml.safe_dump(doc, sort_keys=False))
    path.chmod(0o644)
    return path


def one_line(done, *says):
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    for text in says:
        assert text in lines[0], done.stderr
    return lines[0]


def goes_on(gateway, before):
    assert gateway.get("/").get("x-greeting") == "goes on"
    assert gateway.get_admin("/config").body == before


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_bad_document_is_one_line_for_check_start_and_reload(running, home, case):
    doc, says = DOCUMENTS[case]
    before = running.get_admin("/config").body
    path = write(home / "bad.yml", doc)
    checked = sluice("check", "--filters", running.filters, path)
    line = one_line(checked, str(path), *says)
    # the same words when it is started, or reloaded into
    gateway = Gateway(home, filters=running.filters, declarative_config=path)
    assert one_line(gateway.run("start"), *says) == line
    assert not gateway.pid()
    try:
        write(running.file, doc)
        reloaded = running.run("reload")
        assert one_line(reloaded, *says).replace(str(running.file), str(path)) == line
    finally:
        running.write(one_service("http://127.0.0.1:9000", GOOD))
    goes_on(running, before)


def test_several_mistakes_are_a_line_each(running, home):
    doc = services({"name": "s", "hots": "x", "port": -1}, {"name": "s2", "url": "http://h", "routes": [{"paths": ["x"]}]})
    done = sluice("check", write(home / "bad.yml", doc))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and all(line.startswith(f"Error: {home}/bad.yml: ") for line in lines)
    assert [line.split(": ")[2] for line in lines] == ["services[0].host", "services[0].port", "services[0].hots", "services[1].routes[0].paths[0]"]


def test_check_says_what_is_good_and_changes_nothing(running, home):
    path = write(home / "good.yml", one_service("http://h", GOOD, ("probe", None)))
    before = sorted(p.name for p in home.rglob("*"))
    done = sluice("check", "--filters", running.filters, path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{path}: parse successful, every filter starts\n")
    done = sluice("check", path, env=clean_env(KONG_WASM_FILTERS_PATH=running.filters))
    assert done.returncode == 0
    assert sorted(p.name for p in home.rglob("*")) == before


def test_a_filter_without_a_folder_says_what_to_set(home):
    done = sluice("check", write(home / "bad.yml", with_chain(chain(("probe", None)))))
    assert done.returncode == 1
    assert "no such filter 'probe'; set SLUICE_WASM_FILTERS_PATH to the folder that has probe.wasm" in done.stderr


def test_check_of_a_file_that_is_not_there(home):
    one_line(sluice("check", home / "none.yml"), f"{home}/none.yml", "No such file")
    one_line(sluice("check", home), str(home), "not a regular file")


# ---- settings ---------------------------------------------------------------------------------------------------------------------------

# settings (SLUICE_ is put before), what the line says
SETTINGS = {
    "no filters folder": ({"WASM_FILTERS_PATH": "/no/such/folder"}, ["wasm_filters_path '/no/such/folder' is not a valid directory; set SLUICE_WASM_FILTERS_PATH"]),
    "a filters folder that is a file": ({"WASM_FILTERS_PATH": "@FILE@"}, ["wasm_filters_path '@FILE@' is not a valid directory; set SLUICE_WASM_FILTERS_PATH"]),
    "no declarative file": ({"DECLARATIVE_CONFIG": "/no/such/file.yml"}, ["/no/such/file.yml", "No such file", "set SLUICE_DECLARATIVE_CONFIG"]),
    "wasm=maybe": ({"WASM": "maybe"}, ["SLUICE_WASM", "'maybe'", "on, off"]),
    "database=postgres": ({"DATABASE": "postgres"}, ["SLUICE_DATABASE", "postgres"]),
    "database=mongo": ({"DATABASE": "mongo"}, ["SLUICE_DATABASE", "'mongo'"]),
    "an unknown log level": ({"LOG_LEVEL": "loud"}, ["SLUICE_LOG_LEVEL", "'loud'", "debug"]),
    "a listen value without a port": ({"PROXY_LISTEN": "127.0.0.1"}, ["SLUICE_PROXY_LISTEN", "127.0.0.1"]),
    "an unknown listen flag": ({"ADMIN_LISTEN": "127.0.0.1:1 fast"}, ["SLUICE_ADMIN_LISTEN", "'fast'"]),
    "workers that are no number": ({"NGINX_WORKER_PROCESSES": "a;b"}, ["SLUICE_NGINX_WORKER_PROCESSES", "a;b"]),
    "a directive with braces": ({"NGINX_HTTP_ROOT": "x; } server {"}, ["SLUICE_NGINX_HTTP_ROOT"]),
    "no nginx": ({"NGINX_BINARY": "/no/such/nginx"}, ["SLUICE_NGINX_BINARY", "/no/such/nginx"]),
    "no module": ({"WASM_DYNAMIC_MODULE": "/no/such.so"}, ["SLUICE_WASM_DYNAMIC_MODULE", "/no/such.so"]),
    "an unknown router flavor": ({"ROUTER_FLAVOR": "expressions"}, ["SLUICE_ROUTER_FLAVOR", "expressions"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_bad_setting_is_one_line(running, home, case):
    settings, says = SETTINGS[case]
    gateway = Gateway(home, one_service("http://h", GOOD), filters=running.filters)
    gateway.env.update({f"SLUICE_{k}": v.replace("@FILE@", str(gateway.file)) for k, v in settings.items()})
    one_line(gateway.run("start"), *(text.replace("@FILE@", str(gateway.file)) for text in says))
    assert not gateway.pid()


def test_a_bad_line_of_the_settings_file_is_named(running, home):
    gateway = Gateway(home, one_service("http://h"), filters=running.filters)
    conf = home / "my.conf"
    conf.write_text("# comment\nlog_level = info\nno_such_setting = 1\n")
    one_line(gateway.run("start", "-c", conf), f"{conf} line 3", "no_such_setting")
    conf.write_text("log_level\n")
    one_line(gateway.run("start", "-c", conf), f"{conf} line 1", "name = value")
    one_line(gateway.run("start", "-c", home / "none.conf"), str(home / "none.conf"))


def test_bad_metadata_of_a_filter_is_named(home):
    install(home / "filters", "probe", "my-c-filter")
    (home / "filters/probe.meta.json").write_text("{")
    (home / "filters/my-c-filter.meta.json").write_text('{"config_schema": 1}')
    gateway = Gateway(home, one_service("http://h"))
    line = one_line(gateway.run("start"), "Failed to load metadata for one or more filters", "* probe (", "JSON decode error")
    assert "* my-c-filter (" in line


@pytest.mark.parametrize("which", ["PROXY", "ADMIN"])
@pytest.mark.parametrize("family", ["SLUICE", "KONG"])
def test_a_busy_port_names_the_variable(running, home, which, family):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = Gateway(home, one_service("http://h"), filters=running.filters, family=family)
        gateway.env[f"{family}_{which}_LISTEN"] = address
        one_line(gateway.run("start"), address, "in use", f"SLUICE_{which}_LISTEN", f"KONG_{which}_LISTEN")
        assert not gateway.pid()


def test_the_ports_of_a_running_gateway_are_busy(running, home):
    gateway = Gateway(home, one_service("http://h"), filters=running.filters)
    gateway.env["SLUICE_PROXY_LISTEN"] = f"127.0.0.1:{running.proxy}"
    one_line(gateway.run("start"), f"127.0.0.1:{running.proxy}", "SLUICE_PROXY_LISTEN")
    assert running.get("/").get("x-greeting") == "goes on"


def as_nobody(command, env):
    import subprocess

    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, user=65534, group=65534, extra_groups=[], check=False)


@pytest.fixture(scope="module")
def reachable():
    """The command where the user nobody may execute it."""
    import shutil

    from gateway_helpers import SLUICE

    with folder() as path:
        (path / "bin").mkdir(mode=0o755)
        shutil.copy(SLUICE, path / "bin/sluice")
        shutil.copytree(SLUICE.resolve().parents[1] / "modules", path / "modules")
        (path / "modules").chmod(0o755)
        path.joinpath("bin/sluice").chmod(0o755)
        for f in (path / "modules").iterdir():
            f.chmod(0o755)
        yield path


@pytest.mark.skipif(not IS_ROOT, reason="needs a second user")
def test_no_permission_for_the_prefix_says_what_to_set(reachable, home):
    gateway = Gateway(home, one_service("http://h"))
    gateway.prefix.mkdir(mode=0o755)
    gateway.env["SLUICE_WASM_DYNAMIC_MODULE"] = str(reachable / "modules/ngx_http_sluice_module.so")
    one_line(as_nobody([reachable / "bin/sluice", "start"], gateway.env), str(gateway.prefix), "permission", "SLUICE_PREFIX")
    gateway.env["SLUICE_PREFIX"] = str(gateway.prefix / "deeper/still")
    one_line(as_nobody([reachable / "bin/sluice", "start"], gateway.env), str(gateway.prefix), "ermission")


@pytest.mark.skipif(not IS_ROOT, reason="needs a second user")
def test_no_permission_for_files_is_named(reachable, home):
    install(home / "filters", "my-c-filter")
    path = write(home / "kong.yml", one_service("http://h", GOOD))
    command = [reachable / "bin/sluice", "check", "--filters", home / "filters", path]
    assert as_nobody(command, clean_env()).returncode == 0
    (home / "filters/my-c-filter.wasm").chmod(0o600)
    one_line(as_nobody(command, clean_env()), "my-c-filter.wasm", "Permission denied")
    (home / "filters").chmod(0o700)
    one_line(as_nobody(command, clean_env()), "wasm_filters_path", str(home / "filters"), "permission")
    path.chmod(0o600)
    one_line(as_nobody(command, clean_env()), str(path), "Permission denied")


@pytest.mark.skipif(not IS_ROOT, reason="root's gateway prepares as the worker user")
def test_a_filter_that_workers_cannot_read_is_found_before_the_start(home):
    install(home / "filters", "my-c-filter")
    (home / "filters/my-c-filter.wasm").chmod(0o600)
    gateway = Gateway(home, one_service("http://h", GOOD))
    one_line(gateway.run("start"), "my-c-filter.wasm", "Permission denied")
    (home / "filters").chmod(0o700)
    one_line(gateway.run("start"), "wasm_filters_path", "permission")
    assert not gateway.pid()


@pytest.mark.skipif(not IS_ROOT, reason="needs a second user")
def test_a_gateway_runs_without_root(reachable, home, origin):
    install(home / "filters", "my-c-filter")
    gateway = Gateway(home, one_service(origin.url, GOOD), nginx_daemon="on")
    home.chmod(0o777)
    gateway.env["SLUICE_WASM_DYNAMIC_MODULE"] = str(reachable / "modules/ngx_http_sluice_module.so")
    gateway.env["SLUICE_NGINX_BINARY"] = "/usr/sbin/nginx"
    done = as_nobody([reachable / "bin/sluice", "start"], gateway.env)
    assert done.returncode == 0, done
    try:
        assert gateway.get("/").get("x-greeting") == "goes on"
        gateway.configure(one_service(origin.url, ("my-c-filter", '{"my_greeting": "posted"}')))
        assert gateway.get("/").get("x-greeting") == "posted"
        assert {os.stat(f"/proc/{pid}").st_uid for pid in [gateway.pid(), *gateway.workers()]} == {65534}
    finally:
        assert as_nobody([reachable / "bin/sluice", "quit"], gateway.env).returncode == 0
    gateway.check_log()


def test_what_a_broken_start_leaves_does_not_hinder_the_next_one(running, home, origin):
    gateway = Gateway(home, with_chain(chain(("configfail", None))), filters=running.filters)
    assert gateway.run("start").returncode == 1
    gateway.write(one_service(origin.url, GOOD))
    with gateway.start():
        assert gateway.get("/").get("x-greeting") == "goes on"
        assert json.loads(gateway.get_admin("/status").body)["configuration_hash"] != "0" * 32
