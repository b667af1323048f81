"""Numbers that carry their uncertainty: intervals, paired differences, exact tests. No torch here.

Scores live on a scale with two ends (`bounds`, 0 and 1 unless said otherwise). The ends matter for small and
for perfect samples: five right answers of five are no proof of a model that is always right, yet the plain
bootstrap says [1, 1]. So every bootstrap here samples from the cases seen plus two imaginary ones, the best and
the worst that the scale allows. This is the idea of Agresti and Coull (add pseudo-observations, then proceed
as usual) for any bounded score: it vanishes as 1/n, and says "between 0 and 1" where one case is all there is.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

LEVEL = 0.95
"""Share of intervals that should contain the truth."""
RESAMPLES = 10_000
"""Bootstrap resamples: the ends of an interval then move by about 1% of its width between seeds."""

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval. All None where there is nothing to average."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Values averaged (cases, or pairs of cases)."""
    standard_error: float | None = None
    """Standard deviation of the estimate; what `smallest_detectable_difference` needs."""


def mean(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = (0.0, 1.0),
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The mean of scores. Right/wrong without clusters: Wilson; otherwise the cluster bootstrap.

    `clusters` names, for each value, what it shares with others (the document its question came from):
    values of one cluster are sampled together. None: every value is on its own.
    """
    _check(values, clusters, bounds)
    if values and bounds == (0.0, 1.0) and not _shared(clusters) and set(values) <= {0.0, 1.0}:
        return wilson(round(sum(values)), len(values), level)
    return _bootstrap(values, clusters, bounds, seed, level)


def difference(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = (0.0, 1.0),
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """Mean of candidate minus baseline over the same cases, in the same order: paired cluster bootstrap."""
    if len(candidate) != len(baseline):
        raise InputError(
            f"a paired difference needs both scores of every case; got {len(candidate)} and {len(baseline)}"
        )
    _check(candidate, clusters, bounds)
    _check(baseline, clusters, bounds)
    width = bounds[1] - bounds[0]
    # Rounding makes 0.7 - 0.5 and 0.2 - 0.0 one value, which keeps the number of distinct values small.
    values = [round(c - b, 12) for c, b in zip(candidate, baseline, strict=True)]
    return _bootstrap(values, clusters, (-width, width), seed, level)


def wilson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """Wilson's score interval of a proportion (Wilson 1927); sensible for small n and near 0 and 1."""
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n}: expected a count between 0 and {n}")
    if n == 0:
        return Estimate(None, None, None, 0)
    z = _z(level)
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and n of n the end is p exactly; rounding must not leave 0.9999999.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return Estimate(p, low, high, n, half / z)


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


def smallest_detectable_difference(
    standard_error: float | None, level: float = LEVEL, power: float = 0.8
) -> float | None:
    """The true difference that a sample with this standard error shows with probability `power`."""
    return None if standard_error is None else (_z(level) + NormalDist().inv_cdf(power)) * standard_error


def _bootstrap(
    values: Sequence[float], clusters: Sequence[Hashable] | None, bounds: Bounds, seed: int, level: float
) -> Estimate:
    """Percentile bootstrap of the mean over clusters, with one imaginary cluster at each end of the scale."""
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, 0)
    value = sum(sorted(values)) / n  # sorted: the same number whatever the order of the cases
    sums, sizes = _cluster_sums(values, clusters)
    size = float(sizes.mean())
    sums = np.concatenate([sums, [bounds[0] * size, bounds[1] * size]])
    sizes = np.concatenate([sizes, [size, size]])
    # Clusters that look the same are sampled together: a multinomial over the distinct ones. Graded scores have
    # few distinct values, so this is fast, and it cannot depend on the order of the cases.
    distinct, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    chunk = max(1, 1_000_000 // len(distinct))
    means = []
    for start in range(0, RESAMPLES, chunk):
        draws = rng.multinomial(len(sums), counts / counts.sum(), size=min(chunk, RESAMPLES - start))
        totals = draws @ distinct
        means.append(totals[:, 0] / totals[:, 1])
    resampled = np.concatenate(means)
    tail = (1 - level) / 2
    low = float(np.quantile(resampled, tail, method="lower"))
    high = float(np.quantile(resampled, 1 - tail, method="higher"))
    low, high = max(bounds[0], min(low, value)), min(bounds[1], max(high, value))
    return Estimate(value, low, high, n, float(resampled.std()))


def _cluster_sums(
    values: Sequence[float], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[clusters] sum of each cluster's values, and how many there are."""
    if clusters is None:
        return np.asarray(values, dtype=float), np.ones(len(values))
    grouped: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        grouped.setdefault(cluster, []).append(value)
    sums = [round(sum(sorted(members)), 12) for members in grouped.values()]
    return np.asarray(sums, dtype=float), np.asarray([len(m) for m in grouped.values()], dtype=float)


def _check(values: Sequence[float], clusters: Iterable[Hashable] | None, bounds: Bounds) -> None:
    if not bounds[0] < bounds[1]:
        raise InputError(f"bounds are {bounds}; expected (lowest score, highest score)")
    if clusters is not None and len(list(clusters)) != len(values):
        raise InputError(f"{len(values)} values, but {len(list(clusters))} cluster names: expected one each")
    for value in values:
        if not isfinite(value) or not bounds[0] <= value <= bounds[1]:
            raise InputError(f"score {value} is not between the bounds {bounds}; pass the scale's own bounds")


def _shared(clusters: Sequence[Hashable] | None) -> bool:
    return clusters is not None and len(set(clusters)) < len(clusters)


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)
