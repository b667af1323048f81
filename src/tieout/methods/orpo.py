"""Odds-Ratio Preference Optimization: SFT and preference in one stage, without a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..groups import best_tokens, general
from ..learner import Learner
from ..losses.preference import log_odds, orpo
from ..losses.supervised import cross_entropy
from ..source import Source
from ..types import Group
from .checks import check_ranges
from .method import Method, Needs


@dataclass(frozen=True)
class ORPO(Method):
    """Odds-Ratio Preference Optimization. Hong et al., 2024, https://arxiv.org/abs/2403.07691."""

    learning_rate: float = 8e-6
    """The paper's for full fine-tuning; LoRA takes more."""
    batch_size: int = 16
    """Pairs per optimizer step."""
    beta: float = 0.1
    """Weight of the odds ratio relative to the cross entropy of the chosen completions (the paper's lambda)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "orpo")

    @property
    def needs(self) -> Needs:
        """Pairs; no reference."""
        return Needs(TABLE["orpo"].rows, anchors=True)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt, chosen and rejected."""
        return source.preferences(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Nothing to add."""
        return groups

    def counts(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Trained tokens of the chosen completions, those of general rows among them; and the general rows."""
        return {"best_tokens": best_tokens(groups), **general(groups)}

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross entropy over the chosen tokens of the step, and the odds ratio's mean over its pairs (eq. 6)."""
        tokens = batch.sum_tokens(torch.ones_like(outputs.logprobs)).clamp(min=1)
        mean = batch.sum_tokens(outputs.logprobs) / tokens
        best, worst = batch.best_and_worst()
        among, pairs = batch.compared, batch.num_compared
        cross = batch.best_token_mean(cross_entropy(outputs.logprobs))
        odds, reward = log_odds(mean.detach()), self.beta * mean.detach()
        ratio = (orpo(mean[best], mean[worst]) * batch.pair_weights * among).sum() / pairs
        return cross + self.beta * ratio, {
            "cross_entropy": cross,
            "log_odds_ratio": ((odds[best] - odds[worst]) * among).sum() / pairs,
            "reward_chosen": (reward[best] * among).sum() / pairs,
            "reward_rejected": (reward[worst] * among).sum() / pairs,
            "accuracy": ((odds[best] > odds[worst]) * among).sum() / pairs,
        }
