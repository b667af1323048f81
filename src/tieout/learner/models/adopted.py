"""Adopt a model that is given as an object: a transformers or a PEFT model becomes a Model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ...errors import InputError
from .adapters import POLICY, refuse_unrepeatable
from .architecture import attention_for, check_network, text_config
from .loading import frozen_copy, load
from .model import Model
from .names import portable, resolve
from .peft import (
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
)
from .reference import said_by, settle_reference
from .scalar_head import ScalarHead, ScalarKind, pad_of
from .weights import refuse_not_finite

Given = Any
"""A name, a transformers model or a PEFT model."""


def loaded_as(options: Mapping[str, Any] | None, bf16: bool) -> torch.dtype | str:
    """The precision that TRL's `model_init_kwargs` ask for; auto: what the machine computes natively."""
    rest = dict(options or {})
    wanted = rest.pop("dtype", None) or rest.pop("torch_dtype", None)
    rest.pop("torch_dtype", None)
    wanted_so = {k for k, v in rest.items() if v not in (None, False, "main", "auto")}
    if refused := sorted(
        {"quantization_config", "revision", "trust_remote_code", "load_in_4bit"} & wanted_so
    ):
        raise InputError(
            f"model_init_kwargs: {', '.join(refused)}: load the model yourself, and give it as an object"
        )
    if ignored := sorted(wanted_so):
        warnings.warn(f"model_init_kwargs: without effect: {', '.join(ignored)}", stacklevel=4)
    if isinstance(wanted, torch.dtype):
        return wanted
    if wanted in (None, "auto"):
        return "auto" if bf16 else torch.float32
    return getattr(torch, str(wanted).removeprefix("torch."))


def prepare_tokenizer(tokenizer: Any, template: str | None = None, **tokens: str | None) -> Any:
    """Give a tokenizer a chat template and special tokens, and a pad token if it has none.

    Args:
        tokenizer: is changed, and returned.
        template: a Jinja file, or the folder of a tokenizer whose template is taken.
        tokens: such as eos_token, as text; InputError: the tokenizer does not have them.
    """
    if template is not None and Path(template).suffix in (".jinja", ".j2"):
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    elif template is not None:
        tokenizer.chat_template = AutoTokenizer.from_pretrained(
            resolve(template)[1], trust_remote_code=False
        ).chat_template
    for name, token in tokens.items():
        if token is not None:
            if token not in tokenizer.get_vocab():
                raise InputError(f"{name}={token!r} is not a token of this tokenizer")
            setattr(tokenizer, name, token)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token  # rows are never padded here, but transformers may ask
    return tokenizer


def adopt(
    given: Given,
    tokenizer: Any,
    peft_config: PeftConfig | None,
    *,
    reference: Given | None = None,
    needs_reference: bool = False,
    head: ScalarKind | None = None,
    device: str | None = None,
    dtype: torch.dtype | str = "auto",
    seed: int = 0,
    template: str | None = None,
    special: Mapping[str, str | None] = MappingProxyType({}),
) -> Model:
    """The model that is trained, with its reference.

    A PEFT model, or one with `peft_config`, trains its adapter; any other model all its weights, as in TRL. The object
    that was given is the one that is trained.

    Args:
        given: name, transformers model or PEFT model.
        tokenizer: None takes the one that lies with the model.
        peft_config: LoRA settings for a fresh adapter.
        reference: another model as reference; None: the policy at step 0.
        needs_reference: full fine-tuning only: keep a frozen copy.
        head: a scalar head to add.
        device: where to; where the model lies already if None.
        dtype: of a model given by name.
        seed: of the adapter and the head.
        template: for the tokenizer, as of `prepare_tokenizer`.
        special: tokens for the tokenizer, as of `prepare_tokenizer`.
    """
    classifier: Any = None
    bare: torch.Tensor | None = None
    if isinstance(given, str):
        loaded = load(given, device=device, dtype=dtype)
        network, tokenizer, name = loaded.network, tokenizer or loaded.tokenizer, loaded.name
        score = loaded.score
    else:
        classifier = given
        linear = given.score if _classifies(given) else None
        if linear is not None and head != "score":
            raise InputError(
                "the policy is a sequence classifier, which samples nothing: give a causal model"
            )
        given = given if linear is None else _without_classifier(given)
        base = given.get_base_model() if isinstance(given, PeftModel) else given
        name = str(getattr(base.config, "_name_or_path", "") or "model")
        tokenizer = (
            tokenizer
            if tokenizer is not None
            else AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        )
        network, score = given, None
        if linear is not None:
            score = ScalarHead.of(linear.state_dict(), linear.weight.device)
            if linear.weight.dtype == torch.float32:
                classifier.score = score.linear  # what was given is what is trained
        base.set_attn_implementation(attention_for(base.config))
        refuse_not_finite(network.state_dict(), name)
        check_network(base, name)
        if device is not None:
            network.to(device)
    tokenizer = prepare_tokenizer(tokenizer, template, **special)
    model = Model(network, tokenizer, name, score=score)
    _refuse_vocabulary(model)
    if peft_config is not None:
        _refuse_foreign(peft_config)
        if isinstance(network, PeftModel):
            raise InputError("the model has an adapter already: leave peft_config out, or merge it first")
        network.requires_grad_(False)
        torch.manual_seed(seed)
        base_type = str(getattr(network.config, "model_type", ""))
        bare = said_by(network)
        model.network = get_peft_model(network, _causal(peft_config, base_type)).eval()
    if isinstance(model.network, PeftModel):
        _refuse_unfit(model.network, fresh=peft_config is not None)
        model.network.peft_config[POLICY].base_model_name_or_path = portable(name)
        model.network.eval()
        settle_reference(model, bare)
    else:
        model.network.requires_grad_(True)
        if needs_reference and reference is None:
            model.reference_network = frozen_copy(model.network)
    if reference is not None:
        model.reference_network = _frozen(
            load(reference, device=str(model.device), dtype=dtype).causal
            if isinstance(reference, str)
            else reference
        )
        if model.reference_network.device != model.device:
            model.reference_network.to(model.device)
        model.reference_network.set_attn_implementation(attention_for(model.reference_network.config))
        _refuse_other_vocabulary(model)
    model.network.eval()
    if head is not None and model.score is None:
        torch.manual_seed(seed)
        made = ScalarHead.new(head, text_config(model.causal).hidden_size, model.device)
        made.linear.requires_grad_(True)
        model.score, model.value = (made, None) if head == "score" else (None, made)
    elif model.score is not None:
        model.score.linear.requires_grad_(True)
    if model.score is not None:
        model.score.pad = pad_of(model.causal.config, tokenizer, peft_config is None)
        if classifier is not None:  # transformers reads it there
            classifier.config.get_text_config().pad_token_id = model.score.pad
    return model


