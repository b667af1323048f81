"""State of every random generator that a step may use, as plain values: Python's, numpy's, torch's, the GPU's."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def state(device: torch.device) -> dict[str, Any]:
    """The state, for `restore`."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    plain = {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), int(position), int(has_gauss), float(cached)],  # type: ignore[union-attr]
        "torch": _hex(torch.random.get_rng_state()),
    }
    if device.type == "cuda":
        plain["cuda"] = _hex(torch.cuda.get_rng_state(device))
    return plain


def seed(value: int) -> None:
    """Begin every stream anew, whatever was drawn before."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def restore(plain: Mapping[str, Any], device: torch.device) -> None:
    """Set every generator to where it was."""
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = plain["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.random.set_rng_state(_bytes(plain["torch"]))
    if device.type == "cuda" and "cuda" in plain:
        torch.cuda.set_rng_state(_bytes(plain["cuda"]), device)


def _hex(tensor: torch.Tensor) -> str:
    return tensor.numpy().tobytes().hex()


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(bytes.fromhex(text)), dtype=torch.uint8)
