"""Contrastive Preference Optimization, and SimPO: preferences without a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..groups import best_tokens, general
from ..learner import Learner
from ..losses.preference import CPO_LOSSES, check_preference
from ..losses.supervised import cross_entropy
from ..source import Source
from ..types import Group
from .method import Method, Needs


@dataclass(frozen=True)
class CPO(Method):
    """Contrastive Preference Optimization. Xu et al., 2024, https://arxiv.org/abs/2401.08417."""

    learning_rate: float = 5e-6
    batch_size: int = 16
    """Pairs per optimizer step."""
    beta: float = 0.1
    """Scale of the log-probabilities in the preference."""
    loss_type: Literal["sigmoid", "hinge", "ipo", "simpo"] = "sigmoid"
    """Loss of the two log-probabilities; ipo and simpo take them per token."""
    label_smoothing: float = 0.0
    """Share of pairs believed to be the wrong way round: of sigmoid and simpo."""
    cpo_alpha: float = 1.0
    """Weight of the cross entropy of the chosen completions, per token."""
    simpo_gamma: float = 0.5
    """Margin by which the chosen completion must win, in SimPO."""

    def __post_init__(self) -> None:
        super().__post_init__()
        smooths, has_gamma = self.label_smoothing != 0, self.simpo_gamma != CPO.simpo_gamma
        CPO_LOSSES[self.loss_type].refuse_unused(
            self.loss_type, label_smoothing=smooths, simpo_gamma=has_gamma
        )
        check_preference(self.beta, self.label_smoothing)

    @property
    def needs(self) -> Needs:
        """Pairs; no reference."""
        return Needs(TABLE["cpo"].rows, anchors=self.cpo_alpha > 0)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt, chosen and rejected."""
        return source.preferences(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Nothing to add: there is no reference."""
        return groups

    def counts(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Trained tokens of the chosen completions, those of general rows among them; and the general rows."""
        return {"best_tokens": best_tokens(groups), **general(groups)}

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean over the pairs of the step, and the cross entropy over its chosen tokens."""
        spec, logprob = CPO_LOSSES[self.loss_type], batch.sum_tokens(outputs.logprobs)
        if spec.per_token:
            logprob = logprob / batch.sum_tokens(torch.ones_like(outputs.logprobs)).clamp(min=1)
        best, worst = batch.best_and_worst()
        reward, among, pairs = self.beta * logprob.detach(), batch.compared, batch.num_compared
        options = {option: getattr(self, option) for option in spec.options}
        loss = spec.function(logprob[best], logprob[worst], self.beta, **options)
        total = (loss * batch.pair_weights * among).sum() / pairs
        cross = batch.best_token_mean(cross_entropy(outputs.logprobs))
        if self.cpo_alpha:
            total = total + self.cpo_alpha * cross
        return total, {
            "cross_entropy": cross.detach(),
            "reward_chosen": (reward[best] * among).sum() / pairs,
            "reward_rejected": (reward[worst] * among).sum() / pairs,
            "accuracy": ((reward[best] > reward[worst]) * among).sum() / pairs,
        }


@dataclass(frozen=True)
class SimPO(CPO):
    """CPO's loss `simpo`, without the cross entropy. Meng et al., 2024, https://arxiv.org/abs/2405.14734."""

    beta: float = 2.0
    """Scale of the log-probabilities per token; the paper's 2 to 2.5."""
    loss_type: Literal["sigmoid", "hinge", "ipo", "simpo"] = "simpo"
    """Loss of the two log-probabilities."""
    cpo_alpha: float = 0.0
    """Weight of the cross entropy of the chosen completions; above 0 it is CPO-SimPO."""
