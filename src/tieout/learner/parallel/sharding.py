"""FSDP2 for a frozen base: its layers are sharded over the ranks, and gathered one at a time when they are computed.

What is trained is an adapter; it stays whole on every rank, and its gradients are summed as without sharding. So the
numbers are the same, and a rank holds its share of the base instead of all of it. Layers are gathered by all ranks or
by none: a rank with fewer micro-batches than another computes idle ones.
"""

from __future__ import annotations

import os

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ...errors import InputError
from ..models.model import Model
from .processes import Processes


def wanted() -> bool:
    """Whether `accelerate launch` was given an FSDP configuration. ValueError: one that is not supported here."""

    def on(name: str) -> bool:
        return os.environ.get(name, "").lower() in ("1", "true", "yes")

    if on("ACCELERATE_USE_DEEPSPEED") and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "0") != "0":
        raise InputError(
            "DeepSpeed's ZeRO is not supported: an adapter's optimizer is small, and FSDP2 shards a base that does not "
            "fit. Use recipes/accelerate/fsdp2.yaml, or zero_stage: 0"
        )
    if on("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError("FSDP1 is not supported: set fsdp_version: 2, as recipes/accelerate/fsdp2.yaml does")
    return on("ACCELERATE_USE_FSDP")


def shard(model: Model, ranks: Processes) -> None:
    """Shard every decoder layer's frozen weights over the ranks. InputError: weights of the base are trained."""
    trained = set(model.trained().values())
    layers = torch.nn.ModuleList(model.causal.get_decoder().layers)
    own = {p for n, p in model.network.named_parameters() if "lora_" in n or "modules_to_save" in n}
    if stray := [n for n, p in model.trained().items() if p not in own and p in set(layers.parameters())]:
        raise InputError(
            f"FSDP2 is supported for adapters only, and {stray[0]} of the base is trained; use --adapter.method lora"
        )
    mesh = init_device_mesh(model.device.type, (ranks.count,))
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=(trained | own) & set(layer.parameters()))
