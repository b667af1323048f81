"""Numbers that carry their uncertainty: intervals, and paired differences with their tests. No torch here.

Scores live on a scale with two ends (`bounds`, 0 and 1 unless said otherwise). The ends matter for small and
for perfect samples: five right answers of five are no proof of a model that is always right, yet the plain
bootstrap says [1, 1]. So every bootstrap here samples from the cases, or clusters, seen plus two imaginary ones, the
best and the worst that the scale allows. This is the idea of Agresti and Coull (add pseudo-observations, then proceed
as usual) for any bounded score. Of a difference they weigh 1 / (1 + m), where m is the spread that was seen, counted in
cases at an end of the scale: a sample that shows its own spread needs no imagined one. Of a mean both weigh 1: near an
end of the scale samples are lopsided, and intervals would lie too far towards that end. Percentiles are those of
Student's t for the number of clusters (Hesterberg 2015, "expanded percentiles"): a bootstrap of few is too narrow.

These two are also why intervals are wide where all values are close together: a sample of n cannot rule out a rare
case at an end of the scale. `benchmarks/coverage.py` has samples of both kinds, with and without such cases.

The p-value of a difference is read from the same resamples, or for right and wrong from McNemar's test, whose
interval is in `significance`: it is below 1 - level exactly where the interval excludes 0.

Reports of format 5 have shorter intervals of right and wrong, which hold the truth 84% of the time near an end of the
scale, and of means, 92%. They are verified by their own rule: `former`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, isfinite, sqrt
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .significance import (
    adjusted,
    exact_ends,
    mcnemar_mid_p,
    paired_ends,
    paired_p_above,
    quantile,
    wilson_ends,
)

LEVEL = 0.95
"""Share of intervals that should contain the truth."""
RESAMPLES = 10_000
"""Bootstrap resamples: the ends of an interval then move by about 1% of its width between seeds."""

MCNEMAR, RESAMPLED, STUDENT = "mid-p McNemar", "bootstrap", "paired t"
"""Tests of a difference: of right and wrong in independent cases, of anything else, and of few means of a group."""

Bounds = tuple[float, float]
_FORMER = ContextVar("former", default=False)


@contextmanager
def former(yes: bool = True) -> Iterator[None]:
    """Intervals as reports of format 5 have them: Wilson's, Tango's alone, and means without whole imaginary cases;
    people's grades by case, whatever cases share."""
    token = _FORMER.set(yes)
    try:
        yield
    finally:
        _FORMER.reset(token)


def is_former() -> bool:
    """Whether figures are computed as those of format 5."""
    return _FORMER.get()


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
    p: float | None = None
    """Of a difference: two-sided, of its being 0."""
    test: str | None = None
    """Which test gave it."""
    p_above: float | None = None
    """Of a difference: one-sided, of its being `least` or less; below (1 - level) / 2 where the interval lies above."""


def mean(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = (0.0, 1.0),
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The mean of scores. Right/wrong without clusters: exact; otherwise the cluster bootstrap.

    `clusters` names, for each value, what it shares with others (the document its question came from):
    values of one cluster are sampled together. None: every value is on its own.
    """
    _check(values, clusters, bounds)
    if values and bounds == (0.0, 1.0) and not _shared(clusters) and set(values) <= {0.0, 1.0}:
        return proportion(round(sum(values)), len(values), level)
    return _bootstrap(values, clusters, bounds, seed, level)


def difference(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = (0.0, 1.0),
    seed: int = 0,
    level: float = LEVEL,
    least: float | None = None,
) -> Estimate:
    """Mean of candidate minus baseline over the same cases, in the same order, with the p-value of its being 0.

    Right and wrong (every difference -1, 0 or 1 on a scale of 0 to 1) without clusters: the mid-p McNemar test and its
    interval; otherwise the paired cluster bootstrap. `least`, such as minus a margin, is tested from one side as well.
    """
    if len(candidate) != len(baseline):
        raise InputError(
            f"a paired difference needs both scores of every case; got {len(candidate)} and {len(baseline)}"
        )
    _check(candidate, clusters, bounds)
    _check(baseline, clusters, bounds)
    width = bounds[1] - bounds[0]
    # Rounding makes 0.7 - 0.5 and 0.2 - 0.0 one value, which keeps the number of distinct values small.
    values = [round(c - b, 12) for c, b in zip(candidate, baseline, strict=True)]
    if values and bounds == (0.0, 1.0) and not _shared(clusters) and set(values) <= {-1.0, 0.0, 1.0}:
        return _right_or_wrong(values.count(1.0), values.count(-1.0), len(values), level, least)
    return _bootstrap(values, clusters, (-width, width), seed, level, tested=True, least=least)


def change(now: Sequence[float], before: Sequence[float], bounds: Bounds, level: float = LEVEL) -> Estimate:
    """Mean of now minus before over the same few groups, each the mean of several scores: Student's paired t.

    Nothing is imagined at the ends of the scale, as in `difference`, unless all groups changed alike: means of several
    scores reach them less. For watching, not for judging.
    """
    from scipy.special import stdtr, stdtrit

    moves = [a - b for a, b in zip(now, before, strict=True)]
    n = len(moves)
    if n < 2 or len({round(move, 12) for move in moves}) == 1:
        return difference(now, before, bounds=bounds, level=level)
    value = fmean(moves)
    error = stdev(moves) / sqrt(n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    return Estimate(
        value, value - half, value + half, n, error, 2 * float(stdtr(n - 1, -abs(value) / error)), STUDENT
    )


def _right_or_wrong(wins: int, losses: int, n: int, level: float, least: float | None) -> Estimate:
    shorter = is_former()
    low, high = paired_ends(wins, losses, n, level, shorter)
    error = adjusted(wins, losses, n)[1]
    above = None if least is None else paired_p_above(wins, losses, n, least, shorter)
    return Estimate((wins - losses) / n, low, high, n, error, mcnemar_mid_p(wins, losses), MCNEMAR, above)


def proportion(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """A share with Clopper and Pearson's exact interval; sensible for small n and near 0 and 1."""
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n}: expected a count between 0 and {n}")
    if n == 0:
        return Estimate(None, None, None, 0)
    low, high = (wilson_ends if is_former() else exact_ends)(successes, n, level)
    # At an end of the scale the half that is cut off counts, too.
    half = max(high - successes / n, successes / n - low) if successes in (0, n) else (high - low) / 2
    return Estimate(successes / n, low, high, n, half / quantile(level))


