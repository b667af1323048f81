"""Layout of weights for decoding: copied once into the blocks that oneDNN reads fastest.

With few rows a product on a CPU waits for its weights. Blocks are what `torch.compile` makes of frozen weights; they
are read twice as fast as rows are, or more, in fp32 and in bf16, and residuals are added as a product is written.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

ROWS = 16
"""For how many rows the blocks are made; any other number is right too."""
STEP = 8
"""oneDNN makes a kernel for every number of rows, in milliseconds: from here on only for its multiples."""


class Product:
    """x -> x W' + b, of a weight [out, in] that stays as it is."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """[N, in] -> [N, out]"""
        return linear(x, self.weight, self.bias)

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        """The same plus the residual [N, out]."""
        return self(x).add_(residual)


class Blocks(Product):
    """The same from a copy of the weight in blocks."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(_operators()._reorder_linear_weight(weight.detach(), ROWS), bias)
        self.multiply = _operators()._linear_pointwise
        self.multiply_onto = _operators()._linear_pointwise.binary

    def __call__(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.weight, self.bias, "none", [], "")

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        return self.multiply_onto(x, residual, self.weight, self.bias, "add")


def product(weight: Tensor, bias: Tensor | None) -> Product:
    """Of the weight [out, in], from blocks where this machine can multiply them."""
    if weight.device.type == "cpu" and _right(weight.dtype, *weight.shape, bias is not None):
        return Blocks(weight, bias)
    return Product(weight, bias)


def padded(rows: int) -> int:
    """The number of rows, at least so many, for which there should be a kernel.

    Never one: its kernel sums in another order, where those of all others gave a row the same bits (AVX512).
    """
    return max(2, rows) if rows <= STEP else -(-rows // STEP) * STEP


def _operators() -> Any:
    return torch.ops.mkldnn


@cache
def _right(dtype: torch.dtype, outputs: int, inputs: int, biased: bool) -> bool:
    """Whether this build of torch has oneDNN, and this processor a right kernel for blocks: tried on random rows."""
    if not torch.backends.mkldnn.is_available() or not hasattr(_operators(), "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16 and not _operators()._is_mkldnn_bf16_supported():
        return False
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, inputs, generator=generator).to(dtype) for n in (outputs, 2))
    residual = torch.randn(2, outputs, generator=generator).to(dtype)
    bias = residual[0] if biased else None
    try:
        blocks = Blocks(weight, bias)
        found = torch.stack([blocks(x), blocks.onto(residual, x)]).float()
    except RuntimeError:
        return False
    exact = linear(x.float(), weight.float(), None if bias is None else bias.float())
    exact = torch.stack([exact, exact + residual.float()])
    bound = 1e-3 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    return bool((found - exact).abs().max() <= bound * exact.abs().max())


class FastLinear(nn.Module):
    """A linear layer over such a copy."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.product = product(layer.weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] -> [N, out]"""
        return self.product(x)
