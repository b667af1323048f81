"""Losses: pure functions of tensors. They know no model, no batch and no config, and they take no mean.

Shapes: T tokens, P pairs, N completions. Log-probabilities are in nats. A mean belongs to the optimizer step, whose
denominators only `Batch` knows; so gradient accumulation is exact by construction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .preference_losses import dpo

__all__ = ["clipped_policy", "cross_entropy", "dpo", "kl_from_policy"]


def cross_entropy(logprobs: Tensor) -> Tensor:
    """[T] nats: minus the log-probability of the tokens that were written."""
    return -logprobs


def clipped_policy(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float
) -> Tensor:
    """PPO's clipped surrogate, eq. 7 of https://arxiv.org/abs/1707.06347.

    Args:
        logprobs: [T] under the policy being trained.
        old_logprobs: [T] under the policy that sampled, no gradient.
        advantages: [T] no gradient.
        epsilon_low: the probability ratio is clipped to at least 1 - epsilon_low.
        epsilon_high: and to at most 1 + epsilon_high.

    Returns:
        [T] -min(ratio * A, clip(ratio) * A).
    """
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def kl_from_policy(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Estimate KL(policy || reference) from tokens sampled FROM THE POLICY: k3 of http://joschu.net/blog/kl-approx.html.

    Args:
        logprobs: [T] under the policy.
        reference_logprobs: [T] under the reference, no gradient.

    Returns:
        [T] nats, unbiased and never negative: exp(r) - 1 - r with r = reference - policy.
    """
    logratio = reference_logprobs - logprobs
    return torch.expm1(logratio) - logratio
