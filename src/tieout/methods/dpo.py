"""Direct Preference Optimization and its variants: prefer the better completion of each pair, near the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..errors import InputError
from ..groups import best_tokens, decided, general, tail_weights
from ..learner import Learner
from ..losses.preference import DIVERGENCES, PAIR_LOSSES, check_preference
from ..losses.supervised import cross_entropy
from ..source import Source
from ..types import Group
from .checks import check_ranges
from .method import Method, Needs


@dataclass(frozen=True)
class DPO(Method):
    """Direct Preference Optimization. Rafailov et al., 2023, https://arxiv.org/abs/2305.18290."""

    learning_rate: float = 5e-6
    batch_size: int = 16
    """Pairs per optimizer step."""
    beta: float = 0.1
    """Strength of the pull to the reference."""
    loss_type: Literal[
        "sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "exo_pair",
        "discopop", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
    ] = "sigmoid"  # fmt: skip
    """Loss of the two log-ratios; each is a function in `tieout.losses.preference` that names its paper."""
    label_smoothing: float = 0.0
    """Share of pairs believed to be the wrong way round: of sigmoid, sigmoid_norm, robust and exo_pair."""
    discopop_tau: float = 0.05
    """Temperature of discopop's mixture."""
    divergence: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = "reverse_kl"
    """Divergence that keeps the policy near the reference (f-DPO, https://arxiv.org/abs/2309.16240)."""
    divergence_alpha: float = 0.5
    """Of the alpha divergence: towards 0 the reverse KL, 1 the forward KL."""
    ld_alpha: float = 1.0
    """Weight of a completion's tokens past the length of the other (LD-DPO, https://arxiv.org/abs/2409.06411)."""
    rpo_alpha: float = 0.0
    """Weight of the cross entropy of the chosen completions (RPO, https://arxiv.org/abs/2404.19733)."""
    sft_anchor: float = 1.0
    """Weight of the cross entropy of general rows, whose chosen equals rejected: an anchor against forgetting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        spec = PAIR_LOSSES[self.loss_type]
        smooths, has_tau = self.label_smoothing != 0, self.discopop_tau != DPO.discopop_tau
        spec.refuse_unused(self.loss_type, label_smoothing=smooths, discopop_tau=has_tau)
        if self.divergence != "reverse_kl" and not spec.of_margin:
            raise InputError(f"loss_type {self.loss_type!r} takes no divergence but reverse_kl")
        if self.divergence_alpha != 0.5 and self.divergence != "alpha_divergence":
            raise InputError(
                f"divergence_alpha is for divergence 'alpha_divergence', not {self.divergence!r}"
            )
        if self.loss_type == "exo_pair" and self.label_smoothing == 0:
            raise InputError("loss_type 'exo_pair' needs a label_smoothing above 0, such as 0.001")
        check_ranges(self, "dpo")
        check_preference(self.beta, self.label_smoothing)

    @property
    def needs(self) -> Needs:
        """Pairs and the reference. `beta` scales the log-ratios; it is not the weight of a KL term."""
        return Needs(TABLE["dpo"].rows, reference=True, anchors=self.sft_anchor > 0)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Rows with prompt, chosen and rejected."""
        return source.preferences(self.batch_size)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add the log-probabilities under the reference, and with ld_alpha the weights of the tokens."""
        reference = learner.reference_logprobs(groups)
        groups = [g.with_columns(reference_logprobs=r) for g, r in zip(groups, reference, strict=True)]
        if self.ld_alpha != 1:
            groups = [g.with_columns(weights=tail_weights(g, self.ld_alpha)) for g in groups]
        return groups

    def counts(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """General rows and their tokens; with rpo_alpha, the trained tokens of the chosen completions of pairs."""
        chosen = {"best_tokens": best_tokens(list(filter(decided, groups)))} if self.rpo_alpha else {}
        return {**general(groups), **chosen}

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean over the step's pairs, and two SFT terms: means over tokens of the chosen, and of general rows."""
        total, metrics = self.compare(outputs, batch)
        cross = cross_entropy(outputs.logprobs)
        if self.rpo_alpha:
            total = total + self.rpo_alpha * batch.best_token_mean(cross, batch.compared)
        if batch.totals.counts.get("general"):
            anchor = batch.best_token_mean(cross, 1 - batch.compared, "general_tokens")
            total, metrics = total + self.sft_anchor * anchor, {**metrics, "anchor_loss": anchor.detach()}
        return total, metrics

    def compare(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Weighted mean over the pairs of the step; weights are 1 unless a prompt gives several pairs."""
        per_token = outputs.logprobs - batch["reference_logprobs"]
        logratio = batch.sum_tokens(per_token * batch["weights"] if self.ld_alpha != 1 else per_token)
        spec = PAIR_LOSSES[self.loss_type]
        divided = DIVERGENCES[self.divergence](logratio, self.divergence_alpha)
        if spec.per_token:
            divided = divided / batch.sum_tokens(torch.ones_like(per_token)).clamp(min=1)
        best, worst = batch.best_and_worst()
        loss = spec.function(
            divided[best], divided[worst], self.beta, **{o: getattr(self, o) for o in spec.options}
        )
        reward, among, pairs = self.beta * logratio.detach(), batch.compared, batch.num_compared
        return (loss * batch.pair_weights * among).sum() / pairs, {
            "reward_chosen": (reward[best] * among).sum() / pairs,
            "reward_rejected": (reward[worst] * among).sum() / pairs,
            "accuracy": ((reward[best] > reward[worst]) * among).sum() / pairs,
        }
