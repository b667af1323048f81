"""Properties of an architecture: its decoder, its output layer, its attention and its context."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from ...errors import InputError
from ..prefix.attention import NAME
from .four_bits import prepare_four_bits
from .output_head import Head
from .peft import PeftModel
from .weights import refuse_not_finite


def decoder_of(network: PreTrainedModel) -> nn.Module:
    """The stack of layers that gives hidden states, without the output head."""
    return network.get_decoder()


def head_of(network: PreTrainedModel) -> Head:
    """The output layer with what the architecture does to its logits."""
    config = text_config(network)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    if getattr(config, "logits_scaling", None):
        scale /= float(config.logits_scaling)
    return Head(network.get_output_embeddings(), scale, getattr(config, "final_logit_softcapping", None))


def check_network(network: PreTrainedModel, name: str) -> None:
    """Refuse a network whose numbers would be wrong; where its 4-bit layers would be on this machine, replace them."""
    prepare_four_bits(network, name)
    check_head(network, name)


def check_head(network: Any, name: str, ids: torch.Tensor | None = None) -> None:
    """Refuse an architecture, or an adapter, that does to its logits what `decoder_of` and `head_of` do not know."""
    causal = network.get_base_model() if isinstance(network, PeftModel) else network
    ids = (torch.tensor([[1, 2, 3]]) if ids is None else ids).to(causal.device)
    with torch.no_grad():
        own = network(input_ids=ids).logits.float()
        hidden = decoder_of(causal)(input_ids=ids, use_cache=False).last_hidden_state
        error = (head_of(causal).logits(hidden) - own).abs().max().item()
    if error != error:
        refuse_not_finite(causal.state_dict(), name)
    if not error <= 0.02 * own.abs().max().item():
        raise InputError(
            f"the logits of {name!r} ({causal.config.model_type}) are not its output layer applied to its hidden "
            f"states: they differ by {error:.2g}. This architecture, or its adapter, is not known here"
        )


def without_dropout(config: Any) -> Any:
    """The base's own dropout off: it would make two forwards of the same weights differ, and each copy of a prompt."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in vars(part).items():
            if isinstance(value, float) and ("drop" in name):
                setattr(part, name, 0.0)
    return config


def attention_for(config: Any) -> str:
    """Ours where the architecture takes any attention; else the best that it knows itself.

    What SDPA cannot do (a soft cap on scores, attention sinks) would be left out without a word.
    """
    network = AutoModelForCausalLM._model_mapping.get(type(config), PreTrainedModel)
    if not network._supports_sdpa:
        return "eager"
    return NAME if network._supports_attention_backend else "sdpa"


def text_config(network: PreTrainedModel) -> Any:
    return network.config.get_text_config()


def head_size(config: Any) -> int:
    """Numbers of one attention head, of a text configuration."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def cached_numbers(config: Any) -> int:
    """Numbers of one token's keys and values in all layers, 2 L Hk D."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head_size(config))


def context(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
