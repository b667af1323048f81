"""Tests of paired right and wrong answers, the interval that agrees with them, and Holm's adjustment.

Of two models on the same cases, b are right only for the first and c only for the second; n cases in all. The interval
of the difference of their shares, (b - c) / n, is Tango's (1998): the differences that his score test does not reject,
given the most likely share of cases in which the models differ. Whether 0 is among them is McNemar's question, which
the mid-p test answers exactly for small counts: where that does not reject, the interval is extended to 0. (The other
way round they do not differ up to a level of 97%: the mid-p test rejects nothing that the score test does not.) So
p-value and interval can never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, inf, sqrt
from statistics import NormalDist

from ..errors import InputError

MOST = 0.97
"""The highest level at which interval and mid-p test of right and wrong agree."""


def quantile(level: float) -> float:
    """Of the normal distribution, for a two-sided interval. InputError: no level."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson_ends(successes: int, n: int, level: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); sensible for small n and near 0 and 1."""
    z, p = quantile(level), successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and n of n the end is p exactly; rounding must not leave 0.9999999.
    return 0.0 if successes == 0 else center - half, 1.0 if successes == n else center + half


def mcnemar_mid_p(candidate_only: int, baseline_only: int) -> float:
    """Two-sided mid-p McNemar test, from the cases that only one of the two models got right.

    Under the null each such case is a fair coin. The mid-p counts tables as lopsided as this one by half: it is
    less timid than the exact test and holds its level in practice (Fagerland et al. 2013). No such case: 1.
    """
    if candidate_only < 0 or baseline_only < 0:
        raise InputError(f"counts must be 0 or more; got {candidate_only} and {baseline_only}")
    n, k = candidate_only + baseline_only, min(candidate_only, baseline_only)
    if n == 0:
        return 1.0
    # Integers throughout, so that no n is too large.
    fewer, ways = 0, 1  # sequences of coins with fewer than i heads, and with i heads
    for i in range(k):
        fewer, ways = fewer + ways, ways * (n - i) // (i + 1)
    if candidate_only == baseline_only:
        return (4 * fewer + ways) / 2 ** (n + 1)
    return (2 * fewer + ways) / 2**n


def paired_ends(candidate_only: int, baseline_only: int, n: int, level: float) -> tuple[float, float]:
    """The interval of (candidate_only - baseline_only) / n that excludes 0 where `mcnemar_mid_p` is below 1 - level.

    InputError: a level above 0.97, where test and interval may differ.
    """
    if level > MOST:
        raise InputError(f"level is {level}; expected at most {MOST} for pairs of right and wrong answers")
    if candidate_only < baseline_only:
        low, high = paired_ends(baseline_only, candidate_only, n, level)
        return -high, -low
    value, most = (candidate_only - baseline_only) / n, quantile(level)
    high = _difference_at(-most, candidate_only, baseline_only, n, value, 1.0)
    if candidate_only == baseline_only:
        return -high, high
    low = _difference_at(most, candidate_only, baseline_only, n, -1.0, value)
    return min(low, 0.0) if mcnemar_mid_p(candidate_only, baseline_only) >= 1 - level else low, high


def paired_p_above(candidate_only: int, baseline_only: int, n: int, least: float) -> float:
    """One-sided p of a difference that is `least` or less: below (1 - level) / 2 where `paired_ends` lies above it."""
    p = NormalDist().cdf(-_score(candidate_only, baseline_only, n, least))
    if least < 0 or candidate_only <= baseline_only:
        return p
    return max(p, mcnemar_mid_p(candidate_only, baseline_only) / 2)


def _score(candidate_only: int, baseline_only: int, n: int, difference: float) -> float:
    """Tango's statistic, standard normal if this is the true difference; it falls as the difference grows."""
    gap = candidate_only - baseline_only - n * difference
    slope = (2 * n - candidate_only + baseline_only) * difference - candidate_only - baseline_only
    square = slope**2 + 8 * n * baseline_only * difference * (1 - difference)
    lost = (sqrt(max(0.0, square)) - slope) / (
        4 * n
    )  # the most likely share that only the baseline has right
    variance = n * (2 * lost + difference * (1 - difference))
    if variance > 0:
        return gap / sqrt(variance)
    return copysign(inf, gap) if gap else 0.0


def _difference_at(
    score: float, candidate_only: int, baseline_only: int, n: int, low: float, high: float
) -> float:
    """The difference between `low` and `high` at which the statistic is `score`, by bisection to the last digit."""
    for _ in range(64):
        middle = (low + high) / 2
        above = _score(candidate_only, baseline_only, n, middle) > score
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for having asked several questions at once (Holm 1979), in the order given."""
    for p in p_values:
        if not 0 <= p <= 1:
            raise InputError(f"{p} is not a p-value: expected a number between 0 and 1")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
