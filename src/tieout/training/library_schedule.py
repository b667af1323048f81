"""A learning-rate schedule of transformers, by its name there."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class LibrarySchedule:
    """In place of a `Schedule`: cosine_with_restarts, polynomial, inverse_sqrt and what else transformers has."""

    kind: str
    """Name of the schedule, as `transformers.get_scheduler` takes it."""
    warmup: float
    """Steps, or below 1 a share of them."""
    options: Any = None
    """Of this kind of schedule, such as lr_end."""
    learning_rate: float = 1.0
    """What the factors are of: some schedules end at a rate of their own."""

    def rate(self, step: int, steps: int) -> float:
        """Factor for step `step` (from 0) of `steps`."""
        known = self.__dict__.setdefault("_known", {})
        if steps not in known:
            import torch
            from transformers import get_scheduler

            dummy = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=self.learning_rate)
            warmup = ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)
            options = dict(self.options or {})
            try:
                made = get_scheduler(self.kind, dummy, warmup, steps, scheduler_specific_kwargs=options)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"lr_scheduler_type {self.kind!r} with lr_scheduler_kwargs {options}: {error}"
                ) from error
            if not hasattr(made, "lr_lambdas"):
                raise InputError(
                    f"lr_scheduler_type {self.kind!r} takes its rate from evaluations, and here the rate is a function "
                    "of the step; take another, such as cosine"
                )
            known[steps] = made.lr_lambdas[0]
        return float(known[steps](step))
