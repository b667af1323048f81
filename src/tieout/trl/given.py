"""Train and evaluate on given rows: demonstrations, pairs or labels, and what `compute_metrics` is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..learner import Learner
from ..tasks import Task
from ..types import Group
from .collators import marking
from .data import IGNORED, Prepared, Reader, rowwise
from .events import Events
from .plan import Plan


class GivenData:
    """The rows of a trainer that samples nothing; the method's needs say how they are read."""

    def __init__(
        self, plan: Plan, learner: Learner, dataset: Any, formatting_func: Callable[[Any], Any] | None,
        data_collator: Any, compute_metrics: Callable[[Any], dict[str, float]] | None,
        preprocess: Callable[[Any, Any], Any] | None,
    ) -> None:  # fmt: skip
        self.plan, self.learner = plan, learner
        self.compute_metrics, self.preprocess = compute_metrics, preprocess
        self.reader = Reader(
            learner.model.chat,
            plan.limits,
            plan.dataset_text_field,
            plan.completion_only_loss,
            plan.assistant_only_loss,
            rowwise(formatting_func),
            marking(data_collator),
        )
        self.source = self._source(dataset, plan.max_rows)
        self.source.shuffle = plan.shuffle

    def _source(self, dataset: Any, count: int | None) -> Prepared:
        kinds = {"demonstration": self.reader.demonstrations, "label": self.reader.labelled}
        rows = kinds.get(self.plan.method.needs.rows, self.reader.pairs)(dataset, count)
        return Prepared(Task("trl", lambda split: rows), self.learner.model.chat, seed=self.plan.data_seed)

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
