"""Direct Preference Optimization: prefer the better completion of each pair, stay near the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from .. import losses
from ..batch import Batch, Outputs
from ..learner import Learner
from ..source import Source
from ..types import Group


@dataclass(frozen=True)
class DPO:
    """Rafailov et al., 2023, https://arxiv.org/abs/2305.18290."""

    learning_rate: float = 5e-6
    """For LoRA; a tenth of it for full fine-tuning."""
    batch_size: int = 16
    """Pairs per optimizer step."""
    epochs: float = 1.0
    """Passes over the pairs."""
    beta: float = 0.1
    """Strength of the pull to the reference."""

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt, chosen and rejected."""
        return source.preferences(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add the log-probabilities under the reference."""
        reference = learner.reference_logprobs(groups)
        return [g.with_columns(reference_logprobs=r) for g, r in zip(groups, reference, strict=True)]

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean over the pairs of the step."""
        logratio = batch.sum_tokens(outputs.logprobs - batch["reference_logprobs"])
        best, worst = batch.best_and_worst()
        loss = losses.dpo(logratio[best], logratio[worst], self.beta)
        reward = self.beta * logratio.detach()
        pairs = batch.totals.groups
        return loss.sum() / pairs, {
            "reward_chosen": reward[best].sum() / pairs,
            "reward_rejected": reward[worst].sum() / pairs,
            "accuracy": (reward[best] > reward[worst]).sum() / pairs,
        }
