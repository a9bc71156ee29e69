#!/usr/bin/env python3
"""Checks the direction of includes, where foreign headers may appear, and what no file of the repository may contain.

Usage: check-layers.py    (from anywhere; looks at the files that git knows or would add)
Prints one line per finding, "file:line: what", and exits 1 if there is any.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# layer -> layers whose headers it may include (itself always)
SEES = {
    "base": set(),
    "shm": {"base"},
    "engine": {"base"},
    "proxywasm": {"base", "engine"},
    "memhost": {"base", "engine", "proxywasm"},
    "gateway": {"base"},
    "store": {"base", "gateway"},
    "node": {"base", "engine", "proxywasm", "memhost", "gateway", "store"},
    "cli": {"base", "engine", "proxywasm", "memhost", "gateway", "store", "node"},
    "nginx": {"base", "shm", "engine", "proxywasm", "memhost", "gateway", "store", "node"},
}
# Within src/nginx: http and stream do not see each other, nor what puts everything together.
NGINX_SEES = {"common": set(), "http": {"common"}, "stream": {"common"}, "gateway": {"common", "http", "stream"}}

# header pattern -> (where it may be included, in how many files of that place; None: any number)
FOREIGN = [
    (r"wasmtime(/.*)?\.h|wasm\.h|wasi\.h", r"src/engine/engines/wasmtime(\.c|_\w+\.[ch])", 5),
    (r"jansson\.h", r"src/(gateway/|store/|node/|cli/)[^/]+\.[ch]", None),
    (r"yaml\.h", r"src/gateway/[^/]+\.c", 1),
    (r"pcre2\.h", r"src/base/sl_regex\.c", 1),
    (r"sqlite3\.h", r"src/store/store_sqlite_db\.c", 1),
    (r"libpq-fe\.h", r"src/store/[^/]+\.c", 1),
    (r"nghttp2/.*\.h", r"src/[^/]+/.*\.c", 1),
    (r"ngx_.*\.h|nginx\.h", r"src/nginx/.*", None),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
NGX = re.compile(r"\b(ngx_\w+|NGX_[A-Z]\w+)")
# Nothing in the tree may contain these; split here, so that this file is not found by itself.
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b")
PATHS = re.compile(r"(?<![\w.$})-])/(home|root|Users|work" r")/[\w.-]+")
TEXT_SUFFIXES = {".c", ".h", ".py", ".sh", ".mk", ".md", ".yml", ".yaml", ".json", ".go", ".rs", ".toml", ".wat", ".conf", ".env", ".txt", ""}

findings = []


def finding(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def files():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [p for p in map(pathlib.PurePosixPath, out.splitlines()) if (ROOT / p).is_file()]


def read(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace").splitlines()


def strip_comments(lines):
    """Code with comments and strings blanked, line numbers kept; good enough to look for identifiers."""
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', lambda m: re.sub(r"[^\n]", " ", m.group()), "\n".join(lines), flags=re.S)
    return text.split("\n")


def owners(paths):
    """Header name -> the layers (or nginx/<part>) that have a header of that name."""
    table = {}
    for path in paths:
        if path.suffix == ".h" and path.parts[0] == "src":
            table.setdefault(path.name, set()).add(path.parts[1])
    return table


def nginx_part(path):
    return path.parts[2] if len(path.parts) > 3 else None


def check_include(path, number, name, table, nginx_headers):
    layer = path.parts[1]
    owner = table.get(name, set())
    if owner and layer not in owner and not owner & SEES.get(layer, set()):
        finding(path, number, f'src/{layer} may not include "{name}" of src/{"|".join(sorted(owner))}')
    if layer == "nginx" and name in nginx_headers:
        mine, theirs = nginx_part(path), nginx_headers[name]
        if mine and theirs and mine != theirs and theirs not in NGINX_SEES.get(mine, set()):
            finding(path, number, f'src/nginx/{mine} may not include "{name}" of src/nginx/{theirs}')


def check_sources(paths):
    table = owners(paths)
    nginx_headers = {p.name: nginx_part(p) for p in paths if p.suffix == ".h" and p.parts[:2] == ("src", "nginx")}
    users = {}
    for path in paths:
        if path.parts[0] != "src" or path.suffix not in (".c", ".h"):
            continue
        lines = read(path)
        first = None
        for number, line in enumerate(lines, 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            name = m.group(2)
            first = first or name
            if "/" in name and m.group(1) == '"':
                finding(path, number, f'include by bare name, not "{name}"')
            check_include(path, number, name, table, nginx_headers)
            for pattern, where, _ in FOREIGN:
                if re.fullmatch(pattern, name):
                    users.setdefault(pattern, set()).add(path)
                    if not re.fullmatch(where, str(path)):
                        finding(path, number, f"<{name}> may only be included in {where}")
        own = path.with_suffix(".h").name
        if path.suffix == ".c" and path.with_suffix(".h") in paths and first != own:
            finding(path, 1, f'the own header "{own}" comes first')
        if path.parts[1] != "nginx":
            for number, line in enumerate(strip_comments(lines), 1):
                m = NGX.search(line)
                if m:
                    finding(path, number, f"{m.group()} outside of src/nginx")
    for pattern, _, limit in FOREIGN:
        if limit is not None and len(users.get(pattern, ())) > limit:
            names = ", ".join(sorted(map(str, users[pattern])))
            findings.append(f"{pattern}: in {len(users[pattern])} files, at most {limit} may include it: {names}")


def check_places(paths):
    """A folder that the Makefile does not know is not compiled, and its tests do not run."""
    for path in paths:
        parts = path.parts
        if path.suffix == ".c" and parts[0] == "src" and parts[1] not in SEES:
            finding(path, 1, f"src/{parts[1]} is no layer; add it to mk/libs.mk and tools/check-layers.py")
        if path.suffix == ".c" and parts[:2] == ("tests", "unit") and parts[2] not in set(SEES) - {"nginx"} | {"support"}:
            finding(path, 1, f"tests/unit/{parts[2]} belongs to no layer, so its tests do not run")


def check_texts(paths):
    for path in paths:
        if path.suffix not in TEXT_SUFFIXES or path.name == "LICENSE":
            continue
        for number, line in enumerate(read(path), 1):
            m = MARKS.search(line)
            if m:
                finding(path, number, f"{m.group()} left in the tree")
            m = PATHS.search(line)
            if m:
                finding(path, number, f"a path of one machine: {m.group()}")


def main():
    paths = files()
    check_sources(paths)
    check_places(paths)
    check_texts(paths)
    print("\n".join(findings), file=sys.stderr) if findings else print("layers and texts: ok")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
