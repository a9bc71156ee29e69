"""What was measured, part by part, in docs/performance/results.json; the page is made from it anew after each part."""
import json

import page
import rig

FILE = rig.ROOT / "docs" / "performance" / "results.json"


def load():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def merged(results, part, found, command):
    """The results with a part measured again. What a part has by name keeps the names that were not measured this time."""
    before = results.get(part)
    if isinstance(before, dict) and isinstance(found, dict):
        found = before | found
    return results | {part: found, "commands": results.get("commands", {}) | {part: command}}


def keep(part, found, command):
    results = merged(load(), part, found, command)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    page.write(results)
