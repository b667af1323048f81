"""A moving reference: refresh it as a frozen copy of the policy, save and restore it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...errors import InputError
from .adapters import POLICY, REFERENCE
from .model import Model
from .peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict


def refresh_reference(model: Model) -> None:
    """Make the reference a frozen copy of the present policy.

    ValueError: full fine-tuning that keeps no reference.
    """
    if model.reference_network is not None:
        model.reference_network.load_state_dict(model.network.state_dict())
    elif not isinstance(model.network, PeftModel):
        raise InputError("there is no reference to refresh: load the model with keep_reference=True")
    else:
        if REFERENCE not in model.network.peft_config:
            config = replace(model.network.peft_config[POLICY], inference_mode=True)
            model.network.add_adapter(REFERENCE, config)
        weights = get_peft_model_state_dict(model.network, adapter_name=POLICY, save_embedding_layers=False)
        set_peft_model_state_dict(model.network, weights, adapter_name=REFERENCE)
        for parameter in reference_weights(model).values():
            parameter.requires_grad_(False)
        model.network.eval()
    model.reference_moved = True


def reference_weights(model: Model) -> dict[str, Tensor]:
    """Name -> the reference's own weights, for checkpoints once the reference has moved."""
    if model.reference_network is not None:
        return dict(model.reference_network.named_parameters())
    return {n: p for n, p in model.network.named_parameters() if f".{REFERENCE}." in n}


def set_reference(model: Model, weights: Mapping[str, Tensor]) -> None:
    """Put back the weights that `reference_weights` gave, into a freshly loaded model."""
    refresh_reference(model)
    with torch.no_grad():
        for name, parameter in reference_weights(model).items():
            parameter.copy_(weights[name])
