"""LoRA and DoRA over a base in 16 bits, with one rounding.

PEFT rounds the base's output W x to 16 bits and adds the adapter's part to it. A part below half a unit in the last
place is then rounded away, always in the same direction: towards the base. With the small weights of a fresh adapter,
and at the learning rates of DPO and GRPO, much of what was learnt is below it. Here both parts are summed in one
product, in fp32, and rounded once: [W, s B] [x; A x]. DoRA, which scales each output by g = m / |W + s B A|, is
[W, (g - 1) W, g s B] [x; x; A x]: a g near 1 would be lost in a weight g W. Backward sums the gradient of x likewise.

An adapter folded into bf16 weights would be rounded away likewise. `folded` rounds up or down at random, in proportion
to the distance, which keeps sums right (https://arxiv.org/abs/1502.02551, section 3.1).
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from .peft import LoraLinear

SIXTEEN = (torch.bfloat16, torch.float16)


class OnceRounded(LoraLinear):  # type: ignore[misc]
    """PEFT's LoRA layer; anything but one plain LoRA or DoRA at a time is left to PEFT's own forward."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        names, base = [n for n in self.active_adapters if n in self.lora_A], self.get_base_layer()
        # Where the base's own numbers are trained, such as biases, only PEFT's forward has their gradient.
        trained = any(p.requires_grad for p in base.parameters())
        other = self.merged or args or kwargs or trained or not x.dtype == base.weight.dtype in SIXTEEN
        if other or len(names) != 1 or not _known(self, names[0]):
            return super().forward(x, *args, **kwargs)
        name = names[0]
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        dropout, weight = self.lora_dropout[name], self._weight
        if self.use_dora[name] and self.training and not isinstance(dropout, nn.Identity):
            return super().forward(x)
        if self.disable_adapters:  # the same product, so that an adapter of zeros is the base to the bit
            ones = torch.ones_like(weight[:, 0]) if self.use_dora[name] else None
            rank = x.new_zeros(*x.shape[:-1], len(down))
            return _product(x, rank, weight, base.bias, up.detach(), ones)
        gain = self._gain(name) if self.use_dora[name] else None
        return _Once.apply(x, dropout(x), weight, base.bias, down, up, self.scaling[name], gain)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Fold one plain adapter into bf16 weights by `folded`; anything else as PEFT does."""
        names = [n for n in adapter_names or self.active_adapters if n in self.lora_A]
        base = self.get_base_layer()
        if (
            self.merged
            or len(names) != 1
            or not _known(self, names[0])
            or base.weight.dtype != torch.bfloat16
        ):
            super().merge(safe_merge, adapter_names)
            return
        exact = base.weight.float() + self.get_delta_weight(names[0])
        if self.use_dora[names[0]]:
            gain = self._gain(names[0]).detach()
            exact *= gain if self.fan_in_fan_out else gain[:, None]
        merged = folded(base.weight, exact)
        if safe_merge and not torch.isfinite(merged).all():
            raise ValueError(f"NaN or inf in the merged weights: the adapter {names[0]} seems to be broken")
        base.weight.data = merged
        self.merged_adapters.append(names[0])

    @property
    def _weight(self) -> Tensor:
        """[out, in] of the base."""
        weight: Tensor = self.get_base_layer().weight
        return weight.T if self.fan_in_fan_out else weight

    def _gain(self, name: str) -> Tensor:
        """[out] DoRA's factor; its divisor has no gradient (section 4.3 of https://arxiv.org/abs/2402.09353)."""
        gain: Tensor = self.lora_magnitude_vector[name].weight / _sizes(self, name)
        return gain


@torch.no_grad()
def _sizes(layer: LoraLinear, name: str) -> Tensor:
    """[out] |W + s B A|, in fp32."""
    delta = layer.lora_B[name].weight @ layer.lora_A[name].weight
    stored = layer.get_base_layer().weight.float()
    sizes: Tensor = layer.lora_magnitude_vector[name].get_weight_norm(stored, delta, layer.scaling[name])
    return sizes


