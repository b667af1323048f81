"""Detectors over what a method samples: a reward that rises alone, completions that are cut off, form that is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from ...rewards.scoring.runner import Call, score_groups
from ...types import Group, Reward
from .actions import Detector
from .detectors import above
from .memory import Memory, both_ends, memory_of, remembers


def rises_alone(
    window: int = 8, rise: float = 0.05, share: float = 0.25, confidence: float = 4.0
) -> Detector:
    """The reward has risen since the start, and gold has not: what was learnt is something else, such as form.

    Reads `score` and the `gold` that `gold_against_proxy` adds. The last `window` steps are compared with the first.

    Args:
        window: steps.
        rise: of the reward, at least.
        share: of the reward's rise, which gold's rise must not be below.
        confidence: standard errors over steps by which the reward must have risen, and risen more than gold.
    """
    memory: Memory = {"first": [], "last": []}  # [score, gold] of a step

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if "gold" not in metrics or "score" not in metrics:
            return None
        seen = [metrics["score"], metrics["gold"]]
        if not both_ends(memory, seen, window, window):
            return None
        first, last = memory["first"], memory["last"]
        reward, gold = ([fmean(s[i] for s in part) for part in (first, last)] for i in (0, 1))
        risen, gained = reward[1] - reward[0], gold[1] - gold[0]
        parted = [[s - g for s, g in part] for part in (first, last)]
        clear = risen > confidence * _error([s for s, _ in first], [s for s, _ in last])
        if (
            risen <= rise
            or gained >= share * risen
            or not clear
            or risen - gained <= confidence * _error(*parted)
        ):
            return None
        memory["last"] = []
        return (
            f"the reward rose from {reward[0]:.3f} to {reward[1]:.3f} while gold went from {gold[0]:.3f} to "
            f"{gold[1]:.3f}: it pays for something else, such as form"
        )

    return detect


def _error(first: Sequence[float], last: Sequence[float]) -> float:
    return math.hypot(*(stdev(values) / math.sqrt(len(values)) for values in (first, last)))


def cut_off(limit: float = 0.3, patience: int = 3) -> Detector:
    """More than this share of the completions was cut off: what they would have said is scored as wrong."""
    inner = above("cut_off", limit, patience)

    @remembers(memory_of(inner))
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if (reason := inner(step, groups, metrics)) is None:
            return None
        longest = max((len(c.tokens) for g in groups for c in g.completions), default=0)
        return f"{reason}: raise max_new_tokens (completions end at {longest} tokens), or ask for shorter answers"

    return detect


def format_lost(valid: Reward, limit: float = 0.95, by: int = 200, window: int = 5) -> Detector:
    """The share in a valid format fell below four fifths of its best, or is below `limit` after `by` steps.

    Adds that share to the metrics as `valid`.

    Args:
        valid: a reward, or a metric of the task, that gives 1 to a completion in a valid format.
        limit: a share that is usual within a few hundred steps.
        by: steps that are left to get there.
        window: steps over which shares are averaged.
    """
    memory: Memory = {"last": [], "best": 0.0, "said": False}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        calls = [Call.of_group(group) for group in groups]
        known = [o.worth for outcomes in score_groups(valid, calls) for o in outcomes if o.worth is not None]
        if not known:
            return None
        share = fmean(worth >= 1 for worth in known)
        metrics["valid"] = share  # type: ignore[index]
        memory["last"] = [*memory["last"], share][-window:]
        if len(memory["last"]) < window:
            return None
        now = fmean(memory["last"])
        memory["best"] = max(memory["best"], now)
        if now < 0.8 * memory["best"]:
            memory.update(last=[], best=now)
            return f"{now:.0%} of the completions are in a valid format, after more before"
        if step >= by and now < limit and not memory["said"]:
            memory["said"] = True
            return (
                f"{now:.0%} of the completions are in a valid format at step {step} (expected: {limit:.0%})"
            )
        return None

    return detect
