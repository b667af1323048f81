"""Proximal Policy Optimization: every token gets its own advantage, from a value that is learned alongside the policy.

Policy, reference, value and reward model are adapters of one base, so its memory is about that of one model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from ..advantages import gae, whiten
from ..batch import Batch, Outputs
from ..errors import InputError
from ..groups import equal_parts
from ..learner import Learner
from ..losses.policy import KL, clipped_policy, clipped_value, kl_from_policy
from ..source import Source
from ..types import Completion, Group
from .checks import check_ranges, check_rollouts
from .entropy import Entropy
from .method import Method, Needs, Rollouts

KL_FACTOR = "kl_factor"
"""Key in the learner's memory of the factor that an adaptive coefficient is multiplied by."""


@dataclass(frozen=True)
class PPO(Entropy, Rollouts, Method):
    """Proximal Policy Optimization. https://arxiv.org/abs/1707.06347; for language, https://arxiv.org/abs/1909.08593."""

    learning_rate: float = 1e-6
    batch_size: int = 16
    """Prompts per step."""
    group_size: int = 4
    """Completions per prompt; 1 is enough, more share the prompt's computation."""
    num_ppo_epochs: int = 2
    """Passes over the completions of a step."""
    num_mini_batches: int = 2
    """Optimizer updates in each of those passes; prompts are dealt out at random."""
    mini_batch_size: int = 0
    """Completions per optimizer update, in place of num_mini_batches; a step's completions are a multiple of it."""
    target_kl: float = 0.1
    """Nats per token: once an update finds the policy this far from the one that sampled, the step ends. 0: never."""
    epsilon_low: float = 0.2
    """The probability ratio is clipped to at least 1 - epsilon_low."""
    epsilon_high: float = 0.2
    """The probability ratio is clipped to at most 1 + epsilon_high."""
    gamma: float = 1.0
    """Discount of a token."""
    lam: float = 0.95
    """Of the advantage estimate: 1 trusts what was received, 0 trusts the values."""
    value_coef: float = 0.1
    """Weight of the value's loss."""
    value_clip: float = 0.2
    """How far a value counts as moved in one step; 0: no limit."""
    value_adapter: bool = False
    """The value has an adapter of its own instead of the policy's: one more forward and backward per step."""
    kl_coef: float = 0.05
    """Weight of KL(policy || reference), taken off each token's reward; 0 computes no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """Of that KL; k1 and k3 have the right mean."""
    kl_target: float = 0.0
    """Above 0: kl_coef adapts, so that the KL is this many nats per completion. 0: it stays constant."""
    kl_horizon: int = 10_000
    """Completions in which kl_coef adapts: it changes by at most a fifth of the share that a step is of them."""
    missing_eos_penalty: float = 0.0
    """Taken off the score of a completion that was cut off."""
    standardize_rewards: bool = False
    """Bring the completions' scores to mean 0 and standard deviation 1 in the step, before the KL is taken off."""
    whiten_rewards: bool = False
    """Bring the tokens' rewards to standard deviation 1 in the step; their mean stays."""
    whiten_advantages: bool = True
    """Bring the tokens' advantages to mean 0 and standard deviation 1 in the step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "ppo")
        check_rollouts(self)
        self.check_entropy()
        self._check_batch()
        if self.kl_target and not self.kl_coef:
            raise InputError(
                f"kl_target is {self.kl_target}, but kl_coef is 0: there is nothing that can adapt"
            )

    @property
    def needs(self) -> Needs:
        """Rollouts and a value head; with kl_coef the reference."""
        return replace(
            super().needs,
            reference=bool(self.kl_coef),
            kl_coef="kl_coef" if self.kl_coef else None,
            head="value",
            value_adapter=self.value_adapter,
        )

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Groups sampled from the current policy."""
        return source.rollouts(self.batch_size, self.group_size, self.temperature, self.max_new_tokens)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add, per token: value and KL as sampled, and advantage and return of the rewards with the KL taken off."""
        completions = [c for g in groups for c in g.completions]
        masks = [c.mask for c in completions]
        values = [v for group in learner.values(groups) for v in group]
        kl = self._kl(groups, learner)
        coef = self._coef(kl, learner)
        scores = [s for g in groups for s in self._scores(g)]
        if self.standardize_rewards:
            (scores,) = whiten([scores], [[True] * len(scores)])
        rewards = [_rewards(c, s, coef, k) for c, s, k in zip(completions, scores, kl, strict=True)]
        if self.whiten_rewards:
            rewards = whiten(rewards, masks, shift=False)
        estimates = [
            gae(r, v, m, self.gamma, self.lam) for r, v, m in zip(rewards, values, masks, strict=True)
        ]
        advantages = [a for a, _ in estimates]
        if self.whiten_advantages:
            advantages = whiten(advantages, masks)
        columns = {"values": values, "kl": kl, "advantages": advantages, "returns": [r for _, r in estimates]}
        return self.with_entropy_coef(_with_flat_columns(groups, columns))

    def updates(self, groups: list[Group]) -> Generator[list[Group], Mapping[str, float], None]:
        """The groups of each optimizer update, until they are done or the policy has moved past `target_kl`."""
        for epoch in range(self.num_ppo_epochs):
            order = random.Random(epoch).sample(groups, len(groups))
            for part in self._mini_batches(order):
                metrics = yield part
                if self.target_kl and metrics.get("policy_kl", 0.0) > self.target_kl:
                    return

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Clipped surrogate and clipped value error, averaged over the tokens."""
        assert outputs.values is not None, "annotate would have said that there is no value head"
        old, returns = batch["sampler_logprobs"], batch["returns"]
        policy = clipped_policy(
            outputs.logprobs, old, batch["advantages"], self.epsilon_low, self.epsilon_high
        )
        value = clipped_value(outputs.values, batch["values"], returns, self.value_clip or math.inf)
        drift = (outputs.logprobs - old).detach()
        clipped = (drift.exp() > 1 + self.epsilon_high) | (drift.exp() < 1 - self.epsilon_low)
        metrics = {
            "mismatch": drift.abs(),
            "clipped": clipped.float(),
            "policy_kl": kl_from_policy(old, outputs.logprobs.detach()),
            "value_loss": value.detach(),
            "return": returns,
        }
        if self.kl_coef:
            metrics["kl"] = batch["kl"]
        total = batch.token_mean(policy + self.value_coef * value)
        total = self.less_entropy(total, outputs, outputs.logprobs - old, batch)
        return total, {name: batch.token_mean(x) for name, x in metrics.items()}

    def _check_batch(self) -> None:
        """InputError: the completions of a step cannot be divided, or standardised, as asked."""
        size, count = self.mini_batch_size, self.batch_size * self.group_size
        shown = (
            f"a step has {count} completions (batch_size {self.batch_size} * group_size {self.group_size})"
        )
        if size and count % size:
            raise InputError(f"mini_batch_size is {size}, but {shown}, which is no multiple of it")
        if size and self.num_mini_batches != PPO.num_mini_batches:
            raise InputError(
                f"mini_batch_size is {size} and num_mini_batches {self.num_mini_batches}: give one of the two"
            )
        if self.standardize_rewards and count < 2:
            raise InputError(f"standardize_rewards needs at least 2 completions to compare, and {shown}")

    def _mini_batches(self, groups: Sequence[Group]) -> list[list[Group]]:
        """One pass over these groups, in their order. By count of completions a group lies in two parts where a part
        ends inside it; where some completions have no score, the parts are equally smaller."""
        if not self.mini_batch_size:
            parts = min(self.num_mini_batches, len(groups))
            return [list(groups[part::parts]) for part in range(parts)]
        total = sum(len(g.completions) for g in groups)
        return equal_parts(groups, max(1, round(total / self.mini_batch_size)))

    def _kl(self, groups: list[Group], learner: Learner) -> list[list[float]]:
        """[N][C] estimates, 0 where nothing is trained."""
        completions = [c for g in groups for c in g.completions]
        if not self.kl_coef:
            return [[0.0] * len(c.tokens) for c in completions]
        reference = [r for group in learner.reference_logprobs(groups) for r in group]
        estimate = KL[self.kl_estimator]
        return [
            (estimate(torch.tensor(c.logprobs), torch.tensor(r)) * torch.tensor(c.mask)).tolist()
            for c, r in zip(completions, reference, strict=True)
        ]

    def _coef(self, kl: list[list[float]], learner: Learner) -> float:
        """The coefficient of this step. Where it adapts, its next value is remembered: section 2.2 of the paper for
        language: it grows by the relative error of the KL, clipped to a fifth."""
        if not self.kl_target:
            return self.kl_coef
        factor = learner.memory.get(KL_FACTOR, 1.0)
        error = max(-0.2, min(0.2, fmean(map(sum, kl)) / self.kl_target - 1))
        learner.memory[KL_FACTOR] = factor * (1 + error * min(1.0, len(kl) / self.kl_horizon))
        return self.kl_coef * factor

    def _scores(self, group: Group) -> list[float]:
        """[K] what the reward gave, less the penalty of those that were cut off."""
        if group.scores is None:
            raise InputError("these groups have no scores: PPO needs a task with a reward")
        cut_off = [c.finish_reason == "length" for c in group.completions]
        return [s - self.missing_eos_penalty * cut for s, cut in zip(group.scores, cut_off, strict=True)]


def _rewards(completion: Completion, score: float, coef: float, kl: list[float]) -> list[float]:
    """[C] the KL's penalty on every trained token, and the score on the last of them."""
    rewards = [-coef * k for k in kl]
    last = max((t for t, trained in enumerate(completion.mask) if trained), default=None)
    if last is not None:
        rewards[last] += score
    return rewards


def _with_flat_columns(groups: list[Group], columns: Mapping[str, Sequence[Any]]) -> list[Group]:
    """Columns of all completions [N], dealt out to the groups they belong to."""
    result, start = [], 0
    for group in groups:
        end = start + len(group.completions)
        result.append(
            group.with_columns(**{name: list(values[start:end]) for name, values in columns.items()})
        )
        start = end
    return result
