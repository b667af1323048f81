"""Loss and perplexity of held-out completions while a run trains, whatever it trains on."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ..errors import InputError
from ..learner import Learner
from ..learner.memory import apart
from ..rows.spread import spread
from ..source import Source
from ..tasks import Task
from ..types import Group, Row
from .alarms.memory import Monitor

ROWS = 32
"""Held-out completions that are measured, at most: spread over all of them."""
SPLITS = ("validation", "calibration", "test")
"""Where a task's held-out rows are looked for, in this order; nothing is chosen by what is measured on them."""


def held_out_loss(learner: Learner, source: Source, steps: int, every: int) -> list[Monitor]:
    """The monitor that measures it, where the task holds out completions and the model gives log-probabilities."""
    if not every or learner.model.only_scores:
        return []
    groups = completions_of(source, learner.model.context)
    return [HeldOutLoss(learner, groups, steps, every)] if groups else []


@dataclass
class HeldOutLoss:
    """A monitor that adds `held_out/loss`, nats per token, and `held_out/perplexity` to the first step, every `every`
    steps and the last one."""

    learner: Learner
    groups: list[Group] = field(repr=False)
    steps: int
    every: int

    def __call__(self, step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if not (step == 1 or step % self.every == 0 or step >= self.steps):
            return
        with apart(self.learner.model.device):
            measured = self.learner.logprobs(self.groups)
        loss = -fmean(
            logprob
            for group, said in zip(self.groups, measured, strict=True)
            for completion, own in zip(group.completions, said, strict=True)
            for logprob, trained in zip(own, completion.mask, strict=True)
            if trained
        )
        metrics["held_out/loss"] = loss
        metrics["held_out/perplexity"] = math.exp(min(loss, 700.0))


def completions_of(source: Source, context: int) -> list[Group]:
    """Held-out prompts of the source's task, each with the completion that is right, where both fit the context."""
    task = source.task
    if task.scorer == "environment":  # its episodes are no single completions
        return []
    found = []
    for row in _rows(task):
        if (text := right_completion(task, row)) is not None:
            found.append(source.given(row, [text], None))
    return [group for group in found if group.completions[0].tokens and group.unique_tokens <= context]


def right_completion(task: Task, row: Row) -> Any:
    """The completion of a held-out row that the policy should give, as text or messages; None: there is none."""
    if row.get("chosen") is not None:
        return row["chosen"]
    if row.get("completion") is not None:
        return row["completion"] if row.get("label", True) else None
    return None if task.gold is None else task.gold(row)


def _rows(task: Task) -> list[Row]:
    trained = task.rows("train")
    for split in SPLITS:
        try:
            rows = task.rows(split)
        except InputError:  # a task may refuse the names of splits that it does not have
            continue
        found = spread(rows, ROWS)
        if found and found != spread(trained, ROWS):  # some tasks give the same rows for every split
            return found
    return []
