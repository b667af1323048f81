"""A p-value and an interval of one quantity never contradict each other, and agree with scipy and statsmodels."""

from __future__ import annotations

from unittest import mock

import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tieout.evidence import stats
from tieout.evidence.significance import (
    MOST,
    adjusted,
    exact_ends,
    holm,
    mcnemar_mid_p,
    paired_ends,
    paired_p_above,
    wilson_ends,
)

SCORES = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


# ---- one question, one test


@settings(max_examples=150)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_of_right_and_wrong_excludes_zero_where_mcnemar_rejects(
    wins: int, losses: int, ties: int, level: float
) -> None:
    n = max(1, wins + losses + ties)
    low, high = paired_ends(wins, losses, n, level)
    shorter = paired_ends(wins, losses, n, level, shorter=True)
    for a, b in ((low, high), shorter):
        assert (a > 0 or b < 0) == (mcnemar_mid_p(wins, losses) < 1 - level)
        assert -1 <= a <= (wins - losses) / n <= b <= 1
    assert low <= shorter[0] <= shorter[1] <= high
    assert paired_ends(losses, wins, n, level) == (-high, -low)


@pytest.mark.parametrize("level", [0.8, 0.95, MOST])
def test_mcnemar_rejects_nothing_that_the_score_test_does_not(level: float) -> None:
    """Else the interval of a difference that the test calls one would hold 0."""
    for differ in range(1, 400):
        wins = next(
            k
            for k in range(differ // 2, differ + 2)
            if k > differ or mcnemar_mid_p(k, differ - k) < 1 - level
        )
        if wins <= differ:
            chi_square = mcnemar([[0, wins], [differ - wins, 0]], exact=False, correction=False)
            assert chi_square.pvalue < 1 - level
    with pytest.raises(ValueError, match="expected at most"):
        paired_ends(9, 1, 20, 0.99)


@settings(max_examples=100)
@given(
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 300),
    st.sampled_from([-0.3, -0.05, -0.001, 0.0, 0.001, 0.02, 0.1]),
)
def test_a_difference_is_shown_to_be_above_a_margin_where_its_interval_is(
    wins: int, losses: int, ties: int, margin: float
) -> None:
    n = max(1, wins + losses + ties)
    ours, theirs = (
        [1.0] * wins + [0.0] * (n - wins),
        [0.0] * wins + [1.0] * losses + [0.0] * (n - wins - losses),
    )
    found = stats.difference(ours, theirs, least=margin)
    assert found.p_above == paired_p_above(wins, losses, n, margin)
    assert (found.low > margin) == (found.p_above < 0.025)  # type: ignore[operator]
    with stats.former():
        found = stats.difference(ours, theirs, least=margin)
    assert found.p_above == paired_p_above(wins, losses, n, margin, shorter=True)
    assert (found.low > margin) == (found.p_above < 0.025)  # type: ignore[operator]


@settings(max_examples=30)
@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=40), st.sampled_from([-0.3, -0.05, 0.1]))
def test_a_difference_of_scores_is_shown_to_be_above_a_margin_where_its_interval_is(
    pairs: list[tuple[float, float]], margin: float
) -> None:
    ours, theirs = zip(*pairs, strict=True)
    found = stats.difference(ours, theirs, [i // 2 for i in range(len(pairs))], least=margin)
    assert (found.low > margin) == (found.p_above < 0.025)  # type: ignore[operator]
    assert found.p_above >= 0.5 or found.value > margin  # type: ignore[operator]


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


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 7), (7, 7), (61, 300), (1999, 2000)])
def test_the_exact_interval_is_that_of_statsmodels(successes: int, n: int) -> None:
    expected = proportion_confint(successes, n, method="beta")
    assert exact_ends(successes, n, 0.95) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    with mock.patch("gc.collect"):  # multipletests calls it each time
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("wins", "losses", "n"), [(7, 1, 21), (40, 20, 160), (9, 0, 40), (3, 30, 400), (0, 0, 25)]
)
@pytest.mark.parametrize("difference", [-0.3, -0.05, 0.01, 0.2])
def test_the_score_is_that_of_the_most_likely_table(
    wins: int, losses: int, n: int, difference: float
) -> None:
    def unlikely(lost: float) -> float:
        shares = (lost + difference, lost, 1 - 2 * lost - difference)
        return -sum(
            scipy.special.xlogy(k, p) for k, p in zip((wins, losses, n - wins - losses), shares, strict=True)
        )

    ends = (max(0.0, -difference), (1 - difference) / 2)
    lost = scipy.optimize.minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    error = (n * (2 * lost + difference - difference**2)) ** 0.5
    expected = scipy.stats.norm.sf((wins - losses - n * difference) / error)
    assert paired_p_above(wins, losses, n, difference, shorter=True) == pytest.approx(
        max(expected, mcnemar_mid_p(wins, losses) / 2 if difference > 0 and wins > losses else 0.0), abs=1e-5
    )


