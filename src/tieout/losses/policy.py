"""Losses of policy-gradient methods: pure functions of tensors, no mean taken.

Shapes: T tokens. Log-probabilities and log-ratios are in nats. The log-ratio may be that of a token, or that of its
whole completion, repeated for each of its tokens: the functions treat both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


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


def cispo(
    logprobs: Tensor, logratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float
) -> Tensor:
    """Clipped importance weights on REINFORCE, eq. 4 of https://arxiv.org/abs/2506.13585: no token loses its gradient.

    Args:
        logprobs: [T] under the policy being trained.
        logratio: [T] of it to the policy that sampled.
        advantages: [T] no gradient.
        epsilon_low: the weight is at least 1 - epsilon_low; 1 sets no lower limit.
        epsilon_high: and at most 1 + epsilon_high.

    Returns:
        [T] -clip(ratio) * A * logprobs; the weight has no gradient.
    """
    weight = logratio.detach().exp().clamp(1 - epsilon_low, 1 + epsilon_high)
    return -weight * advantages * logprobs


def sapo(logratio: Tensor, advantages: Tensor, tau_positive: float, tau_negative: float) -> Tensor:
    """A soft gate in place of the clip: Soft Adaptive Policy Optimization, https://arxiv.org/abs/2511.20347.

    Args:
        logratio: [T] of the policy being trained to the one that sampled.
        advantages: [T] no gradient.
        tau_positive: how fast the gate closes as the ratio leaves 1, where the advantage is above 0.
        tau_negative: the same where it is not; larger is safer, since such tokens push all others up.

    Returns:
        [T] -(4 / tau) * sigmoid(tau * (ratio - 1)) * A: slope -A at ratio 1, as without a gate.
    """
    tau = torch.where(advantages > 0, tau_positive, tau_negative)
    return -torch.sigmoid(tau * (logratio.exp() - 1)) * 4 / tau * advantages


def clipped_value(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error of a value that may not move far in one batch: PPO's, as in its first implementation.

    Args:
        values: [T] of the critic being trained.
        old_values: [T] when the batch was sampled, no gradient.
        returns: [T] what was received, no gradient.
        clip: how far a value counts as moved; infinity is the plain squared error.

    Returns:
        [T] the larger of the errors of the value and of the clipped value.
    """
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)


def entropy_bonus(logprobs: Tensor, logratio: Tensor, entropies: Tensor) -> Tensor:
    """Entropy whose gradient is estimated from the sampled token alone, so that no [T, V] tensor is kept for it.

    From d H = -E[(log p + H) d log p], and E[d log p] = 0: unbiased for tokens of the policy that the log-ratio is
    taken to, whatever the policy is now.

    Args:
        logprobs: [T] under the policy being trained.
        logratio: [T] of it to the policy that sampled, token by token.
        entropies: [T] nats of the distributions that the tokens were sampled from, under the policy being trained.

    Returns:
        [T] nats: the value is the entropy itself, the gradient the estimate.
    """
    weight = -logratio.detach().exp() * (logprobs.detach() + entropies)
    return entropies + weight * (logprobs - logprobs.detach())


def k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """[T] nats, unbiased, of either sign. As a loss its expected gradient is 0: use it in the reward.

    k1, k2 and k3 are those of http://joschu.net/blog/kl-approx.html, on tokens sampled from the policy.
    """
    return logprobs - reference_logprobs


def k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """[T] nats, never negative, biased. As a loss its expected gradient is that of KL(policy || reference)."""
    return 0.5 * (logprobs - reference_logprobs) ** 2


KL: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": kl_from_policy}
"""Name -> estimator of KL(policy || reference), from [T] log-probabilities of policy and reference."""
