"""Train and evaluate on given rows: demonstrations, pairs or labels, and what `compute_metrics` is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from ..chat.formatting import rowwise
from ..chat.reader import Reader
from ..errors import InputError
from ..learner import Learner
from ..rows.messages import without_gaps
from ..source import Source
from ..tasks import Task
from ..training.evaluation import all_groups
from ..training.predictions import predictions
from ..types import Row
from .collators import marking
from .events import Events
from .plan import Plan


class GivenData:
    """The rows of a trainer that samples nothing; the method's needs say how they are read."""

    compute_metrics: Callable[[Any], dict[str, float]] | None = None
    preprocess: Callable[[Any, Any], Any] | None = None
    """Makes of the logits what compute_metrics is shown."""

    def __init__(
        self, plan: Plan, learner: Learner, dataset: Any, formatting_func: Any, collator: Any
    ) -> None:
        self.plan, self.learner, self.chat = plan, learner, learner.model.chat
        text = (plan.dataset_text_field, plan.completion_only_loss, plan.assistant_only_loss)
        needs = plan.method.needs
        self.reader = Reader(
            self.chat, plan.limits, *text, rowwise(formatting_func), marking(collator), needs.head == "score",
            needs.anchors,
        )  # fmt: skip
        rows = self.read(self.reader, listed(dataset, plan.max_rows))
        self.source = Source(Task("trl", lambda split: rows), self.chat, seed=plan.data_seed)
        self.source.shuffle = plan.shuffle

    def read(self, reader: Reader, rows: Sequence[Row]) -> list[Row]:
        """The rows as the method needs them."""
        kinds = {"demonstration": reader.demonstrations, "label": reader.labelled}
        return kinds.get(self.plan.method.needs.rows, reader.pairs)(rows)

    def held_out(self, dataset: Any, name: str) -> list[Row]:
        """The rows of an evaluation."""
        return self.read(replace(self.reader, name=name), listed(dataset, held_out=name))

    def told(self, step: int) -> dict[str, float]:
        """Nothing: there are no rewards that could log."""
        return {}

    @torch.no_grad()
    def evaluated(self, rows: Sequence[Row], events: Events) -> dict[str, float]:
        """The loss and the metrics of all rows at once, and those of `compute_metrics`."""
        method = self.plan.method
        groups = method.annotate(all_groups(method, self.source.over(rows), len(rows)), self.learner)
        named = events.named(self.learner.assess(groups, method.loss, method.counts(groups)), groups)
        if self.compute_metrics is not None:
            named |= self.compute_metrics(predictions(self.learner, groups, self.preprocess))
        return named


def listed(dataset: Any, count: int | None = None, held_out: str = "") -> list[Row]:
    """The rows of anything that can be iterated over; of one without a length, the first `count`, or all `held_out`."""
    name, arrow = held_out or "train_dataset", hasattr(dataset, "features")
    if dataset is None:
        raise InputError(f"{name} is None; give a dataset with TRL's columns")
    if isinstance(dataset, Mapping):
        raise InputError(f"{name} is a dictionary of {', '.join(map(str, dataset))}; choose one of them")
    if not hasattr(dataset, "__len__") and not held_out:
        if count is None:
            raise InputError("the dataset has no length; give max_steps")
        dataset = islice(dataset, count)
    return [without_gaps(dict(row)) if arrow else dict(row) for row in dataset]
