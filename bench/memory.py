"""What the kernel says that a process holds."""
import collections
import pathlib
import re

import rig

FIELDS = {"Rss": "rss_kib", "Pss": "pss_kib", "Private_Dirty": "private_kib"}
HEAD = re.compile(r"^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ (\d+) *(.*)$")


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def parse(text):
    """{"rss_kib", "pss_kib", "private_kib"} of the text of smaps or smaps_rollup, summed over its mappings."""
    sums = collections.Counter(dict.fromkeys(FIELDS.values(), 0))
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in FIELDS:
            sums[FIELDS[name]] += int(rest.split()[0])
    return dict(sums)


def held(pid):
    found = parse(pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text())
    if not found["pss_kib"]:
        raise rig.BenchError("the kernel shows no Pss")
    return found


def kind(name):
    """What a mapping is, by the name of its file."""
    if ".cwasm" in name:
        return "compiled code of filters"
    if ".image" in name or "sluice-image" in name:
        return "images of instances"
    if "sluice-plan" in name or name.endswith("/plan"):
        return "the plan"
    if re.search(r"\.so(\.|$)|/nginx$", name):
        return "programs and libraries"
    return "all else: heap, stacks, shared zones"


def kinds(text):
    """{kind: {"rss_kib", "pss_kib", "private_kib"}} of the text of smaps. A page of an image that was written is the instance's own."""
    by_kind = collections.defaultdict(list)
    current = None
    for line in text.splitlines():
        head = HEAD.match(line)
        if head:
            current = kind(head[3])
        elif current is not None:
            by_kind[current].append(line)
    return {name: parse("\n".join(lines)) for name, lines in by_kind.items()}


def mean(many):
    """Of several of these dictionaries."""
    return {name: sum(m[name] for m in many) / len(many) for name in FIELDS.values()}
