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
from ..learner import Learner
from ..losses.policy import KL, clipped_policy, clipped_value, kl_from_policy
from ..source import Source
from ..types import Completion, Group
from .checks import at_least, check_rollouts
from .method import Method, Needs, Rollouts

KL_FACTOR = "kl_factor"
"""Key in the learner's memory of the factor that an adaptive coefficient is multiplied by."""


@dataclass(frozen=True)
class PPO(Rollouts, Method):
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
    reward_model: str = ""
    """Folder of a reward model's adapter on the same base, which then scores completions; empty: the task's reward."""
    whiten_rewards: bool = False
    """Bring the tokens' rewards to standard deviation 1 in the step; their mean stays."""
    whiten_advantages: bool = True
    """Bring the tokens' advantages to mean 0 and standard deviation 1 in the step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "num_ppo_epochs", "num_mini_batches", "kl_horizon")
        at_least(0, self, "epsilon_low", "epsilon_high", "value_clip", "kl_coef", "kl_target", "target_kl")
        check_rollouts(self)
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
            reward_model=self.reward_model,
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
        scores = [s for g in groups for s in _scores(g)]
        rewards = [self._rewards(c, s, coef, k) for c, s, k in zip(completions, scores, kl, strict=True)]
        if self.whiten_rewards:
            rewards = whiten(rewards, masks, shift=False)
        estimates = [
            gae(r, v, m, self.gamma, self.lam) for r, v, m in zip(rewards, values, masks, strict=True)
        ]
        advantages = [a for a, _ in estimates]
        if self.whiten_advantages:
            advantages = whiten(advantages, masks)
        columns = {"values": values, "kl": kl, "advantages": advantages, "returns": [r for _, r in estimates]}
        return _with_flat_columns(groups, columns)

    def updates(self, groups: list[Group]) -> Generator[list[Group], Mapping[str, float], None]:
        """The groups of each optimizer update, until they are done or the policy has moved past `target_kl`."""
        parts = min(self.num_mini_batches, len(groups))
        for epoch in range(self.num_ppo_epochs):
            order = random.Random(epoch).sample(groups, len(groups))
            for part in range(parts):
                metrics = yield order[part::parts]
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
        return batch.token_mean(policy + self.value_coef * value), {
            name: batch.token_mean(x) for name, x in metrics.items()
        }

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

    def _rewards(self, completion: Completion, score: float, coef: float, kl: list[float]) -> list[float]:
        """[C] the KL's penalty on every trained token, and the score on the last of them."""
        rewards = [-coef * k for k in kl]
        if completion.finish_reason == "length":
            score -= self.missing_eos_penalty
        last = max((t for t, trained in enumerate(completion.mask) if trained), default=None)
        if last is not None:
            rewards[last] += score
        return rewards


def _scores(group: Group) -> list[float]:
    if group.scores is None:
        raise InputError("these groups have no scores: PPO needs a task with a reward")
    return group.scores


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
