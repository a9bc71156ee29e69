"""
What the documents say is done here: each shell block of the README and of the guide is run as it stands, with ports, prefix and nginx
replaced by this run's own; the example files are loaded; links lead somewhere; tables name what there is.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
import yaml
from gateway_helpers import *  # noqa: F403
from gateway_helpers import FILTERS, FLAVOR, MODULE, ROOT, SLUICE, Gateway, clean_env, folder, free_port, home, install, nginx_binary, origin, origin_server, sluice, wait_for  # noqa: F401
from support import http1

README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs/guide/gateway.md").read_text()
FROM_KONG = (ROOT / "docs/guide/from-kong.md").read_text()
FROM_WASMX = (ROOT / "docs/guide/from-wasmx.md").read_text()
DOCUMENTS = sorted(p for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "templates/*/*.md") for p in ROOT.glob(pattern) if "/target/" not in str(p))
LANGUAGE = "go" if (FILTERS / "my-go-filter.wasm").exists() else "c"
GREETING = "Hello from Sluice using WebAssembly!"


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block(text, language, words):
    """The one block with these words."""
    found = [b for b in blocks(text, language) if words in b]
    assert len(found) == 1, f"{len(found)} blocks of {language} have {words!r}"
    return found[0]


# How each shell block is run; a new one must be added here, with a test that runs it.
RUN_HERE = {
    "README.md": ["make run", "curl -i http://127.0.0.1:8000/echo", "SLUICE_PREFIX=$PWD/gateway"],
    "docs/guide/gateway.md": ["sluice start -p /usr/local/sluice", "/services -d name=example", "/transactions", "-F config=@kong.yml", "/upstreams/shop.internal", "openssl req"],
    "docs/guide/from-kong.md": ["sluice check", "KONG_DATABASE=off", "db_import", "/services/shop/routes", "routes explain"],
    "docs/guide/from-wasmx.md": ["nginx -t"],
}


@pytest.mark.parametrize("name", RUN_HERE)
def test_every_shell_block_is_run_by_a_test_of_this_file(name):
    text = (ROOT / name).read_text()
    found = blocks(text, "sh")
    assert len(found) == len(RUN_HERE[name])
    for words in RUN_HERE[name]:
        assert any(words in b for b in found), words
    # none hides in a block of another name
    assert not blocks(text, "bash") and not blocks(text, "shell") and not blocks(text, "console")


class Place:
    """A folder as a reader would have it: build/, filters/, config/kong.yml; commands run in it."""

    def __init__(self, path, origin):
        self.path, self.origin = path, origin
        self.proxy, self.admin, self.listen, self.tls = free_port(), free_port(), free_port(), free_port()
        install(path / "filters", "my-c-filter")  # the one in C is compiled in no time
        (path / "build").mkdir(mode=0o755)
        (path / "build/bin").symlink_to(SLUICE.parent)
        (path / "bin").mkdir()
        (path / "bin/sluice").symlink_to(SLUICE)
        (path / "config").mkdir(mode=0o755)
        for name in ("config/kong.yml", "kong.yml"):
            (path / name).write_text(self.own(block(README, "yaml", "_format_version")))
            (path / name).chmod(0o644)
        self.env = clean_env(SLUICE_PROXY_LISTEN=f"127.0.0.1:{self.proxy}, 127.0.0.1:{self.tls} ssl http2", SLUICE_ADMIN_LISTEN=f"127.0.0.1:{self.admin}", SLUICE_NGINX_WORKER_PROCESSES=1)
        self.env["PATH"] = f"{path}/bin:{self.env['PATH']}"
        self.prefixes = [path / "gateway", path / "prefix"]

    def own(self, text):
        """The same text with what is this run's own."""
        for old, new in [(":8000", f":{self.proxy}"), (":8001", f":{self.admin}"), (":9000", f":{self.origin.port}"), (":8080", f":{self.listen}"), (":8443", f":{self.tls}")]:
            text = text.replace(f"127.0.0.1{old}", f"127.0.0.1{new}")
        return text.replace("/usr/local/sluice", f"{self.path}/prefix").replace("my-go-filter", "my-c-filter")

    def run(self, text, **env):
        """As a shell that stops at the first failure; curl fails where the answer is an error."""
        script = f'set -euo pipefail\ncurl() {{ command curl --fail-with-body "$@"; }}\n{self.own(text)}'
        done = subprocess.run(["bash", "-c", script], cwd=self.path, env={**self.env, **env}, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def greeting(self):
        return http1.get(self.proxy, "/echo").get("x-greeting")

    def stop(self):
        for prefix in self.prefixes:
            if (prefix / "pids/nginx.pid").exists():
                assert sluice("quit", "-p", prefix, env=self.env).returncode == 0


@pytest.fixture
def place(home, origin):
    there = Place(home, origin)
    yield there
    there.stop()


# ---- README ---------------------------------------------------------------------------------------------------------------------


def run_sh(place, **env):
    ports = {"PROXY_PORT": place.proxy, "ADMIN_PORT": place.admin, "UPSTREAM_PORT": free_port()}
    names = {"RUN_NGINX": FLAVOR, "RUN_FILTER": f"build/filters/my-{LANGUAGE}-filter.wasm"}
    env = {**clean_env(), **{k: str(v) for k, v in {**ports, **names, **env}.items()}}
    return subprocess.Popen([ROOT / "tools/run.sh"], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def test_make_run_once_shows_the_greeting_and_ends(place):
    """`make run` builds, which has been done, and then calls tools/run.sh."""
    assert re.search(r"^run:.*\n\t.*tools/run\.sh", (ROOT / "Makefile").read_text(), re.MULTILINE)
    process = run_sh(place, ONCE=1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    for line in ["HTTP/1.1 200 OK", f"X-Greeting: {GREETING}"]:
        assert line in output.splitlines()
        assert line in README
    with pytest.raises(OSError):
        http1.get(place.proxy, "/")


def test_make_run_serves_until_it_is_interrupted(place):
    process = run_sh(place)
    try:
        seen = ""
        while "serving until Ctrl-C" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        output = place.run(block(README, "sh", "curl -i http://127.0.0.1:8000/echo"))
        assert f"X-Greeting: {GREETING}" in output.replace("\r", "").splitlines()
        plan = json.loads(output[output.rindex('{"filters"') :])["filters"]
        assert [(f["name"], f["from"], f["enabled"]) for f in plan] == [(f"my-{LANGUAGE}-filter", "route", True)]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize("variable", ["PROXY_PORT", "ADMIN_PORT", "UPSTREAM_PORT"])
def test_make_run_names_the_variable_of_a_busy_port(place, origin, variable):
    process = run_sh(place, **{variable: origin.port})
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert variable in output and str(origin.port) in output


def test_the_readmes_gateway_starts_and_its_kong_names_do_the_same(place):
    start = block(README, "sh", "SLUICE_PREFIX=$PWD/gateway")
    place.run(start)
    assert place.greeting() == GREETING
    assert "parse successful" in place.run("sluice check --filters filters kong.yml")
    place.stop()
    for name in ("PREFIX", "WASM_FILTERS_PATH", "DECLARATIVE_CONFIG"):
        assert f"`KONG_{name}`" in README
        start = start.replace(f"SLUICE_{name}", f"KONG_{name}")
    place.run("KONG_DATABASE=off " + start)
    assert place.greeting() == GREETING


def test_the_readmes_declarative_file_is_the_example():
    text = block(README, "yaml", "_format_version")
    assert text == (ROOT / "examples/hello/kong.yml").read_text()
    entry = yaml.safe_load(text)["services"][0]["routes"][0]["filter_chains"][0]["filters"][0]
    assert entry == {"name": "my-go-filter", "config": '{\n  "my_greeting": "' + GREETING + '"\n}'}


def nginx_runs(place, text, path, expected):
    """Starts a hand-written nginx.conf; then `path` is answered with that greeting."""
    conf = place.path / "nginx.conf"
    conf.write_text(text)
    for name in ("logs", "build/nginx-example"):
        (place.path / name).mkdir(exist_ok=True)
    command = [nginx_binary(), "-p", str(place.path), "-c", str(conf), "-e", "stderr"]
    tested = subprocess.run([*command, "-t"], cwd=place.path, env=clean_env(), capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stderr
    with open(place.path / "nginx.log", "w") as log, subprocess.Popen([*command, "-g", "daemon off;"] if "daemon off" not in text else command, cwd=place.path, env=clean_env(), stdout=log, stderr=log) as nginx:
        try:

            def answers():
                assert nginx.poll() is None, (place.path / "nginx.log").read_text()
                try:
                    return http1.get(place.listen, path)
                except OSError:
                    return None

            response = wait_for(answers, "nginx answers")
            assert response.status == 200 and response.get("x-greeting") == expected
        finally:
            nginx.terminate()
            assert nginx.wait(20) == 0


def test_the_readmes_nginx_conf_serves(place):
    text = block(README, "nginx", "proxy_wasm")
    shutil.copy(FILTERS / "my-c-filter.wasm", place.path / "filters/hello.wasm")
    for old, new in [("modules/ngx_http_sluice_module.so", MODULE), ("/etc/nginx/filters/hello.wasm", f"{place.path}/filters/hello.wasm"), ("listen 8080", f"listen 127.0.0.1:{place.listen}")]:
        assert old in text
        text = text.replace(old, new)
    nginx_runs(place, place.own(text) + f"\npid {place.path}/nginx.pid;\nerror_log stderr notice;\n", "/", "Hello")
    # a broken filter is refused before it serves
    (place.path / "filters/hello.wasm").write_text("no filter")
    tested = subprocess.run([nginx_binary(), "-t", "-p", place.path, "-c", place.path / "nginx.conf", "-e", "stderr"], env=clean_env(), capture_output=True, text=True, check=False)
    assert tested.returncode != 0 and "hello" in tested.stderr


def test_the_example_of_a_hand_written_nginx_conf_serves(place):
    text = place.own((ROOT / "examples/nginx/nginx.conf").read_text())
    shutil.copytree(FILTERS, place.path / "build/filters", ignore=lambda d, names: [n for n in names if n != "my-c-filter.wasm"])
    text = text.replace("build/modules/ngx_http_sluice_module.so", MODULE)
    nginx_runs(place, text, "/other", "Hello again")
    nginx_runs(place, text, "/", "Hello from nginx using WebAssembly!")


# ---- the guide ---------------------------------------------------------------------------------------------------------------------


def test_the_guides_store_is_changed_by_its_commands(place):
    place.run(block(GUIDE, "sh", "sluice start -p /usr/local/sluice"))
    place.run(block(GUIDE, "sh", "/services -d name=example"))
    assert http1.get(place.proxy, "/example/x").status == 200
    answer = json.loads(place.run(block(GUIDE, "sh", "/transactions")))
    assert [r["status"] for r in answer["results"]][-1] == 204
    assert http1.get(place.proxy, "/shop").status == 200
    place.run(block(GUIDE, "sh", "/upstreams/shop.internal"))
    assert dict(json.loads(http1.get(place.proxy, "/balanced/x").body)["headers"])["host"] == "shop.test"
    over_tls = place.run(block(GUIDE, "sh", "openssl req"))
    assert '"x-forwarded-proto", "https"' in over_tls
    for command in ("health", "reload", "restart", "quit"):
        assert f"sluice {command}`" in GUIDE
        place.run(f"sluice {command} -p /usr/local/sluice")


def test_the_guides_configuration_is_posted_to_a_gateway_without_a_database(place):
    place.run("SLUICE_DATABASE=off SLUICE_WASM_FILTERS_PATH=filters sluice start -p /usr/local/sluice")
    assert http1.get(place.proxy, "/echo").status == 404
    place.run(block(GUIDE, "sh", "-F config=@kong.yml"))
    assert place.greeting() == GREETING


# ---- coming from elsewhere ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kongs(place):
    (place.path / "kong.yml").write_text(place.own(block(FROM_KONG, "yaml", "_format_version")))
    return place


def test_a_kong_user_checks_starts_and_explains(kongs):
    assert "parse successful" in kongs.run(block(FROM_KONG, "sh", "sluice check"))
    kongs.run(block(FROM_KONG, "sh", "KONG_DATABASE=off"))
    assert http1.get(kongs.proxy, "/shop").get("x-greeting") == "Hello from the shop"
    assert http1.get(kongs.proxy, "/orders/17").status == 200 and http1.get(kongs.proxy, "/orders/x").status == 404
    assert re.search(r"\borders\b", kongs.run(block(FROM_KONG, "sh", "routes explain")))


def test_a_kong_user_imports_into_the_store_and_goes_on_with_the_admin_api(kongs):
    kongs.run(block(FROM_KONG, "sh", "db_import"))
    wait_for(lambda: http1.get(kongs.proxy, "/shop").get("x-greeting") == "Hello from the shop", "the import")
    output = kongs.run(block(FROM_KONG, "sh", "/services/shop/routes"))
    assert '"name":"orders"' in output and '"retries":1' in output
    assert http1.get(kongs.proxy, "/search").status == 404  # its route was deleted last


def test_what_a_kong_user_is_told_to_be_refused_is(kongs):
    """Texts of the table, from the gateway itself."""
    text = FROM_KONG[FROM_KONG.index("## What is refused by name") :]
    for extra, words in [("plugins: [{name: x}]", "plugin 'x' not enabled; add it to the 'plugins' configuration property"), ("vaults: []", "vaults are not supported by this gateway")]:
        assert words in text
        (kongs.path / "refused.yml").write_text(f'_format_version: "3.0"\n{extra}\n')
        done = sluice("check", kongs.path / "refused.yml", env=kongs.env)
        assert done.returncode == 1 and words in done.stderr
    for name, value in [("KONG_ROUTER_FLAVOR", "expressions"), ("KONG_DATABASE", "postgres"), ("KONG_PG_HOST", "db")]:
        assert name.removeprefix("KONG_").lower().removesuffix("host") in text
        assert sluice("start", "-p", kongs.path / "prefix", env={**kongs.env, name: value}).returncode == 1


def test_a_wasmx_user_keeps_the_file(place):
    text = block(FROM_WASMX, "nginx", "load_module")
    shutil.copy(FILTERS / "my-c-filter.wasm", place.path / "filters/hello.wasm")
    for old, new in [("modules/ngx_http_sluice_module.so", MODULE), ("/etc/nginx/filters/hello.wasm", f"{place.path}/filters/hello.wasm"), ("listen 8080", f"listen 127.0.0.1:{place.listen}")]:
        assert old in text
        text = text.replace(old, new)
    text = place.own(text) + f"\npid {place.path}/nginx.pid;\nerror_log stderr notice;\n"
    nginx_runs(place, text, "/", "Hello from the old configuration")
    dialect = block(FROM_WASMX, "nginx", "proxy_wasm_dialect").removeprefix("wasm {\n").removesuffix("}\n")
    assert "wasm {\n" in text
    nginx_runs(place, text.replace("wasm {\n", "wasm {\n" + dialect, 1), "/", "Hello from the old configuration")
    # the command of the guide, with this run's nginx
    (place.path / "bin/nginx").write_text(f'#!/bin/sh\nexec {nginx_binary()} -p {place.path} -e stderr "$@"\n')
    (place.path / "bin/nginx").chmod(0o755)
    place.run(block(FROM_WASMX, "sh", "nginx -t"))
    # and what the guide says is refused
    for line, words in [("wasm_call log hello f;", "wasm_call"), ("proxy_wasm_isolation x;", "isolation")]:
        (place.path / "bad.conf").write_text(text.replace("proxy_wasm hello", f"{line}\n proxy_wasm hello"))
        done = subprocess.run([place.path / "bin/nginx", "-t", "-c", place.path / "bad.conf"], env=clean_env(), capture_output=True, text=True, check=False)
        assert done.returncode != 0 and words in done.stderr


def first_cells(text, heading):
    """Words in the first column of the table under a heading line."""
    table = text[text.index(heading) :].split("\n\n")[0]
    return [line.split("|")[1].strip() for line in table.splitlines()[2:] if line.startswith("|")]


def test_the_guide_lists_the_commands_that_there_are(home):
    listed = {word for cell in first_cells(GUIDE, "| command | does |") for word in re.findall(r"`sluice (\w+)", cell)}
    text = sluice("--help").stdout
    real = set(re.findall(r"^  (\w+)", text[text.index("Commands:") : text.index("Options:")], re.MULTILINE))
    assert listed == real


def test_the_guide_lists_settings_that_exist_with_their_defaults(home):
    names = {}
    table = GUIDE[GUIDE.index("| setting | default |") :].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [c.strip() for c in line.split("|")]
        first = None
        for name in cells[1].split(", "):
            first = first or name
            names[name if not name.startswith("_") else first.rsplit("_", 2)[0] + name] = cells[2]
    env = clean_env(**{f"SLUICE_{name.upper()}": "" for name in names if name not in ("prefix", "log_level")})
    done = sluice("check", home / "none.yml", env=env)
    unknown = [line for line in done.stderr.splitlines() if "not known" in line]
    assert not unknown and len(names) > 30
    text = (ROOT / "src/cli/settings.c").read_text()
    for name in ("router_flavor", "dns_hostsfile", "real_ip_header", "log_level", "error_default_type", "prefix"):
        default = re.search(rf'{{"{name}", "([^"]*)"', text)[1]
        assert names.get(name, names.get("trusted_ips") if name == "real_ip_header" else "").find(default) >= 0, name


# ---- everything -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_yaml_of_the_documents_is_yaml(path):
    for text in blocks(path.read_text(), "yaml"):
        assert yaml.safe_load(text)


@pytest.mark.parametrize("path", sorted([*ROOT.glob("examples/*/kong.yml"), *ROOT.glob("templates/*/kong.yml")]), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_declarative_files_of_examples_and_templates_are_accepted(path):
    names = set(re.findall(r"my-\w+-filter", path.read_text()))
    missing = [n for n in names if not (FILTERS / f"{n}.wasm").exists()]
    if missing:
        pytest.skip(f"{missing[0]} cannot be built on this machine")
    done = sluice("check", "--filters", FILTERS, path)
    assert (done.returncode, done.stderr) == (0, "")


def test_make_help_names_the_targets_of_the_documents():
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    listed = set(re.findall(r"^  ([a-z<>-]+)", done.stdout, re.MULTILINE))
    for path in DOCUMENTS:
        if "templates" in path.parts:
            continue  # they have makefiles of their own
        for target in re.findall(r"(?:^|`|    )make ([a-z][a-z-]+)(?=[`\s])", path.read_text(), re.MULTILINE):
            assert target in listed or re.match(r"(test-unit|fuzz|bench)-", target), f"{path.name}: make {target}"


def test_make_doctor_says_what_was_found():
    done = subprocess.run(["make", "--no-print-directory", "doctor"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "nginx" in done.stdout and "asmtime" in done.stdout
