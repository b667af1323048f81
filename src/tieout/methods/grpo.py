"""Group Relative Policy Optimization: sample K completions per prompt, raise those above the group's mean.

Advantage, policy loss and aggregation are three independent choices; what the literature calls Dr. GRPO, DAPO, GSPO,
CISPO and RLOO are choices with a name, in `grpo_family.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from ..advantages import ADVANTAGES, batch_zscore, overlong_penalty
from ..batch import Batch, Outputs
from ..config.method_table import TABLE
from ..errors import InputError
from ..groups import decided
from ..learner import Learner
from ..learner.models.reference import refresh_reference
from ..losses.policy import KL, cispo, clipped_policy, sapo
from ..source import Source
from ..types import Completion, Group
from .checks import at_least, check_ranges, check_rollouts
from .entropy import Entropy
from .method import Method, Needs, Rollouts

Advantage = Literal["zscore", "mean", "leave_one_out", "maxrl", "batch_zscore"]
PolicyLoss = Literal["clip", "gspo", "sequence", "cispo", "sapo"]
Aggregation = Literal["sequence", "token", "constant"]
Estimator = Literal["k1", "k2", "k3"]

SIXTEEN_BITS_CAP = 2.0
"""`tis_cap` over a model in 16 bits."""


@dataclass(frozen=True)
class GRPO(Entropy, Rollouts, Method):
    """Group Relative Policy Optimization. Shao et al., 2024, https://arxiv.org/abs/2402.03300."""

    learning_rate: float = 1e-6
    batch_size: int = 8
    """Prompts per step."""
    advantage: Advantage = "zscore"
    """From a group's scores: (score - mean) / std; score - mean (Dr. GRPO); score - mean of the others (RLOO);
    (score - mean) / mean (MaxRL, for scores of 0 and 1); (score - mean) / std of the whole batch."""
    policy_loss: PolicyLoss = "clip"
    """PPO's clip of each token's ratio; of the ratio of the whole completion, per token (GSPO) or not (RLOO); clipped
    weights that keep every gradient (CISPO); a soft gate (SAPO)."""
    aggregation: Aggregation = "sequence"
    """Mean per completion, then over completions; mean over all tokens of the step (DAPO); sum of the tokens over
    completions * max_new_tokens (Dr. GRPO)."""
    epsilon_low: float = 0.2
    """The probability ratio is clipped to at least 1 - epsilon_low."""
    epsilon_high: float = 0.2
    """The probability ratio is clipped to at most 1 + epsilon_high."""
    tau_positive: float = 1.0
    """SAPO: how fast the gate closes where the advantage is above 0."""
    tau_negative: float = 1.05
    """SAPO: the same where it is below."""
    beta: float = 0.0
    """Weight of KL(policy || reference); 0 computes no reference."""
    kl_estimator: Estimator = "k3"
    """Of the KL, per token: k1 and k3 have the right mean; as a loss k2 alone has the right gradient."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Whether the KL is a term of the loss, or is taken off each completion's score (as a sum over its tokens)."""
    kl_correction: bool = False
    """Multiply the KL in the loss by the probability ratio: then k1 and k3 have the right gradient too."""
    tis_cap: float | None = None
    """Above 0: ratios are to the learner's own probabilities, and the loss of a token is weighted by how likely it is
    for the learner over the sampler, at most this much (truncated importance sampling). For samplers that compute
    otherwise, such as vLLM. One more forward where `updates_per_batch` is above 1. Left out: 2 in 16 bits, where the
    two round differently, else 0."""
    updates_per_batch: int = 1
    """Optimizer steps on the same completions; from the second on the clip matters."""
    dynamic_sampling: bool = False
    """Replace groups whose scores are all equal by groups of later prompts (DAPO)."""
    mask_cut_off: bool = False
    """Do not train on completions that were cut off; they still count in their group's mean."""
    overlong_share: float = 0.0
    """Soft overlong punishment: over the last share of max_new_tokens the score falls by up to 1 (longest turn)."""
    reference_steps: int = 0
    """The reference becomes the policy every so many steps; 0: it stays what it was at step 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rollouts(self, TABLE["grpo"].group_size)
        check_ranges(self, "grpo")
        if self.tis_cap is not None:
            at_least(0, self, "tis_cap")
        if self.beta and self.kl_in == "loss" and self.kl_estimator == "k1" and not self.kl_correction:
            raise InputError(
                "kl_estimator='k1' as a loss pulls nowhere: its expected gradient is 0. Take k2 or k3, "
                "kl_in='reward', or kl_correction=True"
            )
        if self.advantage == "maxrl" and (self.overlong_share or (self.beta and self.kl_in == "reward")):
            raise InputError(
                "advantage='maxrl' needs scores of 0 or more, and overlong_share or kl_in='reward' takes something off "
                "them; set overlong_share=0 and kl_in='loss'"
            )
        if self.kl_correction and self.kl_in == "reward":
            raise InputError(
                "kl_correction is of the KL in the loss; with kl_in='reward' it would do nothing"
            )
        if self.reference_steps and not self.beta:
            raise InputError(
                f"reference_steps is {self.reference_steps}, but beta is 0: nothing is compared with a reference"
            )
        self.check_entropy()

    @property
    def needs(self) -> Needs:
        """Rollouts; with beta the reference."""
        return replace(super().needs, reference=bool(self.beta), kl_coef="beta" if self.beta else None)

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Groups sampled from the current policy."""
        return source.rollouts(
            self.batch_size, self.group_size, self.temperature, self.max_new_tokens, keep=self._teaches
        )

    def cap(self, learner: Learner) -> float:
        """`tis_cap`, or what it is for this learner where it was left out."""
        if self.tis_cap is not None:
            return self.tis_cap
        return SIXTEEN_BITS_CAP if learner.model.dtype != torch.float32 else 0.0

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add advantages; with beta the log-probabilities under the reference; with a cap it, and the log-probabilities
        of the learner where later updates need them."""
        if self.reference_steps and learner.step and learner.step % self.reference_steps == 0:
            refresh_reference(learner.model)
        if self.beta:
            reference = learner.reference_logprobs(groups)
            groups = [g.with_columns(reference_logprobs=r) for g, r in zip(groups, reference, strict=True)]
        if cap := self.cap(learner):
            groups = [g.with_columns(tis_cap=[cap] * len(g.completions)) for g in groups]
            if self.updates_per_batch > 1:
                own = learner.logprobs(groups)
                groups = [g.with_columns(old_logprobs=o) for g, o in zip(groups, own, strict=True)]
        groups = self.with_entropy_coef(groups)
        scores = [self._shaped(g) for g in groups]
        if self.advantage == "batch_zscore":
            advantages = batch_zscore(scores)
        else:
            advantages = [ADVANTAGES[self.advantage](s) for s in scores]
        groups = [g.with_columns(advantages=a) for g, a in zip(groups, advantages, strict=True)]
        return [_without_cut_off(g) for g in groups] if self.mask_cut_off else groups

    def updates(self, groups: list[Group]) -> Generator[list[Group], Mapping[str, float], None]:
        """The groups of each optimizer update."""
        for _ in range(self.updates_per_batch):
            yield groups

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The policy loss, weighted, with its KL and entropy terms."""
        logprobs, sampler = outputs.logprobs, batch["sampler_logprobs"]
        corrected = "tis_cap" in batch.groups[0].columns
        old = sampler
        if corrected:  # the policy before the first update of the step, which may be this one
            old = batch["old_logprobs"] if self.updates_per_batch > 1 else logprobs.detach()
        logratio, advantages = logprobs - old, batch.per_token(batch["advantages"])
        metrics = {"mismatch": batch.token_mean((logprobs - sampler).detach().abs())}
        loss, clipped = self._policy(logprobs, logratio, advantages, batch)
        metrics["clipped"] = batch.token_mean(clipped)
        if corrected:
            weight, cap = (old - sampler).exp(), batch.per_token(batch["tis_cap"])
            loss = loss * weight.minimum(cap)
            metrics["tis_clipped"] = batch.token_mean((weight > cap).float())
        if self.beta:
            kl = KL[self.kl_estimator](logprobs, batch["reference_logprobs"])
            metrics["kl"] = batch.token_mean(kl.detach())
            if self.kl_in == "loss":
                loss = loss + self.beta * (kl * logratio.exp() if self.kl_correction else kl)
        return self.less_entropy(self._aggregate(loss, batch), outputs, logratio, batch), metrics

    def _policy(
        self, logprobs: Tensor, logratio: Tensor, advantages: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """[T] loss, [T] 1 where the ratio is past a limit."""
        low, high = self.epsilon_low, self.epsilon_high
        if self.policy_loss in ("gspo", "sequence"):
            of_completion = batch.sum_tokens(logratio)
            if self.policy_loss == "gspo":  # eq. 7 of https://arxiv.org/abs/2507.18071
                of_completion = of_completion / batch.sum_tokens(torch.ones_like(logratio)).clamp(min=1)
            logratio = batch.per_token(of_completion)
        ratio = logratio.detach().exp()
        clipped = ((ratio > 1 + high) | (ratio < 1 - low)).float()
        if self.policy_loss == "sapo":
            return sapo(logratio, advantages, self.tau_positive, self.tau_negative), torch.zeros_like(clipped)
        if self.policy_loss == "cispo":
            return cispo(logprobs, logratio, advantages, low, high), clipped
        return clipped_policy(logratio, torch.zeros_like(logratio), advantages, low, high), clipped

    def _aggregate(self, loss: Tensor, batch: Batch) -> Tensor:
        if self.aggregation == "sequence":
            return batch.sequence_mean(loss)
        if self.aggregation == "token":
            return batch.token_mean(loss)
        return batch.sum_tokens(loss).sum() / (batch.totals.completions * self.max_new_tokens)

    def _teaches(self, group: Group) -> bool:
        return not self.dynamic_sampling or decided(group)

    def _shaped(self, group: Group) -> list[float]:
        """[K] scores with what is taken off them."""
        if group.scores is None:
            raise InputError(
                "these groups have no scores: a task with a reward is needed to compare completions"
            )
        scores = list(group.scores)
        if self.overlong_share:
            buffer = max(1, round(self.overlong_share * self.max_new_tokens))
            lengths = [_longest_turn(c) for c in group.completions]
            penalties = [overlong_penalty(length, self.max_new_tokens, buffer) for length in lengths]
            scores = [s + p for s, p in zip(scores, penalties, strict=True)]
        if self.beta and self.kl_in == "reward":
            for k, (c, reference) in enumerate(
                zip(group.completions, group.columns["reference_logprobs"], strict=True)
            ):
                policy, other = torch.tensor(_trained(c, c.logprobs)), torch.tensor(_trained(c, reference))
                scores[k] -= self.beta * KL[self.kl_estimator](policy, other).sum().item()
        return scores


def _trained(completion: Completion, values: list[float] | None) -> list[float]:
    """The values of the tokens that are trained."""
    return [x for x, trained in zip(values or [], completion.mask, strict=bool(values)) if trained]


def _longest_turn(completion: Completion) -> int:
    """Tokens that the policy wrote in one go: `max_new_tokens` is a limit on each turn."""
    return max((sum(1 for _ in own) for trained, own in groupby(completion.mask) if trained), default=0)


def _without_cut_off(group: Group) -> Group:
    """Completions that were cut off keep their place, but none of their tokens is trained."""
    masked = [
        replace(c, mask=[False] * len(c.mask)) if c.finish_reason == "length" else c
        for c in group.completions
    ]
    return replace(group, completions=masked)
