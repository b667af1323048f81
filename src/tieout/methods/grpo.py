"""Group Relative Policy Optimization: sample K completions per prompt, raise those above the group's mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..advantages import group_zscore
from ..batch import Batch, Outputs
from ..learner import Learner
from ..losses import clipped_policy, kl_from_policy
from ..source import Source
from ..types import Group


@dataclass(frozen=True)
class GRPO:
    """Shao et al., 2024, https://arxiv.org/abs/2402.03300."""

    learning_rate: float = 1e-6
    """For LoRA; a tenth of it for full fine-tuning."""
    batch_size: int = 8
    """Prompts per optimizer step."""
    epochs: float = 1.0
    """Passes over the prompts."""
    group_size: int = 8
    """Completions per prompt (K)."""
    temperature: float = 1.0
    """Of the rollouts, and of the log-probabilities that are trained."""
    max_new_tokens: int = 256
    """Completions are cut off after this many tokens."""
    epsilon_low: float = 0.2
    """The probability ratio is clipped to at least 1 - epsilon_low."""
    epsilon_high: float = 0.2
    """The probability ratio is clipped to at most 1 + epsilon_high."""
    beta: float = 0.0
    """Weight of KL(policy || reference); 0 computes no reference."""

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(
                f"group_size is {self.group_size}; a group needs at least 2 completions to compare"
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; rollouts need a temperature above 0")

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Groups sampled from the current policy."""
        return source.rollouts(self.batch_size, self.group_size, self.temperature, self.max_new_tokens)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add advantages, and with beta the log-probabilities under the reference."""
        groups = [g.with_columns(advantages=group_zscore(g.scores or [])) for g in groups]
        if self.beta:
            reference = learner.reference_logprobs(groups)
            groups = [g.with_columns(reference_logprobs=r) for g, r in zip(groups, reference, strict=True)]
        return groups

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Clipped surrogate, averaged per completion and then over completions, as in the paper's eq. 3."""
        old = batch["logprobs"]
        advantages = batch.per_token(batch["advantages"])
        loss = clipped_policy(outputs.logprobs, old, advantages, self.epsilon_low, self.epsilon_high)
        drift = (outputs.logprobs - old).detach()
        clipped = (drift.exp() > 1 + self.epsilon_high) | (drift.exp() < 1 - self.epsilon_low)
        metrics = {"mismatch": batch.token_mean(drift.abs()), "clipped": batch.token_mean(clipped.float())}
        if self.beta:
            kl = kl_from_policy(outputs.logprobs, batch["reference_logprobs"])
            loss = loss + self.beta * kl
            metrics["kl"] = batch.token_mean(kl.detach())
        return batch.sequence_mean(loss), metrics
