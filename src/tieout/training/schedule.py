"""Number of optimizer steps, and the learning rate over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..methods import Method
from ..source import Source


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run: linear warmup to the method's rate, then constant or a fall to zero.

    It is a function of the step and of the total. A run that is continued for more epochs takes its next step at the
    rate of the new total: a rate that had fallen to zero rises again to where the longer run has it, and nothing that
    was trained before is repeated.
    """

    kind: Literal["constant", "linear", "cosine"] = "linear"
    """What follows the warmup."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""

    def rate(self, step: int, steps: int) -> float:
        """Factor in (0, 1] for step `step` (from 0) of `steps`."""
        warmup = self.warmup * steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.kind == "constant":
            return 1.0
        left = (steps - step) / max(1.0, steps - warmup)
        return left if self.kind == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)


def num_steps(method: Method, source: Source) -> int:
    """Optimizer steps in the method's epochs."""
    return max(1, math.ceil(method.epochs * len(source.rows) / method.batch_size))
