"""Advantages: pure functions from a group's scores [K] to its advantages [K]. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev


def group_mean(scores: Sequence[float]) -> list[float]:
    """[K] score minus the group's mean: Dr. GRPO, section 3.2 of https://arxiv.org/abs/2503.20783.

    >>> group_mean([1.0, 0.0, 0.0, 1.0])
    [0.5, -0.5, -0.5, 0.5]
    """
    mean = fmean(scores)
    return [score - mean for score in scores]


def group_zscore(scores: Sequence[float], eps: float = 1e-4) -> list[float]:
    """[K] (score - mean) / (std + eps): GRPO, section 4.1.2 of https://arxiv.org/abs/2402.03300.

    The standard deviation is the sample's (K - 1), as in the published implementations; a group of equal scores
    gives zeros.

    >>> [round(a, 2) for a in group_zscore([1.0, 0.0])]
    [0.71, -0.71]
    """
    if len(scores) < 2:
        return [0.0] * len(scores)
    std = pstdev(scores) * (len(scores) / (len(scores) - 1)) ** 0.5
    return [centred / (std + eps) for centred in group_mean(scores)]
