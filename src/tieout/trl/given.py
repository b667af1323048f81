"""Train and evaluate on given rows: demonstrations, pairs or labels, and what `compute_metrics` is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..chat.reader import IGNORED, Reader
from ..errors import InputError
from ..learner import Learner
from ..source import Source
from ..tasks import Task
from ..types import Group, Row
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
        self.source = self._source(dataset, plan.max_rows)
        self.source.shuffle = plan.shuffle

    def _source(self, dataset: Any, count: int | None) -> Source:
        kinds = {"demonstration": self.reader.demonstrations, "label": self.reader.labelled}
        rows = kinds.get(self.plan.method.needs.rows, self.reader.pairs)(listed(dataset, count))
        return Source(Task("trl", lambda split: rows), self.chat, seed=self.plan.data_seed)

    def told(self, step: int) -> dict[str, float]:
        """Nothing: there are no rewards that could log."""
        return {}

    @torch.no_grad()
    def evaluated(self, dataset: Any, events: Events) -> dict[str, float]:
        """The loss and the metrics of all rows at once, and those of `compute_metrics`."""
        source = self._source(dataset, None)
        source.shuffle = False
        method = replace(self.plan.method, batch_size=len(source.rows))
        groups = method.annotate(next(method.collect(source)), self.learner)
        named = events.named(self.learner.assess(groups, method.loss, method.counts(groups)), groups)
        if self.compute_metrics is not None:
            named |= self.compute_metrics(predictions(self.learner, groups, self.preprocess))
        return named


def predictions(
    learner: Learner, groups: Sequence[Group], preprocess: Callable[..., Any] | None
) -> EvalPrediction:
    """A reward model's scores [N, 2] of chosen and rejected, with labels of 0: the first is the better one.

    Else the logits [N, L, V] of whole sequences, or what `preprocess` makes of them, with the tokens as labels, -100
    where they are not trained.
    """
    if learner.model.only_scores:
        return EvalPrediction(np.array(learner.scores(groups)), np.zeros(len(groups), dtype=np.int64))
    shown, labels = [], []
    for group in groups:
        for completion in group.completions:
            ids = torch.tensor([[*group.prompt, *completion.tokens]], device=learner.model.device)
            trained = torch.tensor([[False] * len(group.prompt) + completion.mask], device=ids.device)
            own = ids.where(trained, IGNORED)
            logits = learner.model.causal(input_ids=ids).logits.float()
            shown.append(np.asarray((preprocess(logits, own) if preprocess else logits).cpu())[0])
            labels.append(own[0].cpu().numpy())
    return EvalPrediction(_padded(shown), _padded(labels))


def _padded(rows: Sequence[Any]) -> Any:
    """[N, L, ...] of rows [l, ...]."""
    result = np.full((len(rows), max(map(len, rows)), *rows[0].shape[1:]), IGNORED, dtype=rows[0].dtype)
    for place, row in zip(result, rows, strict=True):
        place[: len(row)] = row
    return result


def rowwise(function: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """TRL's formatting_func as a function of one row: earlier versions gave it a batch, and took a list of texts."""
    if function is None:
        return None
    batched: list[bool] = []

    def of_batch(row: Row) -> Any:
        made = function({name: [value] for name, value in row.items()})
        return made[0] if isinstance(made, list) and len(made) == 1 and isinstance(made[0], str) else None

    def of_row(row: Row) -> Any:
        if not batched:
            try:
                batched.append(of_batch(row) is not None)
            except Exception:  # a function of rows may fail on a batch, in whatever way
                batched.append(False)
        return of_batch(row) if batched[0] else function(row)

    return of_row


def listed(dataset: Any, count: int | None = None) -> list[Row]:
    """The rows of anything that can be iterated over; of one without a length, the first `count`."""
    if dataset is None:
        raise InputError("train_dataset is None; give a dataset with TRL's columns")
    if isinstance(dataset, Mapping):
        raise InputError(
            f"train_dataset is a dictionary of {', '.join(map(str, dataset))}; choose one of them"
        )
    if not hasattr(dataset, "__len__"):
        if count is None:
            raise InputError("the dataset has no length; give max_steps")
        dataset = islice(dataset, count)
    return [dict(row) for row in dataset]
