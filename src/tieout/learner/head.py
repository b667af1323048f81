"""Log-probabilities and entropies of completion tokens, without ever storing a [T, V] tensor of logits.

With a frozen head (LoRA) the whole backward of a log-probability is one row, J_t = d logprob_t / d hidden_t, so the
forward computes it while the probabilities are at hand: 4Vd FLOPs a token where recomputing kernels need 6Vd. A head
that is trained itself is recomputed in backward, chunk by chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Head:
    """The output layer of a causal model and what its architecture does to the logits."""

    module: nn.Module
    """Hidden states [T, d] -> logits [T, V]."""
    scale: float = 1.0
    """Logits are multiplied by it (Cohere's logit_scale, Granite's 1 / logits_scaling)."""
    softcap: float | None = None
    """Logits become softcap * tanh(logits / softcap) (Gemma 2)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[T, d] -> [T, V] in fp32."""
        z = self.module(hidden).float() * self.scale
        return z if self.softcap is None else torch.tanh(z / self.softcap) * self.softcap

    def score(
        self, hidden: Tensor, targets: Tensor, temperature: float = 1.0, chunk_logits: int = 1 << 22
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of each target.

        Args:
            hidden: [T, d] the hidden state that predicts each target.
            targets: [T] token ids.
            temperature: logits are divided by it before the softmax.
            chunk_logits: how many logits may exist at once.

        Returns:
            [T] nats with gradient, [T] nats without.
        """
        vocabulary = self._vocabulary(hidden)
        size = max(1, chunk_logits // vocabulary)
        if not torch.is_grad_enabled() or (not hidden.requires_grad and self._frozen):
            parts = [
                _statistics(self.logits(h) / temperature, t)
                for h, t in zip(hidden.split(size), targets.split(size), strict=True)
            ]
            return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        if self._frozen and isinstance(self.module, nn.Linear):
            return _FrozenHead.apply(hidden, targets, self, temperature, size)

        def recomputed(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return _statistics(self.logits(h) / temperature, t)

        parts = [
            checkpoint(recomputed, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]).detach()

    @property
    def _frozen(self) -> bool:
        return not any(p.requires_grad for p in self.module.parameters())

    def _vocabulary(self, hidden: Tensor) -> int:
        weight = getattr(self.module, "weight", None)
        return weight.shape[0] if weight is not None else self.module(hidden[:1]).shape[-1]


def _statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """[T, V], [T] -> log-probability [T], entropy [T]."""
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, targets[:, None])[:, 0] - normaliser
    with torch.no_grad():
        probabilities = (logits - normaliser[:, None]).exp()
        entropies = normaliser - (probabilities * logits).sum(-1)
    return logprobs, entropies


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, head: Head, temperature: float, size: int
    ) -> tuple[Tensor, Tensor]:
        weight: Tensor = head.module.weight  # type: ignore[assignment]
        jacobian = torch.empty_like(hidden)
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            logits, t = head.logits(hidden[part]), targets[part]
            scaled = logits / temperature
            normaliser = scaled.logsumexp(-1, keepdim=True)
            logprobs[part] = (scaled.gather(-1, t[:, None]) - normaliser)[:, 0]
            p = (scaled - normaliser).exp_()
            entropies[part] = normaliser[:, 0] - (p * scaled).sum(-1)
            slope = (
                p.neg_()
            )  # d logprob / d logits = (one-hot - p) / temperature, then the architecture's own chain
            slope[torch.arange(len(t), device=t.device), t] += 1
            slope *= head.scale / temperature
            if head.softcap is not None:
                slope *= 1 - (logits / head.softcap) ** 2
            jacobian[part] = slope.to(weight.dtype) @ weight
        ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return (grad[:, None] * jacobian).to(jacobian.dtype), None, None, None, None
