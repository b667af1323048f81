"""The simulation of larger machines conserves work, and divides it at most by the number of workers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> Any:
    spec = importlib.util.spec_from_file_location("scale", BENCHMARKS / "scale.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_worker_alone_does_all_of_it_one_piece_after_another(scale: Any) -> None:
    phases = scale.Phases(step=2.0, row=1.0, token=0.5)
    assert scale.rollout(phases, [1, 3]) == (2 + 2) + (2 + 1) + (2 + 1)
    assert scale.rollout(phases, []) == 0
    assert scale.rollout(phases, [1], prompts=3) == pytest.approx(3 * scale.PROMPT_TOKENS * 0.5 / 3 + 3)
    groups = [[1, 3], [2, 2]]
    assert scale.update(phases, groups, 1) == 0.5 * (2 * scale.PROMPT_TOKENS + 8)
    assert scale.update(phases, groups, 2) == 0.5 * (scale.PROMPT_TOKENS + 4)
    assert scale.update(phases, groups, 9) == scale.update(phases, groups, 2), "a group is not divided"


def test_more_workers_are_never_slower_and_never_more_than_that_many_times_faster(scale: Any) -> None:
    phases, lengths = scale.measured()
    assert 0 < phases.row < phases.step
    groups = scale.make_groups(lengths)
    alone = sum(scale.step_seconds(phases, groups, 1))
    before = alone
    for workers in (2, 4, 8):
        now = sum(scale.step_seconds(phases, groups, workers))
        assert alone / workers <= now <= before
        assert sum(scale.step_seconds(phases, groups, workers, workers)) == now
        before = now
    served = [sum(scale.served_seconds(phases, groups, n)) for n in (1, 2, 4)]
    assert served[0] > alone, "prompts are repeated there, and computed once here"
    assert served == sorted(served, reverse=True)


def test_the_page_is_of_this_program(scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (BENCHMARKS / "results" / "scale.md").read_text(encoding="utf-8")
    for name in ("decoder_step.md", "against_trl.json"):
        (tmp_path / name).write_bytes((BENCHMARKS / "results" / name).read_bytes())
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    scale.main()
    assert (tmp_path / "scale.md").read_text(encoding="utf-8") == kept
