"""4-bit storage of a base (QLoRA), with layers that compute right on every machine.

bitsandbytes chooses its kernels by the machine, and some are wrong for some shapes: on a CPU it dequantises a layer
whose inputs its block of 64 does not divide with the scales of other blocks. Each shape of layer is therefore run once
when a model is loaded; where it does not agree with the stored codes and scales, the layer is computed from those.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import BitsAndBytesConfig, PreTrainedModel

from ...errors import InputError

ROWS = 64
"""Output features of a layer that are compared."""


def four_bits(compute: torch.dtype, device: str) -> BitsAndBytesConfig:
    """QLoRA's storage of the base: 4-bit NormalFloat, quantised twice (section 3 of the paper).

    Raises:
        InputError: bitsandbytes is not installed, or has no kernels for the device.
    """
    if find_spec("bitsandbytes") is None:
        raise InputError(
            "adapter method 'qlora' needs bitsandbytes, which is not installed: `pip install 'tieout[qlora]'`; "
            "or use method 'lora', which keeps the base in its own precision"
        )
    if not device.startswith(("cuda", "cpu")):
        raise InputError(
            f"adapter method 'qlora' needs a CUDA device or a CPU and this run is on {device!r}: use method 'lora' here"
        )
    _import_quietly()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _import_quietly() -> None:
    """Import bitsandbytes without its warning about a kernel that `prepare_four_bits` switches off."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_not_about_packing)
    import bitsandbytes  # noqa: F401


def _not_about_packing(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in record.getMessage()


def prepare_four_bits(network: PreTrainedModel, name: str) -> None:
    """Make the 4-bit layers of a network compute right on this machine, and allow a gradient through them.

    Raises:
        InputError: bitsandbytes has packed the weights for inference already.
    """
    right: dict[tuple[int, int], str | None] = {}
    for path, layer in _layers(network):
        if getattr(layer.weight.quant_state, "packing_format_for_cpu", False):
            raise InputError(
                f"model {name!r}: bitsandbytes has packed the weights of {path!r} for inference, which no gradient "
                "passes: load the model again, and train it before it is used for anything else"
            )
        # The kernel for packed weights, of processors with AVX512-BF16, rounds to bf16 and stops the gradient.
        layer.support_avx512bf16_for_cpu = False
        shape = layer.in_features, layer.out_features
        if shape not in right:
            right[shape] = _problem(layer, network.dtype)
        if right[shape]:
            layer.forward = MethodType(_forward, layer)
    if slow := {f"{i} x {o}": problem for (i, o), problem in right.items() if problem}:
        warnings.warn(
            f"4-bit layers of {name} ({', '.join(slow)}) are dequantised by torch, which is slower: the kernel of "
            f"bitsandbytes for this {network.device.type} {next(iter(slow.values()))}",
            stacklevel=2,
        )


def _layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """(path, layer) of every 4-bit layer."""
    if "bitsandbytes" not in sys.modules:
        return
    from bitsandbytes.nn import Linear4bit

    for path, module in network.named_modules():
        if isinstance(module, Linear4bit):
            yield path, module


def _problem(layer: Any, dtype: torch.dtype) -> str | None:
    """None if outputs and gradient of a layer are right, in training and in inference, else what is wrong."""
    weight = dequantised(layer.weight, ROWS)
    rows, device = len(weight), layer.weight.device
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    bias = 0 if layer.bias is None else layer.bias[-rows:].float()
    expected = x.float() @ weight.T + bias
    try:
        with torch.no_grad():
            outputs = [layer(x), layer(x[:1])]
        with torch.enable_grad():
            outputs.append(layer(x.requires_grad_()))
            (gradient,) = torch.autograd.grad(outputs[-1][:, -rows:].sum(), x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"fails with {type(error).__name__}: {error}"
    pairs = [(output[:, -rows:], expected[: len(output)]) for output in outputs]
    # On a GPU, fp32 may be TF32.
    bound = 1e-3 if dtype == torch.float32 and device.type == "cpu" else 2e-2
    for got, right in [*pairs, (gradient, weight.sum(0).expand_as(gradient))]:
        difference = ((got.float() - right).abs().max() / right.abs().max().clamp(min=1e-30)).item()
        if not difference <= bound:
            return f"differs by {difference:.1%} from the stored weights"
    return None


def dequantised(weight: Any, rows: int | None = None) -> Tensor:
    """[out, in] a 4-bit weight in fp32, or its last rows, without a kernel of bitsandbytes."""
    state = weight.quant_state
    (outputs, inputs), block = state.shape, state.blocksize
    scales = state.absmax
    if state.nested:
        second = state.state2
        blocks = torch.arange(scales.numel(), device=scales.device) // second.blocksize
        scales = second.code[scales.int()] * second.absmax[blocks] + state.offset
    first = 0 if rows is None else max(0, outputs - rows) * inputs
    start = first // block  # the block in which the rows begin
    packed = weight.detach().contiguous().view(torch.uint8).flatten()[start * block // 2 :]
    codes = torch.stack([packed >> 4, packed & 0xF], 1).flatten()
    values = state.code[codes.int()] * scales[start:].repeat_interleave(block)[: len(codes)]
    return values[first - start * block :][: outputs * inputs - first].view(-1, inputs)


def _forward(layer: Any, x: Tensor) -> Tensor:
    """Instead of a layer's own forward."""
    return _Dequantised.apply(x, layer)


class _Dequantised(torch.autograd.Function):
    """x W' + b; the weights are dequantised again in backward, so that no full copy of them is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return linear(x, dequantised(layer.weight).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ dequantised(ctx.layer.weight).to(grad.dtype), None
