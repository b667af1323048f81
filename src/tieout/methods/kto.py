"""Kahneman-Tversky Optimization: learn from single completions labelled good or bad, without pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..errors import InputError
from ..groups import class_weights, mean_logratio, mismatched
from ..learner import Learner
from ..losses.preference import check_preference, kto
from ..source import Source
from ..types import Group
from .method import Method, Needs


@dataclass(frozen=True)
class KTO(Method):
    """Kahneman-Tversky Optimization. Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306."""

    learning_rate: float = 5e-6
    batch_size: int = 16
    """Prompts per optimizer step; the reference point is estimated from them, so take at least 8."""
    beta: float = 0.1
    """How fast the value of a log-ratio saturates; a smaller one lets the policy move further from the reference."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    """kto: relative to the KL as a reference point; apo_zero_unpaired: relative to 0 (https://arxiv.org/abs/2408.06266)."""
    desirable_weight: float | None = None
    """Weight of good completions; left out: from the counts of the rows, so that both classes weigh the same."""
    undesirable_weight: float | None = None
    """Weight of bad completions; left out: from the counts of the rows."""
    threshold: float = 0.5
    """A completion is good if its label is above: True and False are 1 and 0; a task's own labels may be graded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_type == "kto" and self.batch_size < 2:
            raise InputError(
                "the reference point of KTO comes from mismatched pairs: batch_size needs at least 2"
            )
        check_preference(self.beta)

    @property
    def needs(self) -> Needs:
        """Labels and the reference. `beta` scales the log-ratios; it is not the weight of a KL term."""
        return Needs(TABLE["kto"].rows, reference=True)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt, completion and label; each group with the weights of the two classes."""
        good, bad = class_weights([float(row["label"]) > self.threshold for row in source.rows])
        for groups in source.labels(self.batch_size):
            yield [g.with_columns(class_weights=[[good, bad]] * len(g.completions)) for g in groups]

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add the reference's log-probabilities, the weights and the step's reference point: the mean log-ratio of each
        prompt with a completion that was written for another one, at least 0 (section 4.2 of the paper).
        """
        reference = learner.reference_logprobs(groups)
        kl = 0.0
        if self.loss_type == "kto":
            strangers = mismatched(groups)
            measured = learner.logprobs(strangers), learner.reference_logprobs(strangers)
            kl = max(0.0, mean_logratio(strangers, *measured))
        return [
            g.with_columns(reference_logprobs=r, weights=self._weights(g), kl=[kl] * len(g.completions))
            for g, r in zip(groups, reference, strict=True)
        ]

    def _weights(self, group: Group) -> list[float]:
        good, bad = group.columns.get("class_weights", [[1.0, 1.0]])[0]
        good = good if self.desirable_weight is None else self.desirable_weight
        bad = bad if self.undesirable_weight is None else self.undesirable_weight
        return [good if score > self.threshold else bad for score in group.scores or []]

    def counts(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Good and bad completions: the metrics of a class are means over it."""
        good = [score > self.threshold for g in groups for score in g.scores or []]
        return {"desirable": sum(good), "undesirable": len(good) - sum(good)}

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean over the completions of the step, each with its class's weight."""
        logratio = batch.sum_tokens(outputs.logprobs - batch["reference_logprobs"])
        scores = [s for g in batch.groups for s in g.scores or []]
        desirable = torch.tensor([s > self.threshold for s in scores], device=logratio.device)
        loss = batch["weights"] * kto(logratio, desirable, batch["kl"], self.beta)
        count, counts = batch.totals.completions, batch.totals.counts
        reward = self.beta * logratio.detach()
        return loss.sum() / count, {
            "desirable": desirable.sum() / count,
            "kl_reference": batch["kl"].sum() / count,
            "reward_desirable": (reward * (1 / max(1, counts["desirable"])) * desirable).sum(),
            "reward_undesirable": (reward * (1 / max(1, counts["undesirable"])) * ~desirable).sum(),
        }
