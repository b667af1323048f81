"""LoRA over a base in 16 bits, with one rounding.

PEFT rounds the base's output W x to 16 bits and adds the adapter's part to it. A part below half a unit in the last
place is then rounded away, always in the same direction: towards the base. With the small weights of a fresh adapter,
and at the learning rates of DPO and GRPO, much of what was learnt is below it. Here both parts are summed in one
product, in fp32, and rounded once: [W, s B] [x; A x]. Backward sums the gradient of x in the same way.

An adapter folded into bf16 weights would be rounded away likewise. `folded` rounds up or down at random, in proportion
to the distance, which keeps sums right (https://arxiv.org/abs/1502.02551, section 3.1).
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .peft import LoraLinear


class OnceRounded(LoraLinear):  # type: ignore[misc]
    """PEFT's LoRA layer; anything but one plain LoRA at a time is left to PEFT's own forward."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        names, base = [n for n in self.active_adapters if n in self.lora_A], self.get_base_layer()
        # Where the base's own numbers are trained, such as biases, only PEFT's forward has their gradient.
        trained = any(p.requires_grad for p in base.parameters())
        other = self.merged or args or kwargs or trained or x.dtype != base.weight.dtype
        if other or len(names) != 1 or not _plain(self, names[0]):
            return super().forward(x, *args, **kwargs)
        name = names[0]
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        if self.disable_adapters:  # the same product, so that an adapter of zeros is the base to the bit
            rank = x.new_zeros(*x.shape[:-1], len(down))
            b = up.detach().to(base.weight.dtype)
            return linear(torch.cat([x, rank], -1), torch.cat([base.weight, b], 1), base.bias)
        dropped = self.lora_dropout[name](x)
        return _Once.apply(x, dropped, base.weight, base.bias, down, up, self.scaling[name])

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Fold one plain adapter into bf16 weights by `folded`; anything else as PEFT does."""
        names = [n for n in adapter_names or self.active_adapters if n in self.lora_A]
        weight = self.get_base_layer().weight
        if self.merged or len(names) != 1 or not _plain(self, names[0]) or weight.dtype != torch.bfloat16:
            super().merge(safe_merge, adapter_names)
            return
        merged = folded(weight, self.get_delta_weight(names[0]))
        if safe_merge and not torch.isfinite(merged).all():
            raise ValueError(f"NaN or inf in the merged weights: the adapter {names[0]} seems to be broken")
        weight.data = merged
        self.merged_adapters.append(names[0])


def _plain(layer: LoraLinear, name: str) -> bool:
    variant = name in layer.lora_variant or layer.lora_bias[name] or layer.fan_in_fan_out
    return not variant and layer.lora_A[name].weight.dtype == torch.float32


def round_once(network: Any) -> None:
    """Let every LoRA layer over a linear layer in 16 bits round once."""
    for layer in network.modules():
        if type(layer) is not LoraLinear or type(layer.get_base_layer()) is not nn.Linear:
            continue
        if layer.get_base_layer().weight.dtype in (torch.bfloat16, torch.float16):
            layer.__class__ = OnceRounded


class _Once(torch.autograd.Function):
    """W x + s B A x' + bias, summed in fp32 and rounded to 16 bits once; x' is x after dropout."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        hidden = linear(dropped, down.to(x.dtype))
        ctx.save_for_backward(dropped, hidden, weight, down, up)
        ctx.scale, ctx.same = scale, dropped is x
        return linear(torch.cat([x, hidden], -1), torch.cat([weight, (up * scale).to(x.dtype)], 1), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, hidden, weight, down, up = ctx.saved_tensors
        inner = grad @ (up * ctx.scale).to(grad.dtype)
        flat = inner.flatten(0, -2)
        d_down = (flat.T @ dropped.flatten(0, -2)).to(down.dtype)
        d_up = (grad.flatten(0, -2).T @ hidden.flatten(0, -2)).to(up.dtype) * ctx.scale
        d_x = d_dropped = None
        if ctx.needs_input_grad[0] and ctx.same:
            d_x = torch.cat([grad, inner], -1) @ torch.cat([weight, down.to(grad.dtype)], 0)
        elif ctx.needs_input_grad[0]:
            d_x, d_dropped = grad @ weight, inner @ down.to(grad.dtype)
        return d_x, d_dropped, None, None, d_down, d_up, None


def folded(weight: Tensor, delta: Tensor) -> Tensor:
    """bf16 weight + fp32 delta, rounded up or down at random in proportion to the distance.

    The random numbers are seeded by the weight, so they are always the same for it and others for another one.
    """
    exact = weight.float() + delta
    seed = crc32(weight.detach().flatten()[:256].view(torch.uint8).cpu().numpy().tobytes())
    generator = torch.Generator(exact.device).manual_seed(seed)
    noise = torch.randint(
        0, 1 << 16, exact.shape, generator=generator, dtype=torch.int32, device=exact.device
    )
    return ((exact.view(torch.int32) + noise) & -(1 << 16)).view(torch.float32).to(weight.dtype)
