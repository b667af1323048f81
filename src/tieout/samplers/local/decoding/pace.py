"""The pace of drafts: how many guessed tokens a step computes.

A step over T tokens takes about a + b T: the weights are read once, whatever T is. A guessed token is worth computing
if the chance that it is reached and right, per second that it adds, is above what the step yields without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FREE_TOKENS = {"cpu": 24.0, "cuda": 128.0}
"""a / b: as many tokens cost as much as a step itself. On a CPU the best of 12, 24 and 48 with `tieout-base`; not
measured on CUDA."""
ARRANGING = 2.0
"""Tokens that cost as much as what a step with drafts does besides: their places are set up at every step."""
GUESSING = 0.08
"""The same for the guess of a row."""
RUNS = 16
"""Longer runs of agreement are counted as this one."""
KEPT = 0.98
"""Weight of what was seen a step earlier."""
PATIENCE, FIRST_PAUSE, LONGEST_PAUSE = 12, 16, 256
"""Steps in which drafts do not pay before they pause, and how long they do."""


class Pace:
    """What is known of guesses; decides."""

    def __init__(self, device: str) -> None:
        self.free = FREE_TOKENS.get(device, FREE_TOKENS["cpu"])
        self.tried, self.right = np.full(RUNS + 1, 4.0), np.full(RUNS + 1, 2.8)
        self.poor, self.pause, self.waiting = 0, FIRST_PAUSE, 0

    def ready(self) -> bool:
        """Whether to guess before this step."""
        self.waiting = max(0, self.waiting - 1)
        return not self.waiting

    def lengths(self, runs: Sequence[Sequence[int]]) -> list[int]:
        """How many tokens of every row's guess to compute, given the run that each of them follows."""
        rows, width = len(runs), max(map(len, runs))
        if not width:
            return self._pays(False, [0] * rows)
        table = np.array([[*r, *[0] * (width - len(r))] for r in runs])
        rates = np.minimum(self.right / self.tried, 0.99)
        rates[0] = 0
        chances = rates[np.minimum(table, RUNS)].cumprod(1)
        ordered = np.sort(chances[chances > 0])[::-1]
        counts = rows + np.arange(1, len(ordered) + 1)
        costs = self.free + counts + ARRANGING
        yields = (rows + ordered.cumsum()) / costs
        best = int(yields.argmax())
        plain = rows / (self.free + rows)
        if yields[best] <= plain:
            return self._pays(False, [0] * rows)
        with_guessing = (rows + ordered[: best + 1].sum()) / (costs[best] + GUESSING * rows)
        return self._pays(with_guessing > plain, (chances >= ordered[best]).sum(1).tolist())

    def _pays(self, pays: bool, lengths: list[int]) -> list[int]:
        self.poor = max(0, self.poor - 1) if pays else self.poor + 1
        if not self.poor:
            self.pause = FIRST_PAUSE
        if self.poor >= PATIENCE:
            self.waiting, self.pause, self.poor = (
                self.pause,
                min(2 * self.pause, LONGEST_PAUSE),
                PATIENCE // 2,
            )
        return lengths

    def saw(self, runs: Sequence[Sequence[int]], kept: Sequence[int]) -> None:
        """What every row kept: the tokens of its draft that agreed, and one more."""
        self.tried *= KEPT
        self.right *= KEPT
        for row, count in zip(runs, kept, strict=True):
            for depth, run in enumerate(row[:count]):
                self.tried[min(run, RUNS)] += 1
                self.right[min(run, RUNS)] += depth < count - 1
        # A run length that was not tried for long goes back to the prior.
        self.tried += (1 - KEPT) * 4.0
        self.right += (1 - KEPT) * 2.8
