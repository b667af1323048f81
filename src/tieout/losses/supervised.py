"""The supervised loss. [T] completion tokens; log-probabilities in nats."""

from __future__ import annotations

from torch import Tensor


def cross_entropy(logprobs: Tensor) -> Tensor:
    """[T] nats: minus the log-probability of the tokens that were written."""
    return -logprobs