@pytest.mark.parametrize(("wins", "losses"), [(1, 5), (12, 30), (0, 9), (101, 140)])
def test_without_a_difference_the_score_test_is_mcnemars_chi_square(wins: int, losses: int) -> None:
    expected = mcnemar([[0, wins], [losses, 0]], exact=False, correction=False).pvalue
    assert paired_p_above(wins, losses, 300, 0.0, shorter=True) == pytest.approx(1 - expected / 2, abs=1e-12)


def test_both_intervals_are_those_of_a_published_example() -> None:
    """Airway reactivity of 21 children before and after a transplantation (Fagerland et al. 2014)."""
    assert paired_ends(1, 7, 21, 0.95, shorter=True) == pytest.approx((-0.517, -0.026), abs=5e-4)
    middle, error = adjusted(1, 7, 21)
    assert (middle - 1.96 * error, middle + 1.96 * error) == pytest.approx((-0.508, -0.013), abs=5e-4)
    assert paired_ends(1, 7, 21, 0.95) == pytest.approx((-0.517, -0.013), abs=5e-4)


# ---- coverage


def _covered(gained: float, lost: float, shorter: bool = False) -> float:
    """The probability of every table of 100 cases whose interval holds the truth."""
    n, total = 100, 0.0
    pmf = scipy.stats.multinomial(n, [gained, lost, 1 - gained - lost]).pmf
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            if abs(wins - n * gained) < 20 and abs(losses - n * lost) < 20:
                low, high = paired_ends(wins, losses, n, 0.95, shorter)
                total += pmf([wins, losses, n - wins - losses]) if low <= gained - lost <= high else 0.0
    return total


@pytest.mark.parametrize(
    ("gained", "lost"),
    [(0.1, 0.1), (0.2, 0.2), (0.3, 0.1), (0.5, 0.1), (0.06, 0.005), (0.05, 0.01), (0.15, 0.0), (0.1, 0.0)],
)
def test_paired_shares_are_covered_by_95_of_100_intervals(gained: float, lost: float) -> None:
    covered = _covered(gained, lost)
    assert covered >= 0.949
    assert covered < 0.965 or lost < 0.02  # where few cases can be lost there are few tables


def test_the_intervals_of_format_5_held_some_shares_93_times_in_100() -> None:
    assert _covered(0.06, 0.005, shorter=True) == pytest.approx(0.930, abs=0.001)


@pytest.mark.parametrize("n", [20, 100, 400])
def test_a_share_is_covered_by_95_of_100_intervals_whatever_it_is(n: int) -> None:
    ends = [exact_ends(successes, n, 0.95) for successes in range(n + 1)]
    former = [wilson_ends(successes, n, 0.95) for successes in range(n + 1)]
    least = {}
    for name, intervals in (("exact", ends), ("wilson", former)):
        least[name] = min(
            sum(
                chance
                for (low, high), chance in zip(
                    intervals, scipy.stats.binom.pmf(range(n + 1), n, share), strict=True
                )
                if low <= share <= high
            )
            for share in (0.17 / n, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.9, 0.99, 1 - 0.17 / n)
        )
    assert least["exact"] >= 0.95
    assert least["wilson"] < 0.86
