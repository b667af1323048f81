"""Statistics of scores against labels: agreement, reliability, separation, drift. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from ..errors import InputError
from ..evidence.stats import proportion


@dataclass(frozen=True, slots=True)
class Bin:
    """Completions of similar score, and the share of them labelled right."""

    low: float
    high: float
    """Lowest and highest score in the bin."""
    n: int
    mean_score: float
    right: float
    """Mean label."""
    right_low: float
    right_high: float
    """95% interval (exact) of `right`, labels above a half counting as right."""


def reliability(scores: Sequence[float], labels: Sequence[float], num_bins: int = 10) -> list[Bin]:
    """Bins of about equal size in ascending order of score; equal scores are never parted."""
    order = np.argsort(np.asarray(scores, dtype=float), kind="stable")
    s, y = np.asarray(scores, dtype=float)[order], np.asarray(labels, dtype=float)[order]
    bins: list[Bin] = []
    start, size = 0, max(1.0, len(s) / num_bins)
    while start < len(s):
        # The next multiple of the even size, then on to the end of the last score's ties.
        wanted = max(start + 1, round((int((start + 0.5) / size) + 1) * size))
        stop = int(np.searchsorted(s, s[min(wanted, len(s)) - 1], side="right"))
        part = y[start:stop]
        share = proportion(int((part > 0.5).sum()), len(part))
        assert share.low is not None
        assert share.high is not None
        mean = float(s[start:stop].mean())
        bins.append(
            Bin(
                float(s[start]),
                float(s[stop - 1]),
                len(part),
                mean,
                float(part.mean()),
                share.low,
                share.high,
            )
        )
        start = stop
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """ECE: mean distance of score and share right over completions (https://arxiv.org/abs/1706.04599, eq. 3).

    It reads a score as a probability, so it says nothing of scores that are not meant as one.
    """
    total = sum(b.n for b in bins)
    return sum(b.n * abs(b.mean_score - b.right) for b in bins) / total


def faults(bins: Sequence[Bin]) -> list[str]:
    """What is wrong with a reliability curve, beyond chance: it is flat, or it falls."""
    found = []
    if len(bins) < 2:
        return [f"flat: every completion scores {bins[0].mean_score:.3g}" if bins else "no scores"]
    if bins[-1].right_low <= bins[0].right_high and not any(
        later.right_low > earlier.right_high for i, earlier in enumerate(bins) for later in bins[i + 1 :]
    ):
        found.append("flat: no range of scores is right more often than a lower one, beyond chance")
    for i, earlier in enumerate(bins):
        for later in bins[i + 1 :]:
            if later.right_high < earlier.right_low:
                found.append(
                    f"not monotone: scores {later.low:.3g} to {later.high:.3g} are right {later.right:.0%} of the "
                    f"time, lower ones ({earlier.low:.3g} to {earlier.high:.3g}) {earlier.right:.0%}"
                )
                return found
    return found


def pair_faults(bins: Sequence[Bin]) -> list[str]:
    """What is wrong with the curve of pairs, beyond chance: larger leads are right less often, or than a coin."""
    found = [f.replace("scores", "leads") for f in faults(bins) if f.startswith("not monotone")]
    if bins and bins[-1].right_high <= 0.5:
        found.append(
            f"the largest leads ({bins[-1].low:.3g} to {bins[-1].high:.3g}) are right {bins[-1].right:.0%} of the time"
        )
    return found


def separation(scores: Sequence[float], labels: Sequence[float]) -> float | None:
    """Chance that a right completion outscores a wrong one, ties a half (AUC); None if one kind is missing."""
    right = [s for s, y in zip(scores, labels, strict=True) if y > 0.5]
    wrong = [s for s, y in zip(scores, labels, strict=True) if y <= 0.5]
    if not right or not wrong:
        return None
    return float(scipy_stats.mannwhitneyu(right, wrong).statistic) / (len(right) * len(wrong))


def rank_agreement(scores: Sequence[float], truths: Sequence[float]) -> float | None:
    """Kendall's tau-b of two orders, -1 to 1; None where one of them has no order."""
    if len(set(scores)) < 2 or len(set(truths)) < 2:
        return None
    return float(scipy_stats.kendalltau(scores, truths).statistic)


def kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Cohen's kappa of two raters: agreement beyond chance; None where chance alone would always agree."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return None if chance >= 1 else (float((a == b).mean()) - chance) / (1 - chance)


@dataclass(frozen=True, slots=True)
class Drift:
    """Fresh scores against those that were calibrated."""

    distance: float
    """Kolmogorov-Smirnov: largest difference of the two distribution functions, 0 to 1."""
    p_value: float
    outside: float
    """Share of fresh scores below the lowest or above the highest calibrated one."""
    n: int

    @property
    def drifted(self) -> bool:
        """Beyond chance and large: a distance of 0.2 with p < 0.01, or more than a twentieth outside."""
        return (self.distance >= 0.2 and self.p_value < 0.01) or self.outside > 0.05


def drift(calibrated: Sequence[float], fresh: Sequence[float]) -> Drift:
    """Whether the policy's samples have left the range in which the reward was calibrated."""
    if not calibrated or not fresh:
        raise InputError(
            f"{len(calibrated)} calibrated and {len(fresh)} fresh scores: drift needs some of each"
        )
    test = scipy_stats.ks_2samp(calibrated, fresh)
    values: NDArray[np.float64] = np.asarray(fresh, dtype=float)
    outside = (values < min(calibrated)) | (values > max(calibrated))
    return Drift(float(test.statistic), float(test.pvalue), float(outside.mean()), len(values))
