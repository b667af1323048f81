"""Divergences from a teacher: by enumeration in plain numbers, their limits, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tieout.losses.distillation import generalized_jsd, top_forward_kl

LOGITS = st.lists(st.floats(-8, 8), min_size=5, max_size=5)

DISTINCT = st.lists(st.floats(-8, 8), min_size=5, max_size=5, unique_by=lambda x: round(x, 2))
"""Without ties, of which any token may be among the first."""


def distribution(logits: Sequence[float]) -> list[float]:
    total = math.fsum(map(math.exp, logits))
    return [math.exp(x) / total for x in logits]


def kl(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(p * math.log(p / q) for p, q in zip(one, other, strict=True) if p > 0)


def logprobs(logits: Sequence[float]) -> torch.Tensor:
    return torch.tensor([logits], dtype=torch.float64).log_softmax(-1)


@given(LOGITS, LOGITS, st.sampled_from([0.1, 0.5, 0.9]))
def test_jsd_is_that_of_every_token_by_hand(student: list[float], teacher: list[float], beta: float) -> None:
    q, p = distribution(student), distribution(teacher)
    mixture = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    found = generalized_jsd(logprobs(student), logprobs(teacher), beta).item()
    assert found == pytest.approx(beta * kl(p, mixture) + (1 - beta) * kl(q, mixture), abs=1e-9)
    assert -1e-12 <= found <= math.log(2)


@given(LOGITS, LOGITS)
def test_the_ends_of_beta_are_the_two_kls_and_the_limits_of_the_jsd(
    student: list[float], teacher: list[float]
) -> None:
    q, p = distribution(student), distribution(teacher)
    mine, theirs = logprobs(student), logprobs(teacher)
    assert generalized_jsd(mine, theirs, 0.0).item() == pytest.approx(kl(p, q), abs=1e-9)
    assert generalized_jsd(mine, theirs, 1.0).item() == pytest.approx(kl(q, p), abs=1e-9)
    near = 1e-7
    assert generalized_jsd(mine, theirs, near).item() / near == pytest.approx(kl(p, q), rel=0.05, abs=1e-3)


@given(LOGITS, DISTINCT, st.integers(1, 4))
def test_the_top_kl_merges_all_other_tokens_into_one(
    student: list[float], teacher: list[float], top_k: int
) -> None:
    q, p = distribution(student), distribution(teacher)
    top = sorted(range(5), key=lambda i: -p[i])[:top_k]
    merged = [[*(x[i] for i in top), max(1 - sum(x[i] for i in top), 1e-300)] for x in (p, q)]
    found = top_forward_kl(logprobs(student), logprobs(teacher), top_k).item()
    assert found == pytest.approx(kl(*merged), abs=1e-7)
    assert -1e-9 <= found <= kl(p, q) + 1e-9
    assert top_forward_kl(logprobs(student), logprobs(teacher), 5).item() == pytest.approx(kl(p, q), abs=1e-9)


@pytest.mark.parametrize("top_k", [1, 3, 5, 50])
def test_the_top_kl_is_least_where_the_student_says_what_the_teacher_says(top_k: int) -> None:
    torch.manual_seed(0)
    teacher = (3 * torch.randn(4, 9)).log_softmax(-1)
    logits = teacher.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(top_forward_kl(logits.log_softmax(-1), teacher, top_k).sum(), logits)
    assert gradient.abs().max() < 1e-5
    moved = (logits.detach() + torch.randn(4, 9)).log_softmax(-1)
    assert top_forward_kl(moved, teacher, top_k).sum() > 1e-2


def test_a_token_that_the_teacher_rules_out_adds_nothing() -> None:
    teacher = torch.tensor([[0.0, 1.0, -math.inf]]).log_softmax(-1)
    student = torch.zeros(1, 3, requires_grad=True)
    for divergence in (
        generalized_jsd(student.log_softmax(-1), teacher, 0.5),
        generalized_jsd(student.log_softmax(-1), teacher, 0.0),
        top_forward_kl(student.log_softmax(-1), teacher, 2),
    ):
        (gradient,) = torch.autograd.grad(divergence.sum(), student)
        assert torch.isfinite(divergence).all()
        assert torch.isfinite(gradient).all()
        assert gradient[0, 2] > 0  # it becomes less likely


def test_a_certain_teacher_leaves_no_other_tokens() -> None:
    """In fp32 its top token has all of the probability: the rest is rounding, and stays a number."""
    teacher = torch.tensor([[60.0, 0.0, 0.0, 0.0]]).log_softmax(-1)
    student = torch.zeros(1, 4, requires_grad=True)
    found = top_forward_kl(student.log_softmax(-1), teacher, 1)
    assert found.item() == pytest.approx(math.log(4), abs=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < 0
