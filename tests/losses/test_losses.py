from __future__ import annotations

import itertools
import math

import pytest
import torch

from tieout.advantages import group_mean
from tieout.losses.policy import clipped_policy, kl_from_policy
from tieout.losses.preference import dpo
from tieout.losses.supervised import cross_entropy

POLICY = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)


def test_kl_estimate_is_exact_in_expectation_under_the_policy_and_never_negative() -> None:
    """Enumerate a vocabulary of three: sum of p * estimate = sum of p * log(p / q)."""
    estimate = kl_from_policy(POLICY.log(), REFERENCE.log())
    exact = sum(p * math.log(p / q) for p, q in zip(POLICY.tolist(), REFERENCE.tolist(), strict=True))
    assert (POLICY * estimate).sum().item() == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(0.5 * math.log(2.5) + 0.3 * math.log(1.5) - 0.2 * math.log(3))
    assert (estimate > 0).all()
    assert not kl_from_policy(POLICY.log(), POLICY.log()).any()
    # The reverse estimator (r = policy - reference inside the exponent) would be something else.
    assert (POLICY * kl_from_policy(REFERENCE.log(), POLICY.log())).sum().item() != pytest.approx(
        exact, rel=0.1
    )


def test_the_gradient_of_the_kl_estimate_is_that_of_the_other_kl() -> None:
    """Worth knowing, and so pinned down: as a penalty it pulls along the gradient of KL(reference || policy)."""
    theta = POLICY.log().clone().requires_grad_()
    logprobs = theta.log_softmax(0)
    (found,) = torch.autograd.grad((POLICY * kl_from_policy(logprobs, REFERENCE.log())).sum(), theta)
    other = (REFERENCE * (REFERENCE.log() - theta.log_softmax(0))).sum()
    (expected,) = torch.autograd.grad(other, theta)
    assert torch.allclose(found, expected, atol=1e-12)
    exact = (theta.softmax(0) * (theta.log_softmax(0) - REFERENCE.log())).sum()
    assert not torch.allclose(found, torch.autograd.grad(exact, theta)[0], atol=0.01)


def test_kl_estimate_stays_exact_for_close_policies_in_single_precision() -> None:
    drift = torch.tensor([1e-4, -3e-4])
    estimate = kl_from_policy(torch.tensor([-2.0, -2.0]) + drift, torch.tensor([-2.0, -2.0]))
    assert estimate.tolist() == pytest.approx([5e-9, 4.5e-8], rel=0.05)


def test_policy_gradient_with_the_mean_baseline_is_the_gradient_of_expected_reward() -> None:
    """On-policy, E[gradient of the clipped surrogate with score - mean] = (K - 1) / K of the exact gradient.

    The group's own score is part of its baseline, hence the factor (RLOO's leave-one-out has none). All 3^K groups are
    enumerated, with their probabilities.
    """
    reward = [1.0, 0.2, -0.5]
    theta = POLICY.log().clone().requires_grad_()
    expected = (theta.softmax(0) * torch.tensor(reward, dtype=torch.float64)).sum()
    (exact,) = torch.autograd.grad(expected, theta)
    for size in (2, 3):
        total = torch.zeros(3, dtype=torch.float64)
        for group in itertools.product(range(3), repeat=size):
            logprobs = theta.log_softmax(0)[list(group)]
            advantages = torch.tensor(group_mean([reward[t] for t in group]), dtype=torch.float64)
            loss = clipped_policy(logprobs, logprobs.detach(), advantages, 0.2, 0.2).mean()
            (found,) = torch.autograd.grad(-loss, theta)
            total += math.prod(POLICY[t].item() for t in group) * found
        assert torch.allclose(total, exact * (size - 1) / size, atol=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.0, 1.0, True),
        (1.3, 1.0, False),  # already likelier than the clip allows: no push further
        (1.3, -1.0, True),  # too likely and bad: must come back
        (0.7, 1.0, True),
        (0.7, -1.0, False),
        (1.15, 1.0, True),  # inside
        (0.85, -1.0, True),
    ],
)
def test_clipping_stops_only_steps_that_leave_the_trust_region_further(
    ratio: float, advantage: float, moves: bool
) -> None:
    old = torch.tensor([-1.0])
    logprobs = (old + math.log(ratio)).requires_grad_()
    clipped_policy(logprobs, old, torch.tensor([advantage]), 0.2, 0.2).sum().backward()
    assert logprobs.grad is not None
    assert bool(logprobs.grad.abs() > 1e-6) == moves
    if moves:
        assert torch.sign(logprobs.grad) == -math.copysign(1, advantage)


def test_the_two_clip_limits_are_two() -> None:
    old = torch.zeros(2)
    logprobs = torch.log(torch.tensor([1.25, 0.75])).requires_grad_()
    clipped_policy(logprobs, old, torch.tensor([1.0, -1.0]), 0.2, 0.28).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad[0] != 0  # 1.25 < 1.28
    assert logprobs.grad[1] == 0  # 0.75 < 0.80


def test_dpo_is_ln_2_where_policy_and_reference_agree_and_falls_as_the_chosen_gains() -> None:
    agree = torch.tensor([0.0, 1.7], requires_grad=True)
    loss = dpo(agree, agree.detach(), beta=0.3)
    assert loss.tolist() == pytest.approx([math.log(2)] * 2)
    (slope,) = torch.autograd.grad(loss.sum(), agree)
    assert slope.tolist() == pytest.approx([-0.15] * 2)  # -beta * sigmoid(0)
    margins = torch.linspace(-50, 50, 21)
    curve = dpo(margins, torch.zeros(21), beta=1.0)
    assert (curve.diff() < 0).all()
    assert curve.isfinite().all()
    assert torch.allclose(
        curve - curve.flip(0), -margins, atol=1e-4
    )  # preference and its opposite sum to one


def test_dpo_is_the_bradley_terry_likelihood_of_the_implied_reward() -> None:
    """The optimum on data from a known preference rate has that rate: minimise over the margin by enumeration."""
    rate = 0.8
    margins = torch.linspace(-5, 5, 10_001, dtype=torch.float64)
    zero = torch.zeros_like(margins)
    risk = rate * dpo(margins, zero, 0.5) + (1 - rate) * dpo(zero, margins, 0.5)
    best = margins[risk.argmin()].item()
    assert 1 / (1 + math.exp(-0.5 * best)) == pytest.approx(rate, abs=1e-3)


def test_cross_entropy_of_certain_and_uniform_tokens() -> None:
    assert cross_entropy(torch.tensor([0.0, -math.log(7)])).tolist() == pytest.approx([0.0, math.log(7)])
