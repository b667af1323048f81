"""The precision of a base: fp32 or bf16, asked for or chosen by what the machine computes natively.

In bf16 only the base is kept and multiplied: adapters, log-softmax, losses and the optimizer stay in fp32.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ...config.dtype import Dtype
from ...errors import InputError

LARGE = 30_000_000
"""A smaller base gains little on a processor, and keeps its figures."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_NATIVE = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")
"""Settings of oneDNN's DNNL_MAX_CPU_ISA that leave it bf16."""


def name_of(dtype: torch.dtype) -> str:
    """fp32 or bf16; torch's name of any other."""
    return next((name for name, own in DTYPES.items() if own == dtype), str(dtype).removeprefix("torch."))


@dataclass(frozen=True)
class Precision:
    """What was taken, and why."""

    name: Literal["fp32", "bf16"]
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def precision(asked: str, device: str, parameters: int, four_bits: bool = False) -> Precision:
    """The precision of a base.

    Args:
        asked: auto, fp32 or bf16.
        device: cpu, cuda or cuda:N.
        parameters: of the base.
        four_bits: the base is stored in 4 bits; the precision is then that of the arithmetic.

    Raises:
        InputError: `asked` is none of them.
    """
    if asked not in get_args(Dtype):
        raise InputError(f"dtype is {asked!r}; expected auto, fp32 or bf16")
    if asked != "auto":
        return Precision("fp32" if asked == "fp32" else "bf16", "as asked")
    if device.startswith("cuda"):
        return Precision("bf16", "on CUDA")
    native = native_bf16()
    if native is None:
        return Precision("fp32", "the processor has no native bf16")
    if four_bits:
        return Precision("fp32", "a base in 4 bits on a processor")
    size = f"{parameters / 1e6:.0f} million parameters"
    if parameters < LARGE:
        return Precision("fp32", f"{size}: below {LARGE // 10**6}")
    return Precision("bf16", f"native here by {native}; {size}")


def native_bf16() -> str | None:
    """The processor's instructions for products in bf16, if torch and oneDNN may use them; None: there are none."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":  # ATEN_CPU_CAPABILITY lowers it
        return None
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    limit = os.environ.get("DNNL_MAX_CPU_ISA", os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT")).upper()
    if not any(name in limit for name in _NATIVE):
        return None
    if torch.cpu._is_amx_tile_supported() and not limit.endswith("CORE_BF16"):
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else None
