"""No planted fault is lost or silent, and the table would say so if one were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import faults

    return faults


@pytest.mark.slow  # the published table, computed again: near a minute
def test_no_planted_fault_is_lost_or_silent(faults: Any) -> None:
    found = [faults.find(fault) for fault in faults.all_faults()]
    assert [one for one in found if one.outcome not in ("survived", "refused")] == []
    written = (BENCHMARKS / "results" / "faults.md").read_text("utf-8")
    for one in found:
        assert f"| {one.fault.area} | {one.fault.name} | {one.outcome} |" in written
    assert written.count("\n| ") == len(found) + 3  # two heads, and the counts
    page = (BENCHMARKS.parent / "docs" / "reliability.md").read_text("utf-8")
    (counts,) = [line for line in written.splitlines() if line.endswith("| 0 | 0 | 0 |")]
    assert counts in page
    assert f"plants {len(found)} faults" in page


def test_a_silent_and_a_crashing_fault_are_counted(faults: Any) -> None:
    def crash(folder: Path) -> str:
        raise IndexError("index out of range")

    planted = [faults.Fault("a", "wrong", lambda folder: "silent"), faults.Fault("a", "breaks", crash)]
    found = [faults.find(fault) for fault in planted]
    assert Counter(one.outcome for one in found) == {"silent": 1, "crashed": 1}
    assert "| 0 | 0 | 0 | 1 | 1 |" in faults.table(found)


def test_a_check_that_is_taken_out_is_a_silent_fault(faults: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieout.learner.models import adapters, loading

    (flipped,) = [fault for fault in faults.all_faults() if fault.name == "adapter: a flipped bit"]
    for module in (adapters, loading):
        monkeypatch.setattr(module, "refuse_changed", lambda folder: None)
    assert faults.find(flipped).outcome == "silent"
