from __future__ import annotations

import itertools
import statistics
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.advantages import group_mean, group_zscore

scores = st.lists(st.floats(-100, 100), min_size=2, max_size=16)


@settings(deadline=None)
@given(scores, st.floats(-50, 50))
def test_a_constant_bonus_for_the_whole_group_changes_nothing(values: list[float], bonus: float) -> None:
    moved = [v + bonus for v in values]
    assert group_mean(moved) == pytest.approx(group_mean(values), abs=1e-9)
    assert sum(group_mean(values)) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(scores)
def test_advantages_keep_the_order_and_belong_to_their_completion(values: list[float]) -> None:
    for advantages in (group_mean(values), group_zscore(values)):
        pairs = sorted(zip(values, advantages, strict=True))
        assert all(a[1] <= b[1] + 1e-9 for a, b in itertools.pairwise(pairs))


@settings(deadline=None)
@given(scores)
def test_reversed_scores_give_reversed_advantages(values: list[float]) -> None:
    assert group_zscore(values[::-1]) == pytest.approx(group_zscore(values)[::-1], abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=3, max_size=16), st.floats(2, 50))
def test_the_zscore_forgets_the_scale(values: list[float], scale: float) -> None:
    if statistics.stdev(values) > 1:
        assert group_zscore([v * scale for v in values], eps=0) == pytest.approx(group_zscore(values, eps=0))
        assert statistics.stdev(group_zscore(values, eps=0)) == pytest.approx(1)


@settings(deadline=None)
@given(st.floats(-100, 100), st.integers(1, 16))
def test_equal_scores_teach_nothing(value: float, count: int) -> None:
    assert group_mean([value] * count) == pytest.approx([0] * count, abs=1e-12)
    assert group_zscore([value] * count) == pytest.approx([0] * count, abs=1e-8)


def test_advantages_import_without_torch() -> None:
    code = "import sys, tieout.advantages, tieout.types; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
