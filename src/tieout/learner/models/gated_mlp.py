"""SwiGLU layers that keep a quarter less for backward: silu(gate) is computed again there, to the same bits."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn, ops
from torch.autograd import Function
from torch.nn.functional import silu
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaMLP

SILU = (nn.SiLU, type(ACT2FN["silu"]))


def keep_less(network: nn.Module) -> None:
    """Change the layers that compute what Llama's do, with SiLU; all others stay as they are."""
    for layer in network.modules():
        kind: Any = type(layer)
        if _program(kind) == _program(LlamaMLP) and isinstance(layer.act_fn, SILU):
            layer.__class__ = _leaner(kind)


def _program(kind: type[nn.Module]) -> tuple[bytes, tuple[str, ...]] | None:
    """What its forward does; architectures repeat Llama's, each in a class of its own."""
    code = getattr(kind.forward, "__code__", None)
    return code and (code.co_code, code.co_names)


@cache
def _leaner(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (kind,), {"forward": _forward, "__module__": kind.__module__})


def _forward(self: Any, x: Tensor) -> Tensor:
    product: Tensor = _Gated.apply(self.gate_proj(x), self.up_proj(x))
    down: Tensor = self.down_proj(product)
    return down


class _Gated(Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return ops.aten.silu_backward(grad * up, gate), silu(gate).mul_(grad)
