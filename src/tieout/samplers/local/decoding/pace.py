"""The pace of drafts: how many guessed tokens a step computes.

A step over T tokens takes about a + b T: the weights are read once, whatever T is. A guessed token is worth computing
if the chance that it is reached and right, per second that it adds, is above what the step yields without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from time import perf_counter, thread_time
from typing import overload

import numpy as np
import torch

FREE_TOKENS = {"cpu": 12.0, "cuda": 128.0}
"""a / b: as many tokens cost as much as a step itself. Measured on a CPU with `tieout-base`: 9 to 24; on CUDA: not."""
ARRANGING = 2.0
"""Tokens that cost as much as what a step with drafts does besides: their places are set up at every step."""
GUESSING = 0.08
"""The same for the guess of a row, unless it is measured."""
RUNS = 16
"""Longer runs of agreement are counted as this one."""
KEPT = 0.98
"""Weight of what was seen a step earlier."""
PATIENCE, FIRST_PAUSE, LONGEST_PAUSE = 12, 16, 256
"""Steps in which drafts do not pay before they pause, and how long they do."""


class Cost:
    """Seconds of a step over T tokens, and of the guessing before it."""

    def __init__(self, device: str, measured: bool) -> None:
        self.usual = self.free = FREE_TOKENS.get(device, FREE_TOKENS["cpu"])
        self.device, self.measured = device, measured
        self.guessing = 0.0
        """In tokens of a step."""
        self._sums = np.zeros(5)  # weight, T, T T, seconds, T seconds
        self._guessing = 0.0

    @overload
    def of(self, tokens: float) -> float: ...
    @overload
    def of(self, tokens: np.ndarray) -> np.ndarray: ...
    def of(self, tokens: float | np.ndarray) -> float | np.ndarray:
        """Of a step, in units of what one token adds."""
        return self.free + tokens

    def guess_of(self, rows: int) -> float:
        """Of the guesses for so many rows, in the same units."""
        return self.guessing if self.measured else GUESSING * rows

    def unsure(self, tokens: int) -> bool:
        """Whether all steps were about as wide as this one would be, so that what width costs is unknown."""
        weight, x, xx, *_ = map(float, self._sums)
        if not self.measured or not weight:
            return False
        mean = x / weight
        return abs(tokens - mean) < tokens / 4 and xx / weight - mean * mean < (tokens / 8) ** 2

    def saw(self, tokens: int, seconds: float, guessing: float) -> None:
        """A step of so many tokens took so long, after guessing for so long."""
        if not self.measured:
            return
        if self._sums[0]:
            slope, start = self._line()
            seconds = min(seconds, 3 * (start + slope * tokens))  # something else ran in between
        # As if a wider step had been seen too, at the usual cost: steps of one width say nothing of others.
        wider = seconds * (self.usual + 1.5 * tokens) / (self.usual + tokens)
        self._sums = (
            KEPT * self._sums + _moments(tokens, seconds) + (1 - KEPT) * _moments(1.5 * tokens, wider)
        )
        slope, start = self._line()
        self.free = start / slope
        self._guessing += 0.1 * (guessing - self._guessing)
        self.guessing = self._guessing / slope

    def _line(self) -> tuple[float, float]:
        """Least squares, with a positive slope and start."""
        weight, x, xx, y, xy = map(float, self._sums)
        spread = max(xx * weight - x * x, 1e-9)
        slope = (xy * weight - x * y) / spread
        mean = y / weight / (x / weight + 1)  # seconds per token, if a step itself cost as much as one
        slope = min(max(slope, mean / 1000), mean)
        return slope, max((y - slope * x) / weight, slope)


def _moments(tokens: float, seconds: float) -> np.ndarray:
    return np.array([1.0, tokens, tokens * tokens, seconds, tokens * seconds])


def _clock(device: str) -> Callable[[], float]:
    """Seconds of this thread where it works alone: whatever else the machine does."""
    return thread_time if device == "cpu" and torch.get_num_threads() == 1 else perf_counter


class Pace:
    """What is known of guesses and of steps; decides."""

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.tried, self.right = np.full(RUNS + 1, 4.0), np.full(RUNS + 1, 2.8)
        self.poor, self.pause, self.waiting = 0, FIRST_PAUSE, 0
        self.clock = _clock(cost.device)
        self.guessed = 0.0
        """Seconds of the guessing before this step."""

    def copy(self) -> Pace:
        """The same knowledge, for another decoder, which does not pause yet."""
        copy = deepcopy(self)
        copy.poor, copy.pause, copy.waiting, copy.clock = 0, FIRST_PAUSE, 0, _clock(self.cost.device)
        return copy

    def ready(self) -> bool:
        """Whether to guess before this step; the cost of steps in between says nothing of wider ones."""
        self.guessed = 0.0
        self.waiting = max(0, self.waiting - 1)
        return not self.waiting

    @contextmanager
    def guessing(self) -> Iterator[None]:
        """Count the seconds inside."""
        started = self.clock()
        yield
        self.guessed = self.clock() - started

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
        yields = (rows + ordered.cumsum()) / (self.cost.of(counts) + ARRANGING)
        best = int(yields.argmax())
        plain = rows / self.cost.of(rows)
        if yields[best] <= plain:
            return self._pays(False, [0] * rows)
        if self.cost.unsure(int(counts[best])):
            return [0] * rows
        spent = self.cost.of(counts[best]) + ARRANGING + self.cost.guess_of(rows)
        with_guessing = (rows + ordered[: best + 1].sum()) / spent
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
