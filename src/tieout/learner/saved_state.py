"""What a checkpoint holds of a learner in this process: weights, optimizer and a reference that moved, by name.

Optimizer state is kept by the place of its parameter, not by a name: parameters may be views of one flat buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import InputError
from .models.model import Model
from .models.reference import reference_weights, set_reference
from .optimizer import FlatAdamW

MASTER = "master"
"""In a checkpoint: the fp32 values of weights in 16 bits."""


def _optimized(optimizer: FlatAdamW) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def tensors_of(model: Model, optimizer: FlatAdamW) -> dict[str, torch.Tensor]:
    """What a checkpoint holds. Copies: safetensors refuses tensors that share memory."""
    tensors = {
        f"weight/{name}": parameter.detach().clone().contiguous()
        for name, parameter in model.trained().items()
    }
    for place, parameter in enumerate(_optimized(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{place}/{key}"] = value.detach().clone().contiguous()
    for place, parameter in enumerate(_optimized(optimizer)):
        if any(parameter is master for master in optimizer.masters):
            tensors[f"optimizer/{place}/{MASTER}"] = parameter.detach().clone()
    if model.reference_moved:
        for name, parameter in reference_weights(model).items():
            tensors[f"reference/{name}"] = parameter.detach().clone().contiguous()
    return tensors


def load_optimizer(optimizer: FlatAdamW, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Put back the optimizer's state. InputError: it is that of other parameters."""
    optimizer.state.clear()
    parameters = _optimized(optimizer)
    for full, value in tensors.items():
        if full.startswith("optimizer/"):
            _, place, key = full.split("/")
            if int(place) >= len(parameters) or value.numel() not in (1, parameters[int(place)].numel()):
                raise InputError(
                    f"{folder} holds the state of another optimizer: {full} has no parameter here"
                )
            parameter = parameters[int(place)]  # fused AdamW keeps its step count next to the parameter, too
            if key == MASTER:
                parameter.data.copy_(value)
            else:
                optimizer.state[parameter][key] = value.to(parameter.device)


def load_weights(model: Model, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Put back what is trained. InputError: `folder` holds other parameters, or other shapes."""
    trained = model.trained()
    saved = {name.removeprefix("weight/"): x for name, x in tensors.items() if name.startswith("weight/")}
    if saved.keys() != trained.keys():
        differing = sorted(saved.keys() ^ trained.keys())[:3]
        raise InputError(f"{folder} holds other parameters than the model trains, such as {differing}")
    with torch.no_grad():
        for name, parameter in trained.items():
            if parameter.shape != saved[name].shape:
                shapes = f"was {list(saved[name].shape)}, is {list(parameter.shape)}"
                raise InputError(f"{folder} holds {name} in another shape: {shapes}")
            parameter.copy_(saved[name])


def load_reference(model: Model, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back a reference that had moved."""
    moved = {n.removeprefix("reference/"): x for n, x in tensors.items() if n.startswith("reference/")}
    if moved:
        set_reference(model, moved)