def _classifies(given: Any) -> bool:
    """Whether it is a sequence classifier as an object. ValueError: one with an adapter already."""
    if isinstance(given, PeftModel) and hasattr(given.get_base_model(), "score"):
        raise InputError(
            "a sequence classifier that PEFT has wrapped: give the classifier, and its adapter as peft_config"
        )
    return isinstance(given, PreTrainedModel) and isinstance(getattr(given, "score", None), nn.Linear)


def _without_classifier(given: PreTrainedModel) -> PreTrainedModel:
    """A causal model around the layers of a sequence classifier; its output layer means nothing."""
    config = type(given.config).from_dict(given.config.to_dict())
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = True
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(config)
    setattr(causal, causal.base_model_prefix, given.base_model)
    causal.get_output_embeddings().weight = given.get_input_embeddings().weight
    return causal


def _frozen(network: Any) -> Any:
    return network.eval().requires_grad_(False)


def _causal(config: PeftConfig, kind: str) -> LoraConfig:
    """PEFT's task type is for its own wrappers; a scalar head is ours."""
    assert isinstance(config, LoraConfig)
    config = copy(config)  # the user's own stays as it is
    if config.task_type not in (None, "CAUSAL_LM"):
        config.task_type = "CAUSAL_LM"
    config.modules_to_save = [
        m for m in config.modules_to_save or [] if m not in ("score", "classifier")
    ] or None
    if config.target_modules is None and kind not in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        config.target_modules = "all-linear"
        warnings.warn(
            "peft_config names no target_modules, and PEFT knows none for this architecture: all linear layers but the "
            "output head",
            stacklevel=4,
        )
    return config


def _refuse_foreign(config: PeftConfig) -> None:
    if not isinstance(config, LoraConfig):
        raise InputError(
            f"the adapter is of a {type(config).__name__}; LoRA and DoRA (LoraConfig) are known here"
        )


def _refuse_unfit(network: PeftModel, fresh: bool) -> None:
    if POLICY not in network.peft_config:
        raise InputError(
            f"the PEFT model has adapters named {', '.join(network.peft_config)}; the one to train must be {POLICY!r}"
        )
    _refuse_foreign(network.peft_config[POLICY])
    if not fresh:
        refuse_unrepeatable(network.peft_config[POLICY], "the PEFT model's adapter")
    if not any(p.requires_grad for p in network.parameters()):
        raise InputError(
            "the PEFT model's adapter is frozen: load it with is_trainable=True, as in "
            "PeftModel.from_pretrained(model, folder, is_trainable=True)"
        )


def _refuse_vocabulary(model: Model) -> None:
    size = text_config(model.causal).vocab_size
    if len(model.tokenizer) > size:
        raise InputError(
            f"the tokenizer has {len(model.tokenizer)} tokens and the model {size}: call "
            "model.resize_token_embeddings(len(tokenizer)) first, or give the model's own tokenizer"
        )


def _refuse_other_vocabulary(model: Model) -> None:
    own, other = (text_config(network).vocab_size for network in (model.causal, model.reference_network))
    if own != other:
        raise InputError(f"ref_model has {other} tokens and the model {own}: they must share one vocabulary")
