"""A digest of weights: the same on every rank and in every run that holds the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def digest(tensors: Mapping[str, torch.Tensor], *more: object) -> str:
    """SHA-256 over every byte of the tensors, and over what else changes their outputs."""
    result = hashlib.sha256(repr(more).encode())
    for name, tensor in sorted(tensors.items()):
        result.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        result.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return result.hexdigest()[:32]
