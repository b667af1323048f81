"""Divergences of a student from a teacher, token by token: pure functions of log-probabilities, no mean taken.

Shapes: T tokens, V vocabulary. All values are in nats; the teacher's take no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def generalized_jsd(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Generalised Jensen-Shannon divergence, eq. 1 of https://arxiv.org/abs/2306.13649.

    Args:
        student: [T, V] log-probabilities.
        teacher: [T, V] log-probabilities.
        beta: weight of the teacher in the mixture M. At 0 and 1 the divergence itself is 0; as in the paper, its
            limits up to scale stand there: KL(teacher || student) and KL(student || teacher).

    Returns:
        [T] beta KL(teacher || M) + (1 - beta) KL(student || M) with M = beta teacher + (1 - beta) student.
    """
    if beta == 0:
        return _kl(teacher, student)
    if beta == 1:
        return _kl(student, teacher)
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def top_forward_kl(student: Tensor, teacher: Tensor, top_k: int) -> Tensor:
    """KL(teacher || student) over the teacher's `top_k` tokens and one more event: any other token.

    Merging events never raises a KL: this is at most the KL over the vocabulary, never negative, and 0 where the
    student gives these tokens the teacher's probabilities.

    Args:
        student: [T, V] log-probabilities.
        teacher: [T, V] log-probabilities.
        top_k: tokens that are compared one by one; V or more is the KL over the vocabulary.

    Returns:
        [T] nats.
    """
    if top_k >= teacher.shape[-1]:
        return _kl(teacher, student)
    known, places = teacher.topk(top_k, -1)
    own = student.gather(-1, places)
    return _kl(known, own) + _kl(_rest(known), _rest(own))


def _rest(logprobs: Tensor) -> Tensor:
    """[T, k] -> [T, 1] log-probability of all other tokens, by 1 - sum p, at least its rounding error."""
    left = 1 - logprobs.exp().sum(-1, keepdim=True)
    return left.clamp(min=torch.finfo(logprobs.dtype).eps).log()


def _kl(one: Tensor, other: Tensor) -> Tensor:
    """[T] KL(one || other); a token to which `one` gives no probability adds 0."""
    return torch.where(one > -math.inf, one.exp() * (one - other), 0.0).sum(-1)
