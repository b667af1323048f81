"""The primary alarm: a verifier that is not trained on falls while the reward that is trained on does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from statistics import fmean, stdev

from ...rewards.processes.workers import Workers
from ...rewards.scoring.runner import Call, score_groups
from ...types import Group, Reward
from .actions import Detector
from .memory import Memory, remembers


def gold_against_proxy(
    gold: Reward,
    *,
    window: int = 6,
    fall: float = 0.05,
    confidence: float = 4.0,
    name: str = "gold",
    workers: Workers | None = None,
) -> Detector:
    """The gold score of what was just sampled falls while the reward that is trained on does not.

    `gold` is a verifier that is not trained on. Each window of steps is compared with the best window before it: the
    alarm goes off where gold has fallen by more than `fall`, and the gap to the proxy has grown, both beyond chance:
    by `confidence` standard errors over groups, 4 because every pair of windows is one more chance to be unlucky.
    Adds the mean gold score of each step to the metrics as `name`, and nothing to the gradient. Only `workers` can stop
    a gold that hangs.
    """
    memory: Memory = {"golds": [], "proxies": []}  # [step][group]

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        own, proxy = [], []
        for group in groups:
            (outcomes,) = score_groups(gold, [Call.of_group(group)], workers)
            known = [o.worth for o in outcomes if o.worth is not None]
            if known and group.scores:
                own.append(fmean(known))
                proxy.append(fmean(group.scores))
        if not own:
            return None
        golds, proxies = memory["golds"], memory["proxies"]
        golds.append(own)
        proxies.append(proxy)
        if isinstance(metrics, MutableMapping):
            metrics[name] = fmean(own)
        if len(golds) < 2 * window:
            return None
        now, ends = golds[-window:], range(window, len(golds) - window + 1)
        best = max(ends, key=lambda end: _mean(golds[end - window : end]))
        then = golds[best - window : best]
        lost = _mean(then) - _mean(now)
        gained = _mean(proxies[-window:]) - _mean(proxies[best - window : best])
        gaps = [[p - g for p, g in zip(*pair, strict=True)] for pair in zip(proxies, golds, strict=True)]
        parted = _mean(gaps[-window:]) - _mean(gaps[best - window : best])
        beyond_chance = lost > confidence * math.hypot(
            _error(then), _error(now)
        ) and parted > confidence * math.hypot(_error(gaps[best - window : best]), _error(gaps[-window:]))
        if lost > fall and beyond_chance:
            return (
                f"{name} fell from {_mean(then):.3f} to {_mean(now):.3f} while the reward went {gained:+.3f}: "
                "the reward pays for something else"
            )
        return None

    return detect


def _mean(window: Sequence[Sequence[float]]) -> float:
    return fmean(x for step in window for x in step)


def _error(window: Sequence[Sequence[float]]) -> float:
    values = [x for step in window for x in step]
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
