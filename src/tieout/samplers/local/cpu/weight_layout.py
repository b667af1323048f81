"""Layout of weights for decoding: copied once into the order that the machine reads fastest.

With few rows a product on a CPU waits for its weights. Small matrices are read faster when they stand transposed; large
ones when oneDNN has put them into blocks, which is what `torch.compile` does with frozen weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Product = Callable[[Tensor], Tensor]
"""[N, in] -> [N, out]"""
LARGE = 1 << 19
"""Numbers in a matrix from which blocks are the faster layout."""
ROWS = 16
"""For how many rows the blocks are made; any other number is right too."""


def product(weight: Tensor, bias: Tensor | None) -> Product:
    """x -> x W' + b, from a copy of the weight [out, in] in the fastest layout, if that gains time."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return lambda x: linear(x, weight, bias)
    if weight.numel() >= LARGE:
        return _blocks(weight, bias) or (lambda x: linear(x, weight, bias))
    turned = weight.t().contiguous()
    return (lambda x: torch.mm(x, turned)) if bias is None else (lambda x: torch.addmm(bias, x, turned))


def _blocks(weight: Tensor, bias: Tensor | None) -> Product | None:
    """None if this build of torch has no oneDNN, or this processor no right kernel for it: tried on one row."""
    operators: Any = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operators, "_linear_pointwise"):
        return None
    row = torch.linspace(-1, 1, weight.shape[1])[None]
    try:
        blocks = operators._reorder_linear_weight(weight, ROWS)
        found = operators._linear_pointwise(row, blocks, bias, "none", [], "")
    except RuntimeError:
        return None
    if not torch.allclose(found, linear(row, weight, bias), rtol=1e-3, atol=1e-3 * weight.abs().max().item()):
        return None
    return lambda x: operators._linear_pointwise(x, blocks, bias, "none", [], "")


class FastLinear(nn.Module):
    """A linear layer over such a copy."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.product = product(layer.weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] -> [N, out]"""
        return self.product(x)
