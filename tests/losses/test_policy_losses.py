"""By enumeration of a vocabulary of three: what an estimator is in expectation is summed, not sampled."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tieout.losses.policy import KL, cispo, clipped_value, entropy_bonus, sapo

POLICY = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
OLD = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)


def slope(value: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient of a number by the logits, at POLICY; `value` gets its log-probabilities [3]."""
    theta = POLICY.log().clone().requires_grad_()
    return torch.autograd.grad(value(theta.log_softmax(0)), theta)[0]


def exact_kl(logprobs: Tensor) -> Tensor:
    return (logprobs.exp() * (logprobs - REFERENCE.log())).sum()


def reverse_kl(logprobs: Tensor) -> Tensor:
    return (REFERENCE * (REFERENCE.log() - logprobs)).sum()


def exact_entropy(logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs).sum()


@pytest.mark.parametrize(("name", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_which_kl_estimates_have_the_right_mean(name: str, unbiased: bool) -> None:
    mean = (POLICY * KL[name](POLICY.log(), REFERENCE.log())).sum()
    assert torch.isclose(mean, exact_kl(POLICY.log()), rtol=1e-12) == unbiased
    assert mean > 0


@pytest.mark.parametrize("name", ["k2", "k3"])
def test_k2_and_k3_are_never_negative_and_zero_only_where_the_two_agree(name: str) -> None:
    assert (KL[name](POLICY.log(), REFERENCE.log()) > 0).all()
    assert not KL[name](POLICY.log(), POLICY.log()).any()
    assert (KL["k1"](POLICY.log(), REFERENCE.log()) < 0).any()


@pytest.mark.parametrize(
    ("name", "pulls_along"),
    [("k1", lambda logprobs: 0 * logprobs.sum()), ("k2", exact_kl), ("k3", reverse_kl)],
)
def test_as_a_loss_k1_pulls_nowhere_k2_along_the_kl_and_k3_along_the_reverse_kl(
    name: str, pulls_along: Callable[[Tensor], Tensor]
) -> None:
    found = slope(lambda logprobs: (POLICY * KL[name](logprobs, REFERENCE.log())).sum())
    assert torch.allclose(found, slope(pulls_along), atol=1e-12)


@pytest.mark.parametrize(("name", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_times_the_ratio_k1_and_k3_have_value_and_gradient_of_the_kl_off_policy_too(
    name: str, unbiased: bool
) -> None:
    """Tokens are drawn from OLD, the policy has moved on: sum over OLD of ratio * estimate."""

    def corrected(logprobs: Tensor) -> Tensor:
        ratio = (logprobs - OLD.log()).exp()
        return (OLD * ratio * KL[name](logprobs, REFERENCE.log())).sum()

    assert torch.isclose(corrected(POLICY.log()), exact_kl(POLICY.log())) == unbiased
    assert torch.allclose(slope(corrected), slope(exact_kl), atol=1e-12) == unbiased


@pytest.mark.parametrize("sampler", [POLICY, OLD], ids=["on policy", "off policy"])
def test_the_entropy_bonus_has_the_value_and_in_expectation_the_gradient_of_the_entropy(
    sampler: Tensor,
) -> None:
    def estimate(logprobs: Tensor) -> Tensor:
        entropies = exact_entropy(logprobs).detach().expand(3)
        bonus = entropy_bonus(logprobs, logprobs - sampler.log(), entropies)
        assert torch.allclose(bonus, entropies)
        return (sampler * bonus).sum()

    found = slope(estimate)
    assert found.norm() > 0.01
    assert torch.allclose(found, slope(exact_entropy), atol=1e-12)


def test_reinforce_with_cispos_weights_is_the_gradient_of_expected_reward_while_no_weight_is_clipped() -> (
    None
):
    reward = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64)
    exact = slope(lambda logprobs: (logprobs.exp() * reward).sum())

    def estimate(high: float) -> Tensor:
        return -slope(lambda lp: (OLD * cispo(lp, lp - OLD.log(), reward, 1.0, high)).sum())

    assert torch.allclose(estimate(4.0), exact, atol=1e-12)
    assert not torch.allclose(estimate(0.1), exact, atol=1e-3)


def test_cispo_clips_the_weight_but_keeps_the_gradient() -> None:
    logprobs = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    old = logprobs.detach() - torch.tensor([math.log(3.0), 0.0, math.log(0.1)])
    cispo(logprobs, logprobs - old, torch.ones(3), 0.5, 1.0).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-2.0, -1.0, -0.5])


def test_sapo_has_slope_one_where_policies_agree_and_closes_on_both_sides_faster_for_bad_tokens() -> None:
    def gate(logratio: float, advantage: float) -> float:
        x = torch.tensor([logratio], dtype=torch.float64, requires_grad=True)
        sapo(x, torch.tensor([advantage], dtype=torch.float64), 1.0, 2.0).sum().backward()
        assert x.grad is not None
        return -x.grad.item() / (advantage * math.exp(logratio))  # per unit of the ratio

    assert gate(0.0, 1.0) == pytest.approx(1)
    assert gate(0.0, -1.0) == pytest.approx(1)
    for far in (-1.0, 1.0):
        assert 0 < gate(far, -1.0) < gate(far, 1.0) < 1
    assert gate(3.0, 1.0) < 1e-6


def test_a_clipped_value_error_takes_the_worse_of_the_two() -> None:
    old, returns = torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, 0.1])
    values = torch.tensor([0.1, 0.9, 0.9, 0.5], requires_grad=True)
    loss = clipped_value(values, old, returns, 0.2)
    # Inside; a step too far in the right direction counts as 0.2; in the wrong one it counts in full.
    assert loss.tolist() == pytest.approx([0.405, 0.32, 1.805, 0.08])
    loss.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([-0.9, 0.0, 1.9, 0.4])
    plain = clipped_value(values, old, returns, math.inf)
    assert plain.tolist() == pytest.approx([0.405, 0.005, 1.805, 0.08])
