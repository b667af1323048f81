"""Tests of paired right and wrong answers, the interval that agrees with them, and Holm's adjustment.

Of two models on the same cases, b are right only for the first and c only for the second; n cases in all. The interval
of the difference of their shares, (b - c) / n, is the wider of two at either end: Tango's (1998), the differences that
his score test does not reject, and that of Bonett and Price (2012), Wald's with a case more that each model alone has
right. Either holds the truth only 93% of the time for some shares, but not for the same ones. Whether 0 is in the
interval is McNemar's question, which the mid-p test answers exactly for small counts: where that does not reject, the
interval is extended to 0, and where it does, it ends just before 0. So p-value and interval can never contradict each
other.

Reports of format 5 have Tango's alone, and Wilson's of a single share; `shorter` gives these.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, inf, sqrt
from statistics import NormalDist

from ..errors import InputError

MOST = 0.97
"""The highest level of an interval of paired right and wrong: up to it the mid-p test rejects nothing that Tango's
does not."""
BARELY = 1e-12
"""The end of an interval of paired right and wrong that leaves 0 out, and no more is known."""


def quantile(level: float) -> float:
    """Of the normal distribution, for a two-sided interval. InputError: no level."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


def exact_ends(successes: int, n: int, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a proportion (1934): it holds the truth at least so often, whatever it is."""
    from scipy.special import betaincinv

    quantile(level)  # refuses what is no level
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    return low, 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))


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


def paired_ends(
    candidate_only: int, baseline_only: int, n: int, level: float, shorter: bool = False
) -> tuple[float, float]:
    """The interval of (candidate_only - baseline_only) / n that excludes 0 where `mcnemar_mid_p` is below 1 - level.

    InputError: a level above 0.97, where Tango's and the test may differ.
    """
    if level > MOST:
        raise InputError(f"level is {level}; expected at most {MOST} for pairs of right and wrong answers")
    if candidate_only < baseline_only:
        low, high = paired_ends(baseline_only, candidate_only, n, level, shorter)
        return -high, -low
    value, most = (candidate_only - baseline_only) / n, quantile(level)
    high = _difference_at(-most, candidate_only, baseline_only, n, value, 1.0)
    low = _difference_at(most, candidate_only, baseline_only, n, -1.0, value)
    if not shorter:
        middle, error = adjusted(candidate_only, baseline_only, n)
        low, high = min(low, middle - most * error), max(high, min(1.0, middle + most * error))
    if candidate_only == baseline_only:
        return -high, high
    rejected = mcnemar_mid_p(candidate_only, baseline_only) < 1 - level
    return max(low, BARELY) if rejected else min(low, 0.0), high


def adjusted(candidate_only: int, baseline_only: int, n: int) -> tuple[float, float]:
    """The difference of shares and its standard error with one case more in which each model alone is right.

    Two models that never differed are not known to be the same.
    """
    middle, differ = (
        (candidate_only - baseline_only) / (n + 2),
        (candidate_only + baseline_only + 2) / (n + 2),
    )
    return middle, ((differ - middle**2) / (n + 2)) ** 0.5


def paired_p_above(
    candidate_only: int, baseline_only: int, n: int, least: float, shorter: bool = False
) -> float:
    """One-sided p of a difference that is `least` or less: below (1 - level) / 2 where `paired_ends` lies above it."""
    score = _score(candidate_only, baseline_only, n, least)
    if not shorter:
        middle, error = adjusted(candidate_only, baseline_only, n)
        score = min(score, (middle - least) / error)
    p = NormalDist().cdf(-score)
    if candidate_only <= baseline_only or (shorter and least < 0):
        return p
    above_0 = mcnemar_mid_p(candidate_only, baseline_only) / 2
    if least > 0 or shorter:
        return max(p, above_0)
    return min(p, above_0) if least < 0 else above_0


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
