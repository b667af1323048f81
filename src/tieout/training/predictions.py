"""Predictions of a model on held-out groups, in the form that transformers hands to `compute_metrics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..chat.reader import IGNORED
from ..learner import Learner
from ..types import Group


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
