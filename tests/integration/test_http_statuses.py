"""The table of statuses that memhost is held to (tests/conformance/statuses.txt), through nginx: the probe filter makes the same host calls."""

import re

import pytest

from support import http1, http2, probe
from support.nginx import ROOT, wait_for

PHASES = ["request_headers", "request_body", "response_headers", "response_body", "log", "tick"]


def rows():
    for line in (ROOT / "tests/conformance/statuses.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            call, arguments, statuses = (part.strip() for part in line.split("|"))
            yield call, arguments, statuses.split()


def decoded(text):
    return re.sub(rb"\\(r|n|0|x[0-9a-f]{2})", lambda m: {b"r": b"\r", b"n": b"\n", b"0": b"\0"}.get(m[1]) or bytes.fromhex(m[1][1:].decode()), text.encode())


def pairs(text):
    items = [item.split("=", 1) for item in text.split(",")]
    out = len(items).to_bytes(4, "little")
    out += b"".join(len(k).to_bytes(4, "little") + len(v).to_bytes(4, "little") for k, v in items)
    return out + b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in items)


def lines_of(phase, call, arguments, base, mark):
    """Texts stand one behind the other in the spare bytes of the filter, out parameters at their end."""
    memory, words = b"", []
    for word in re.findall(r"'[^']*'|\{[^}]*\}|\S+", arguments):
        if word[0] in "'{":
            data = decoded(word[1:-1]) if word[0] == "'" else pairs(word[1:-1])
            words += [base + len(memory), len(data)]
            memory += data
        elif word == "null":
            words += [0, 0]
        elif word[0] == "&":
            words.append(base + 3800 + 16 * (ord(word[1]) - ord("a")))
        else:
            words.append(word)
    fill = [f"{phase}: scratch " + "".join(f"\\x{byte:02x}" for byte in memory)] if memory else []
    return [*fill, f"{phase}: raw {call} {' '.join(map(str, words))}", f"{phase}: log cf {mark} = $status;"]


@pytest.fixture
def server(nginx, upstream):
    def start(*filters):
        uses = "".join(probe.use(*lines) for lines in filters)
        nginx.start(
            f"server {{ listen 127.0.0.1:@PORT@; listen 127.0.0.1:@PORT2@ http2; large_client_header_buffers 4 32k; {uses} location / {{ proxy_pass http://up; }} }}",
            http=f"upstream up {{ server 127.0.0.1:{upstream.port}; }}",
            wasm=probe.module(config="# a configuration"),
        )
        return nginx

    return start


def base_of(nginx):
    """Where the spare bytes are, in this build of the filter."""
    return int(http1.get(nginx.port(), "/bytes/1", probe.do("response_headers: note x-buf $buf")).get("x-buf"))


def answers(nginx, expected):
    try:
        wait_for(lambda: expected <= set(re.findall(r"cf (\S+) = \d+", nginx.log())), "all statuses", 20)
    except AssertionError:
        missing = expected - set(re.findall(r"cf (\S+) = \d+", nginx.log()))
        raise AssertionError(f"no status of {sorted(missing)}") from None
    found = {}
    for mark, status in re.findall(r"cf (\S+) = (\d+)", nginx.log()):
        found.setdefault(mark, status)
    return found


def compare(found, wanted):
    wrong = [f"{what}: {found[mark]} instead of {status}" for mark, (what, status) in wanted.items() if found[mark] != status]
    assert not wrong, "\n".join(wrong)


def test_every_status_in_the_callbacks_of_a_stream_is_memhosts(server, client):
    nginx = server(["quiet", probe.EXEC])
    base, wanted = base_of(nginx), {}
    port = nginx.port("2" if client is http2 else "main")
    for i, (call, arguments, statuses) in enumerate(rows()):
        for phase, status in zip(PHASES[:5], statuses):
            if status == "-":
                continue
            mark = f"{i}.{phase}"
            wanted[mark] = (f"{call} {arguments} in {phase}", status)
            headers = [("x-one", "1"), *probe.do(*lines_of(phase, call, arguments, base, mark))]
            try:
                client.request(port, "POST", "/echo", headers, b"hello world")
            except (http1.Closed, ConnectionError):
                pass  # a stream that was closed
    compare(answers(nginx, set(wanted)), wanted)


def test_every_status_on_tick_is_memhosts(server):
    nginx = server(["quiet", probe.EXEC])
    base, wanted, filters = base_of(nginx), {}, []
    nginx.stop()
    for i, (call, arguments, statuses) in enumerate(rows()):
        if statuses[5] != "-":
            mark = f"{i}.tick"
            wanted[mark] = (f"{call} {arguments} on tick", statuses[5])
            lines = lines_of("tick@1", call, arguments, base, mark)
            if not filters or sum(map(len, filters[-1] + lines)) * 1.3 > 3000:
                filters.append(["quiet", "configure: tick 20"])
            filters[-1] += lines
    server(*filters)
    compare(answers(nginx, set(wanted)), wanted)
