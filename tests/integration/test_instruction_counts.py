"""What a request costs, in instructions: see bench/gate.py. Counts, not times, so a loaded machine changes nothing."""
import shutil
import sys

import pytest

from support.nginx import FLAVOR, ROOT

sys.path.insert(0, str(ROOT / "bench"))
import gate  # noqa: E402

LIMITS = {"tolerance": 0.04, "slack": 30, "instructions": {"filter-c": 3000}}


@pytest.mark.skipif(FLAVOR != "debian", reason="counted on Debian's nginx")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_no_request_has_become_more_expensive():
    limits = gate.json.loads(gate.LIMITS.read_text())
    assert not gate.complaints(limits, gate.measure(limits))


def test_a_case_over_its_limit_is_named_with_the_way_to_change_it():
    (text,) = gate.complaints(LIMITS, {"filter-c": 3200})
    assert "filter-c: 3200" in text and "gate.py --update" in text


def test_a_case_within_its_tolerance_is_fine():
    assert gate.complaints(LIMITS, {"filter-c": 3140}) == []
