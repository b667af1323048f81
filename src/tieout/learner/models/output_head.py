"""Log-probabilities and entropies of completion tokens, without ever storing a [T, V] tensor of logits.

With a frozen head (LoRA) the whole backward of a log-probability is one row, J_t = d logprob_t / d hidden_t, so the
forward computes it while the probabilities are at hand: 4Vd FLOPs per token where recomputing kernels need 6Vd. A head
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
        z = self.module(hidden).float()
        z = z if self.scale == 1 else z * self.scale
        return z if self.softcap is None else torch.tanh(z / self.softcap) * self.softcap

    def scaled(self, hidden: Tensor, temperature: float) -> Tensor:
        """[T, d] -> [T, V] what the softmax sees; each pass over it that can be saved is worth saving."""
        z = self.logits(hidden)
        return z if temperature == 1 else z / temperature

    def logprobs(
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
        vocabulary = self.vocabulary(hidden)
        size = max(1, chunk_logits // vocabulary)
        if not torch.is_grad_enabled() or (not hidden.requires_grad and self.frozen):
            with torch.no_grad():
                parts = [
                    _softmax(self.scaled(h, temperature), t)
                    for h, t in zip(hidden.split(size), targets.split(size), strict=True)
                ]
            return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        if self.frozen and isinstance(self.module, nn.Linear):
            return _FrozenHead.apply(hidden, targets, self, temperature, size)

        def recomputed(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return _statistics(self.scaled(h, temperature), t)

        pairs = [
            checkpoint(recomputed, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]).detach()

    @property
    def frozen(self) -> bool:
        """Whether none of its own numbers are trained."""
        return not any(p.requires_grad for p in self.module.parameters())

    def vocabulary(self, hidden: Tensor) -> int:
        """V."""
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


def _softmax(scaled: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `_statistics`, without gradient and in few passes; `scaled` [T, V] is overwritten by `scaled - highest`.

    Returns:
        log-probability [T], entropy [T], weights [T, V] and their total [T, 1], whose ratio are the probabilities, and
        the highest logit [T, 1].
    """
    highest = scaled.amax(-1, keepdim=True)
    shifted = scaled.sub_(highest)
    weights = shifted.exp()
    total = weights.sum(-1, keepdim=True)
    normaliser = total.log()
    logprobs = (shifted.gather(-1, targets[:, None]) - normaliser)[:, 0]
    entropies = normaliser[:, 0] - torch.linalg.vecdot(weights, shifted) / total[:, 0]
    return logprobs, entropies, weights, total, highest


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
            t = targets[part]
            shifted = head.scaled(hidden[part], temperature)
            logprobs[part], entropies[part], weights, total, highest = _softmax(shifted, t)
            # d logprob / d logits = (one-hot - p) / temperature, then the architecture's own chain
            factor = head.scale / temperature
            slope = weights.mul_(-factor / total)
            slope[torch.arange(len(t), device=t.device), t] += factor
            if head.softcap is not None:
                slope *= 1 - ((shifted + highest) * (temperature / head.softcap)) ** 2
            jacobian[part] = slope.to(weight.dtype) @ weight
        ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return (grad[:, None] * jacobian).to(jacobian.dtype), None, None, None, None
