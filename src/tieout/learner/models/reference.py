"""The reference of an adapter: the policy at step 0. It is measured before the first step, not taken for granted.

Switching the adapter off gives it for a fresh LoRA, and not where an initialisation rewrites the base (PiSSA), changes
what the policy says, or where weights of the base are trained in addition (biases): then what is trained is kept as it
was at step 0, and put in place while the reference is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from .adapters import POLICY, in_place, without
from .architecture import check_head, decoder_of, head_of, text_config
from .model import Model
from .peft import PeftModel
from .sixteen_bits import round_once

SAME = 1e-5
"""Nats between policy and reference at step 0 up to which they are the same."""
ROUNDING = 2e-3, 0.3
"""Nats by which taking weights off a base and adding them again may move it, in fp32 and in 16 bits."""


def said_by(network: Any, own: PeftModel | None = None) -> Tensor:
    """[T, V] log-probabilities of a network for a few tokens, among them those for which its adapter is special."""
    causal = network.get_base_model() if isinstance(network, PeftModel) else network
    ids = _probe(own if own is not None else network, text_config(causal).vocab_size).to(causal.device)
    with torch.no_grad():
        hidden = decoder_of(causal)(input_ids=ids, use_cache=False).last_hidden_state[0]
        return head_of(causal).logits(hidden).log_softmax(-1)


def _probe(network: Any, vocabulary: int) -> Tensor:
    """[1, T]"""
    ids = [i * 37 % vocabulary for i in range(1, 13)]
    if isinstance(network, PeftModel):
        config = network.peft_config[POLICY]
        special = getattr(config, "trainable_token_indices", None) or []
        for part in special.values() if isinstance(special, Mapping) else [special]:
            ids += part[:4]
        ids += getattr(config, "alora_invocation_tokens", None) or []
        ids += ids[:3]
    return torch.tensor([ids])


def settle_reference(model: Model, bare: Tensor | None = None) -> None:
    """Find what gives the policy of step 0, and see that training does not move it. Sets `start` and `rewritten`.

    Args:
        model: a PEFT model before its first step.
        bare: what `said_by` said of the base before it got the adapter; None: not known.

    Raises:
        InputError: the reference is not the policy, or the adapter does something that the learner would leave out.
    """
    network = model.network
    if bare is not None:
        before = said_by(model.causal)  # the same tokens as without an adapter
        with without(network):
            model.rewritten = _far(said_by(model.causal), bare) > SAME
        if model.rewritten and (apart := _far(before, bare)) > _rounding(model):
            raise InputError(
                f"init_lora_weights={network.peft_config[POLICY].init_lora_weights!r} rewrites the base, and base and "
                f"adapter together are another model than the base was: log-probabilities differ by {apart:.2g}. What "
                "is saved could not be loaded on the base again: choose another initialisation, or method 'qlora'"
            )
        if model.rewritten and network.peft_config[POLICY].use_dora:
            raise InputError(
                "use_dora with an initialisation that rewrites the base: the sizes that are trained are those of the "
                "rewritten base, and could not be saved for the base as it was; leave one of them out"
            )
    round_once(network)  # not before: the base alone rounds at other places
    with without(network):
        off = said_by(model.causal, network)
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    _refuse_shared(trained)
    if bare is not None and model.rewritten:
        _refuse_unconvertible(network.peft_config[POLICY])
        model.taken = {n: p.detach().clone() for n, p in trained.items()}
    if not trained:
        return
    policy = said_by(network)
    with in_place(trained, _stirred(trained)):
        check_head(network, model.name, _probe(network, text_config(model.causal).vocab_size))
        with without(network):
            moved = said_by(model.causal, network)
    if _far(policy, off) <= SAME and _far(off, moved) <= SAME:
        return
    model.start = {name: p.detach().clone() for name, p in trained.items()}
    with in_place(trained, _stirred(trained)), model.as_reference() as causal:
        apart = _far(said_by(causal, network), policy)
    if not apart <= _rounding(model):
        raise InputError(
            "the reference is not the policy at step 0: before the first step their log-probabilities differ by "
            f"{apart:.2g}. This adapter keeps state that cannot be put back; merge it into its base, or give ref_model"
        )


def _far(one: Tensor, other: Tensor) -> float:
    """Nats; what is not a number is far from everything."""
    return (one - other).abs().nan_to_num(torch.inf).max().item()


def _rounding(model: Model) -> float:
    return ROUNDING[model.causal.dtype != torch.float32]


def _stirred(trained: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """The same weights with noise of their own size."""
    made = {}
    for name, parameter in trained.items():
        noise = torch.sin(torch.arange(parameter.numel(), device=parameter.device) + 1.0).view_as(parameter)
        size = parameter.detach().float().abs().mean().clamp(min=0.02)
        made[name] = parameter.detach() + (noise * size).to(parameter.dtype)
    return made


def refresh_reference(model: Model) -> None:
    """Make the reference a frozen copy of the present policy.

    ValueError: full fine-tuning that keeps no reference.
    """
    if model.reference_network is not None:
        model.reference_network.load_state_dict(model.network.state_dict())
    elif not isinstance(model.network, PeftModel):
        raise InputError("there is no reference to refresh: load the model with keep_reference=True")
    else:
        own = model.network.named_parameters()
        model.start = {name: p.detach().clone() for name, p in own if p.requires_grad}
    model.reference_moved = True


def reference_weights(model: Model) -> dict[str, Tensor]:
    """Name -> the reference's own weights, for checkpoints once the reference has moved."""
    if model.reference_network is not None:
        return dict(model.reference_network.named_parameters())
    return dict(model.start or {})


def set_reference(model: Model, weights: Mapping[str, Tensor]) -> None:
    """Put back the weights that `reference_weights` gave, into a freshly loaded model."""
    refresh_reference(model)
    with torch.no_grad():
        for name, parameter in reference_weights(model).items():
            parameter.copy_(weights[name])


def _refuse_shared(trained: Mapping[str, nn.Parameter]) -> None:
    """InputError: two trained parameters are one piece of memory, and would be trained apart and saved as one."""
    places: dict[int, str] = {}
    for name, parameter in trained.items():
        if (first := places.setdefault(parameter.data_ptr(), name)) != name and parameter.numel():
            raise InputError(
                f"{first} and {name} share their numbers (ensure_weight_tying with LoRA on embedding and output "
                "layer), and would be trained apart: leave ensure_weight_tying out, or target one layer only"
            )


def _refuse_unconvertible(config: Any) -> None:
    """InputError: PEFT cannot save the adapter as a plain LoRA on the base before its initialisation rewrote it."""
    asked = {
        "bias": config.bias != "none",
        "modules_to_save": config.modules_to_save,
        "trainable_token_indices": config.trainable_token_indices,
        "use_rslora with rank_pattern or alpha_pattern": config.use_rslora
        and (config.rank_pattern or config.alpha_pattern),
    }
    if found := [name for name, given in asked.items() if given]:
        raise InputError(
            f"{' and '.join(found)}: with init_lora_weights={config.init_lora_weights!r}, which rewrites the base, "
            "PEFT cannot save the adapter for the base as it was; leave one of them out"
        )
