"""Advantages: pure functions from scores to what multiplies the gradient. No torch.

Those of a group take its scores [K] and give [K]; a group of one, or of equal scores, gets zeros: it teaches nothing.
`gae` and `whiten` are PPO's, per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, compress
from statistics import fmean, pstdev

from .errors import InputError

Nested = list[list[float]]
"""[completion][token], or [group][completion]."""


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
    std = sample_std(scores)
    return [centred / (std + eps) for centred in group_mean(scores)]


def leave_one_out(scores: Sequence[float]) -> list[float]:
    """[K] score minus the mean of the others: RLOO, https://arxiv.org/abs/2402.14740.

    No completion is in its own baseline, so the gradient is unbiased.

    >>> leave_one_out([1.0, 0.0, 0.0])
    [1.0, -0.5, -0.5]
    """
    size = len(scores)
    return [a * size / max(1, size - 1) for a in group_mean(scores)]


def maxrl(scores: Sequence[float]) -> list[float]:
    """[K] (score - mean) / mean: MaxRL, https://arxiv.org/abs/2602.02710; zeros where nothing succeeded.

    For scores of 0 and 1 the update follows, in expectation, the gradient of log P(success) expanded to K - 1 terms.

    Raises:
        ValueError: a score below 0, which is no share of success.

    >>> maxrl([1.0, 0.0, 0.0, 0.0])
    [3.0, -1.0, -1.0, -1.0]
    """
    if min(scores) < 0:
        raise InputError(
            f"advantage 'maxrl' needs scores of 0 or more, such as 0 and 1; a score is {min(scores)}. "
            "Shift the reward, or take another advantage"
        )
    mean = fmean(scores)
    return [a / mean for a in group_mean(scores)] if mean else [0.0] * len(scores)


ADVANTAGES: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "zscore": group_zscore,
    "mean": group_mean,
    "leave_one_out": leave_one_out,
    "maxrl": maxrl,
}
"""Name -> what a group's scores become."""


def batch_zscore(scores: Sequence[Sequence[float]], eps: float = 1e-4) -> Nested:
    """[B][K] (score - its group's mean) / (std of all scores of the batch + eps): Lite PPO,
    https://arxiv.org/abs/2508.08221. Groups in which all are nearly alike are not blown up.

    >>> [[round(a, 2) for a in group] for group in batch_zscore([[1.0, 0.0], [1.0, 1.0]])]
    [[1.0, -1.0], [0.0, 0.0]]
    """
    std = sample_std(list(chain.from_iterable(scores)))
    return [[a / (std + eps) for a in group_mean(group)] for group in scores]


def sample_std(values: Sequence[float]) -> float:
    """With K - 1; 0 for fewer than two values."""
    size = len(values)
    return pstdev(values) * (size / (size - 1)) ** 0.5 if size > 1 else 0.0


def overlong_penalty(length: int, longest: int, buffer: int) -> float:
    """Soft overlong punishment, eq. 13 of https://arxiv.org/abs/2503.14476: 0 down to -1.

    Args:
        length: tokens of the completion.
        longest: tokens a completion may have.
        buffer: the last so many tokens over which the penalty grows; 0 punishes only what is longer.

    >>> [overlong_penalty(length, longest=100, buffer=20) for length in (80, 90, 100, 101)]
    [0.0, -0.5, -1.0, -1.0]
    """
    over = length - (longest - buffer)
    return 0.0 if over <= 0 else -min(1.0, over / buffer if buffer else 1.0)


def gae(
    rewards: Sequence[float], values: Sequence[float], mask: Sequence[bool], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Generalized advantage estimation over one completion, eq. 16 of https://arxiv.org/abs/1506.02438.

    The steps are the trained tokens: what a tool or a user wrote is part of the environment, so the value after a
    trained token is that before the next trained one, however many tokens lie between.

    Args:
        rewards: [C] received on each token.
        values: [C] expected return before each token.
        mask: [C] True where the policy wrote the token.
        gamma: discount of a step.
        lam: 1 is the whole return minus the value, 0 the one-step difference.

    Returns:
        [C] advantages, [C] returns (advantage + value): both 0 where mask is False.

    >>> gae([0.0, 9.0, 1.0], [0.5, 9.0, 0.25], [True, False, True], gamma=1.0, lam=1.0)
    ([0.5, 0.0, 0.75], [1.0, 0.0, 1.0])
    """
    advantages, returns = [0.0] * len(rewards), [0.0] * len(rewards)
    later = after = 0.0
    for t in reversed(range(len(rewards))):
        if mask[t]:
            later = rewards[t] + gamma * after - values[t] + gamma * lam * later
            after = values[t]
            advantages[t], returns[t] = later, later + after
    return advantages, returns


def whiten(values: Nested, mask: Sequence[Sequence[bool]], shift: bool = True, eps: float = 1e-8) -> Nested:
    """[N][C] at standard deviation 1 over all trained tokens, and at mean 0; without `shift` the mean stays what it
    was, which is how PPO for language whitens rewards (the code of https://arxiv.org/abs/1909.08593).

    Tokens that are not trained do not count, and become 0.

    >>> [[round(x, 2) for x in row] for row in whiten([[3.0, 7.0, 1.0], [2.0]], [[True, False, True], [True]])]
    [[1.0, 0.0, -1.0], [0.0]]
    """
    trained = [x for row, trains in zip(values, mask, strict=True) for x in compress(row, trains)]
    mean, std = fmean(trained) if trained else 0.0, sample_std(trained)
    added = 0.0 if shift else mean
    return [
        [(x - mean) / (std + eps) + added if trains else 0.0 for x, trains in zip(row, flags, strict=True)]
        for row, flags in zip(values, mask, strict=True)
    ]
