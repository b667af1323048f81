"""Passes over the rows of a data set, divided into steps as transformers divides them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ..errors import InputError


@dataclass(frozen=True)
class Passes:
    """How many rows a pass takes, and how many steps. The last batch of a pass may be smaller; none spans two passes.

    Micro-batches count for two things: `drop_last` leaves out the rows that fill none, and `epoch` counts them.

    >>> five = Passes(rows=5, batch_size=4)
    >>> five.steps, five.steps_of(3.0), five.steps_of(0.5), five.epoch(3)
    (2, 6, 1, 1.5)
    """

    rows: int
    batch_size: int
    """Rows per step."""
    micro_batches: int = 1
    """Per step: gradients of so many micro-batches are summed."""
    drop_last: bool = False
    whole: bool = False
    """Only whole batches, as rollouts are sampled; a set smaller than one batch is repeated to fill it."""

    def __post_init__(self) -> None:
        if self.drop_last and not self.size:
            raise InputError(
                f"dataloader_drop_last leaves nothing: {self.rows} rows are fewer than a batch of {self._part}"
            )

    @property
    def _part(self) -> int:
        """Rows per micro-batch."""
        return max(1, self.batch_size // self.micro_batches)

    @property
    def size(self) -> int:
        """Rows of a pass; 0: no pass fills a batch."""
        part = self.batch_size if self.whole else self._part if self.drop_last else 1
        return self.rows - self.rows % part

    @property
    def steps(self) -> int:
        """Steps per pass."""
        return max(1, ceil(self.size / self.batch_size))

    def steps_of(self, epochs: float) -> int:
        """Steps of so many passes."""
        return max(1, ceil(epochs * self.steps))

    def epoch(self, step: int) -> float:
        """Passes that are done after this step, as transformers counts them: in micro-batches."""
        done, within = divmod(step, self.steps)
        parts = max(1, ceil(self.size / self._part))
        return done + min(within * self.micro_batches, parts) / parts

    def ends(self, step: int) -> bool:
        """Whether a pass ends with this step."""
        return step % self.steps == 0
