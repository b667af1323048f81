"""Distributions over the whole vocabulary, one before each token, made a chunk at a time.

A number of each token, such as a divergence from a teacher, depends on that token's logits alone. With a frozen head
its whole backward is one row per token, which the forward computes while the logits are at hand, as in `output_head`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...batch import OfTokens
from .output_head import Head


@dataclass(frozen=True, eq=False)
class Predictor:
    """The hidden states before T tokens, and the layer that makes their logits."""

    head: Head
    hidden: Tensor
    """[T, d]"""
    temperature: float = 1.0
    """Logits are divided by it."""
    active: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Puts the layer's own weights in place, where others share them."""

    @torch.no_grad()
    def logits(self, part: slice) -> Tensor:
        """[n, V] in fp32, without gradient."""
        with self.active():
            return self.head.scaled(self.hidden[part], self.temperature)

    def per_token(self, function: OfTokens, chunk_logits: int = 1 << 22) -> Tensor:
        """[T] the function of each token's logits, with gradient to them.

        Args:
            function: (logits [n, V], which tokens they are before) -> [n], each from its own row.
            chunk_logits: how many logits may exist at once; the function's own are as many.
        """
        size = max(1, chunk_logits // self.head.vocabulary(self.hidden))
        parts = [slice(i, i + size) for i in range(0, len(self.hidden), size)]
        if not torch.is_grad_enabled() or self.head.frozen:
            return _Rows.apply(self.hidden, self, function, parts)

        def recomputed(hidden: Tensor, part: slice) -> Tensor:
            return function(self.head.scaled(hidden, self.temperature), part)

        return torch.cat([checkpoint(recomputed, self.hidden[p], p, use_reentrant=False) for p in parts])


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, own: Predictor, function: OfTokens, parts: list[slice]) -> Tensor:
        values = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        jacobian = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for part in parts:
            with torch.set_grad_enabled(jacobian is not None):
                h = hidden[part].detach().requires_grad_(jacobian is not None)
                value = function(own.head.scaled(h, own.temperature), part)
                values[part] = value.detach()
                if jacobian is not None:
                    (jacobian[part],) = torch.autograd.grad(value.sum(), h)
        if jacobian is not None:
            ctx.save_for_backward(jacobian)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return (grad[:, None] * jacobian).to(jacobian.dtype), None, None, None
