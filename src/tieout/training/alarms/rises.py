"""Metrics that rise against the start of the run; where asked, only while the reward pays for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from ...types import Group
from .actions import Detector
from .memory import Memory, both_ends, remembers


def risen(name: str, by: float, *, paid: bool = False, start: int = 5, window: int = 5) -> Detector:
    """The mean of the last `window` steps is more than `by` above that of the first `start` steps.

    What a level cannot tell: filings hedge, and a translation is in another script than its prompt, from the start.

    Args:
        name: of the metric.
        by: how far it may rise, in its own unit.
        paid: only where the score has risen, too.
        start: steps that the others are compared with.
        window: steps that are compared.
    """
    memory: Memory = {"first": [], "last": []}

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if name not in metrics or (paid and "score" not in metrics):
            return None
        seen = [metrics[name], metrics.get("score", 0.0)]
        if not both_ends(memory, seen, start, window):
            return None
        (before, score), (now, later) = (
            map(fmean, zip(*memory[key], strict=True)) for key in ("first", "last")
        )
        if now <= before + by or (paid and later <= score):
            return None
        memory["last"] = []
        gain = f" while the score went from {score:.3g} to {later:.3g}" if paid else ""
        return (
            f"{name} rose from {before:.3g} to {now:.3g}{gain} (limit: {by:g} above the first {start} steps)"
        )

    return detect