def _known(layer: LoraLinear, name: str) -> bool:
    """Whether an adapter is one plain LoRA or DoRA in fp32."""
    variant = name in layer.lora_variant and not layer.use_dora[name]
    stored_so = layer.fan_in_fan_out == isinstance(layer.get_base_layer(), Conv1D)
    dtype = layer.lora_A[name].weight.dtype
    return stored_so and not variant and not layer.lora_bias[name] and dtype == torch.float32


def round_once(network: Any) -> None:
    """Let every LoRA layer over a linear layer in 16 bits round once."""
    for layer in _layers(network):
        layer.__class__ = OnceRounded


def exact_magnitudes(network: Any, name: str) -> None:
    """Let a fresh DoRA over a base in 16 bits begin as the base: PEFT rounds its magnitudes to 16 bits."""
    for layer in _layers(network):
        if layer.use_dora.get(name):
            layer.lora_magnitude_vector[name].weight.data = _sizes(layer, name)


def _layers(network: Any) -> list[LoraLinear]:
    """PEFT's own layers over linear ones in 16 bits."""
    return [
        layer
        for layer in network.modules()
        if type(layer) is LoraLinear
        and type(layer.get_base_layer()) in (nn.Linear, Conv1D)
        and layer.get_base_layer().weight.dtype in SIXTEEN
    ]


def _product(
    x: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    up: Tensor,
    gain: Tensor | None,
) -> Tensor:
    """g (W x + up hidden) + bias, rounded once."""
    if gain is None:
        return linear(torch.cat([x, hidden], -1), torch.cat([weight, up.to(x.dtype)], 1), bias)
    gain = gain.float()[:, None]
    weights = [weight, ((gain - 1) * weight.float()).to(x.dtype), (gain * up).to(x.dtype)]
    return linear(torch.cat([x, x, hidden], -1), torch.cat(weights, 1), bias)


class _Once(torch.autograd.Function):
    """g (W x + s B A x') + bias, summed in fp32 and rounded to 16 bits once; x' is x after dropout, g DoRA's or 1."""

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
        gain: Tensor | None,
    ) -> Tensor:
        hidden = linear(dropped, down.to(x.dtype))
        said = _product(x, hidden, weight, bias, up * scale, gain)
        ctx.save_for_backward(dropped, hidden, weight, down, up, *(() if gain is None else (gain,)))
        ctx.scale, ctx.same = scale, dropped is x
        return said

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, hidden, weight, down, up, *gains = ctx.saved_tensors
        d_gain = None
        if gains:
            raw = _product(dropped, hidden, weight, None, up * ctx.scale, None)
            d_gain = (grad.float() * raw.float()).flatten(0, -2).sum(0)
            grad = (grad.float() * gains[0]).to(grad.dtype)
        inner = grad @ (up * ctx.scale).to(grad.dtype)
        flat = inner.flatten(0, -2)
        d_down = (flat.T @ dropped.flatten(0, -2)).to(down.dtype)
        d_up = (grad.flatten(0, -2).T @ hidden.flatten(0, -2)).to(up.dtype) * ctx.scale
        d_x = d_dropped = None
        if ctx.needs_input_grad[0] and ctx.same:
            d_x = torch.cat([grad, inner], -1) @ torch.cat([weight, down.to(grad.dtype)], 0)
        elif ctx.needs_input_grad[0]:
            d_x, d_dropped = grad @ weight, inner @ down.to(grad.dtype)
        return d_x, d_dropped, None, None, d_down, d_up, None, d_gain


def folded(weight: Tensor, exact: Tensor) -> Tensor:
    """What is to take a bf16 weight's place, in fp32, rounded up or down at random in proportion to the distance.

    The random numbers are seeded by the weight, so they are always the same for it and others for another one.
    """
    seed = crc32(weight.detach().flatten()[:256].view(torch.uint8).cpu().numpy().tobytes())
    generator = torch.Generator(exact.device).manual_seed(seed)
    noise = torch.randint(
        0, 1 << 16, exact.shape, generator=generator, dtype=torch.int32, device=exact.device
    )
    return ((exact.view(torch.int32) + noise) & -(1 << 16)).view(torch.float32).to(weight.dtype)
