"""A p-value and an interval of one quantity never contradict each other, and agree with scipy and statsmodels."""

from __future__ import annotations

from functools import cache
from unittest import mock

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tieout.evidence import stats
from tieout.evidence.significance import holm, mcnemar_mid_p, mid_p_ends, paired_ends, wilson_ends

SCORES = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


# ---- one question, one test


@settings(max_examples=150)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_right_and_wrong_excludes_zero_where_mcnemar_rejects(
    wins: int, losses: int, ties: int, level: float
) -> None:
    n = max(1, wins + losses + ties)
    low, high = paired_ends(wins, losses, n, level)
    assert (low > 0 or high < 0) == (mcnemar_mid_p(wins, losses) < 1 - level)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    assert paired_ends(losses, wins, n, level) == (-high, -low)


@settings(max_examples=30)
@given(st.lists(st.tuples(SCORES, SCORES, st.integers(0, 5)), min_size=1, max_size=40), st.integers(0, 9))
def test_the_interval_of_scores_excludes_zero_where_its_test_rejects(
    pairs: list[tuple[float, float, int]], seed: int
) -> None:
    ours, theirs, clusters = zip(*pairs, strict=True)
    for names in (None, clusters):
        found = stats.difference(ours, theirs, names, seed=seed)
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


# ---- others' numbers


@pytest.mark.parametrize(("wins", "losses"), [(5, 1), (30, 12), (9, 0), (4, 4), (0, 1), (140, 101)])
def test_mcnemar_is_the_exact_test_less_half_of_the_table_that_was_seen(wins: int, losses: int) -> None:
    exact = mcnemar([[0, wins], [losses, 0]], exact=True).pvalue
    seen = scipy.stats.binom.pmf(wins, wins + losses, 0.5)
    # Equal counts: the exact p is cut off at 1, and twice the half that counts is 1 - seen / 2.
    expected = 1 - seen / 2 if wins == losses else exact - seen
    assert mcnemar_mid_p(wins, losses) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 7), (7, 7), (61, 300)])
def test_wilson_is_that_of_statsmodels(successes: int, n: int) -> None:
    expected = proportion_confint(successes, n, method="wilson")
    assert wilson_ends(successes, n, 0.95) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    with mock.patch("gc.collect"):  # multipletests calls it each time
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (2, 5), (5, 5), (31, 44)])
def test_the_mid_p_interval_ends_where_a_tail_is_left(successes: int, n: int) -> None:
    low, high = mid_p_ends(successes, n, 0.95)
    for share, tail in ((low, scipy.stats.binom.sf), (high, scipy.stats.binom.cdf)):
        if 0 < share < 1:
            half = scipy.stats.binom.pmf(successes, n, share) / 2
            further = tail(successes, n, share) - (2 * half if tail == scipy.stats.binom.cdf else 0.0)
            assert further + half == pytest.approx(0.025, abs=1e-12)
    assert (low == 0.0, high == 1.0) == (successes == 0, successes == n)


# ---- coverage


@cache
def _ends(wins: int, losses: int, n: int) -> tuple[float, float]:
    return paired_ends(wins, losses, n, 0.95)


@pytest.mark.parametrize(("gains", "losses"), [(0.1, 0.1), (0.2, 0.2), (0.3, 0.1), (0.5, 0.1), (0.2, 0.0)])
def test_paired_shares_are_covered_by_95_of_100_intervals(gains: float, losses: float) -> None:
    n, trials, truth = 100, 4000, gains - losses
    draws = np.random.default_rng(0).multinomial(n, [gains, losses, 1 - gains - losses], size=trials)
    hits = sum(low <= truth <= high for w, l, _ in draws for low, high in [_ends(int(w), int(l), n)])
    assert hits / trials == pytest.approx(0.95, abs=0.017)  # a point, and two standard errors of 4000 trials
