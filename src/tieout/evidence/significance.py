"""Tests of paired right and wrong answers, the interval that agrees with them, and Holm's adjustment.

Of two models on the same cases, b are right only for the first and c only for the second; n cases in all. The
difference of their shares is pi * phi, with pi = (b + c) / n, the share of cases in which they differ, and
phi = (b - c) / (b + c), which is 0 under McNemar's null. Its interval is made of Wilson's for pi and the mid-p
(Clopper-Pearson) one for phi, joined as products are by Donner and Zou (2012, MOVER): it excludes 0 exactly where
that of phi does, which is where the mid-p McNemar test rejects. So the two can never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from ..errors import InputError


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


def mid_p_ends(successes: int, n: int, level: float) -> tuple[float, float]:
    """The mid-p interval of a proportion: the shares that a mid-p binomial test does not reject."""
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else 1.0 - _solve(n - successes, n, tail)
    return low, 1.0 if successes == n else _solve(successes, n, tail)


def _solve(k: int, n: int, tail: float) -> float:
    """The share at which P(X < k) + P(X = k) / 2 of n coins is `tail`."""
    from scipy.special import bdtr

    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        below = bdtr(k, n, middle) + (bdtr(k - 1, n, middle) if k else 0.0)
        low, high = (middle, high) if below > 2 * tail else (low, middle)
    return low


def paired_ends(candidate_only: int, baseline_only: int, n: int, level: float) -> tuple[float, float]:
    """The interval of (candidate_only - baseline_only) / n that excludes 0 where `mcnemar_mid_p` is below 1 - level."""
    if candidate_only < baseline_only:
        low, high = paired_ends(baseline_only, candidate_only, n, level)
        return -high, -low
    differ = candidate_only + baseline_only
    if not differ:
        end = wilson_ends(0, n, level)[1]
        return -end, end
    share, of = differ / n, (candidate_only - baseline_only) / differ
    (share_low, share_high), ends = wilson_ends(differ, n, level), mid_p_ends(candidate_only, differ, level)
    of_low, of_high = (2 * end - 1 for end in ends)
    value = share * of
    if mcnemar_mid_p(candidate_only, baseline_only) < 1 - level:
        low = value - sqrt(value**2 - share_low * of_low * (2 * share - share_low) * (2 * of - of_low))
    else:
        low = share * min(of_low, 0.0)
    high = value + sqrt(((share_high - share) * of) ** 2 + ((of_high - of) * share) ** 2)
    return max(-1.0, low), min(1.0, high)


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