def smallest_detectable_difference(
    standard_error: float | None, level: float = LEVEL, power: float = 0.8
) -> float | None:
    """The true difference that a sample with this standard error shows with probability `power`."""
    return (
        None if standard_error is None else (quantile(level) + NormalDist().inv_cdf(power)) * standard_error
    )


def _bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None,
    bounds: Bounds,
    seed: int,
    level: float,
    tested: bool = False,
    least: float | None = None,
) -> Estimate:
    """Percentile bootstrap of the mean over clusters, with an imaginary cluster at each end of the scale."""
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, 0)
    value = sum(sorted(values)) / n  # sorted: the same number whatever the order of the cases
    sums, sizes = _cluster_sums(values, clusters)
    size = float(sizes.mean())
    spread = np.sort((sums - value * sizes) * 2 / (bounds[1] - bounds[0]))
    weight = float(1 / (1 + (spread**2).sum())) if tested or is_former() else 1.0
    count = len(sums) + round(2 * weight)
    weights = np.concatenate([np.ones(len(sums)), [weight, weight]])
    # Of the size of a cluster: one case among documents of fifty would add nothing.
    sums = np.concatenate([sums, [bounds[0] * size, bounds[1] * size]])
    sizes = np.concatenate([sizes, [size, size]])
    # Clusters that look the same are sampled together: a multinomial over the distinct ones. Graded scores have
    # few distinct values, so this is fast, and it cannot depend on the order of the cases.
    distinct, kinds = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_inverse=True)
    shares = np.bincount(kinds.ravel(), weights=weights)
    ends = float(bounds[0]), float(bounds[1])
    asked = n, value, count, ends, seed, level, tested, least, RESAMPLES
    return _resampled(distinct.tobytes(), shares.tobytes(), *asked)


@lru_cache(maxsize=2048)  # the only slice of a track is all of it, and a metric is often the reward or a part
def _resampled(
    kinds: bytes,
    weights: bytes,
    n: int,
    value: float,
    count: int,
    bounds: Bounds,
    seed: int,
    level: float,
    tested: bool,
    least: float | None,
    resamples: int,
) -> Estimate:
    """The estimate from resamples of `count` clusters; kinds: [k, 2] sum and size; weights: [k] of each kind."""
    distinct, shares = np.frombuffer(kinds).reshape(-1, 2), np.frombuffer(weights)
    rng = np.random.default_rng(seed)
    chunk = max(1, 1_000_000 // len(distinct))
    means = []
    for start in range(0, resamples, chunk):
        draws = rng.multinomial(count, shares / shares.sum(), size=min(chunk, resamples - start))
        totals = draws @ distinct
        means.append(totals[:, 0] / totals[:, 1])
    resampled = np.sort(np.concatenate(means).round(12))
    # The outermost resample whose share is still within the tail: `_p_above` counts alike.
    place = max(0, ceil(_tail(level, count) * (resamples + 1)) - 2)
    low, high = float(resampled[place]), float(resampled[-1 - place])
    low, high = max(bounds[0], min(low, value)), min(bounds[1], max(high, value))
    error = float(resampled.std())
    if not tested:
        return Estimate(value, low, high, n, error)
    above, below = _p_above(resampled, value, count, 0.0), _p_above(-resampled, -value, count, 0.0)
    p, beyond = (
        min(1.0, 2 * min(above, below)),
        None if least is None else _p_above(resampled, value, count, least),
    )
    return Estimate(value, low, high, n, error, p, RESAMPLED, beyond)


def _tail(level: float, count: int) -> float:
    """The share of resamples to leave out at each end, of a bootstrap of `count` clusters (Hesterberg 2015)."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(stdtrit(max(1, count - 1), (1 - level) / 2) * sqrt(count / max(1, count - 1))))


def _p_above(resampled: NDArray[np.float64], value: float, count: int, least: float) -> float:
    """One-sided p of a mean of `least` or less: the tail at which the interval begins to hold `least`."""
    from scipy.special import ndtri, stdtr

    within = len(resampled) if value <= least else int((resampled <= least).sum())
    share = (within + 1) / (len(resampled) + 1)
    return float(stdtr(max(1, count - 1), ndtri(share) * sqrt(max(1, count - 1) / count)))


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
