"""Load a causal language model and give it an adapter and heads."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ...chat.template import Chat, why_not
from ...errors import InputError
from .adapters import POLICY, VALUE, AdapterConfig, add_frozen, lora_config, start_from, without
from .architecture import context, text_config
from .base_record import refuse_other_base
from .bases import Bases, load_base
from .hub import refuse_unreachable
from .model import Model
from .names import portable, resolve, tokenizer_in
from .peft import PeftModel, get_peft_model
from .precision import Precision, native_bf16, precision
from .reference import said_by, settle_reference
from .scalar_head import ScalarHead, ScalarKind, adapter_score, load_value, pad_of
from .sixteen_bits import exact_magnitudes, round_once
from .weights import adapter_tensors, refuse_changed, refuse_large_tokenizer


def load(
    name: str,
    adapter: AdapterConfig | None = None,
    *,
    start: Path | None = None,
    seed: int = 0,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    keep_reference: bool = False,
    head: ScalarKind | None = None,
    value_adapter: bool = False,
    four_bits: bool = False,
    bases: Bases | None = None,
) -> Model:
    """Load a base by hub id, local folder, GGUF file or our own name, and put an adapter on it.

    Args:
        name: hub id, folder of a causal model, folder of a PEFT adapter (its base is loaded, and it becomes the
            start), GGUF file, `tieout-base`, or `smollm2-135m`.
        adapter: what to train; None loads for inference only.
        start: folder of a PEFT adapter to start from. The reference is then a frozen copy of it.
        seed: of the new adapter's weights.
        dtype: of the base: a torch dtype, or fp32, bf16 or auto (see `precision`); None: auto.
        device: cuda if there is one, else cpu, if None.
        keep_reference: full fine-tuning only: keep a frozen copy of the network.
        head: a scalar head to add: `score` makes a reward model, `value` is for PPO. A head that was saved with the
            checkpoint or adapter is loaded; a saved reward model is recognised automatically.
        value_adapter: the value head reads an adapter of its own instead of the policy's.
        four_bits: load the base in 4 bits, as it is for an adapter of method `qlora`, also without `adapter`.
        bases: where a base that is loaded already is taken from; the model that had it before is then closed. None, and
            full fine-tuning, which changes the base: load it from disk.
    """
    device = device_of(device)
    name, source, own = resolve(name)
    if own is not None and start is not None:
        raise InputError(f"{own} is an adapter, and start={start} names another: give one of the two")
    start = Path(start) if start is not None else own
    refuse_unreachable(name, source)
    for folder in (Path(source), start):
        refuse_changed(folder)
    if start is not None:
        refuse_other_base(start, source)
    four_bits = four_bits or (adapter is not None and adapter.method == "qlora")
    if adapter is not None and adapter.method == "full":
        bases = None
    if not isinstance(dtype, torch.dtype):
        dtype = precision_of(name, dtype or "auto", device, four_bits).dtype
    base = (bases.borrow if bases else load_base)(name, source, dtype, device, four_bits)
    network, tensors = base.network, base.score
    tokenizer = tokenizer_in(start, base.tokenizer)
    rows = network.get_input_embeddings().weight.shape[0]
    refuse_large_tokenizer(tokenizer, rows, str(start or name), adapter_tensors(start))
    if resized := len(tokenizer) > rows:  # as PEFT does
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        network.requires_grad_(False)
    if start is not None and (Path(start) / "adapter_config.json").exists():
        tensors = adapter_score(Path(start)) or tensors
    model = Model(network, tokenizer, name, own_tokenizer=tokenizer is not base.tokenizer)
    model = _with_adapter(model, adapter, start, seed, keep_reference)
    if tensors is not None or head == "score":
        _add_score(model, tensors, adapter, seed)
    if head == "value":
        _add_value(model, adapter, start or Path(source), seed, value_adapter)
    for scalar in filter(None, (model.score, model.value)):
        scalar.linear.requires_grad_(adapter is not None)
    if bases is not None and not (model.rewritten or resized):
        bases.lend(base, model, source, dtype, device, four_bits)
    return model


def device_of(asked: str | None) -> str:
    """The device to load onto. InputError: there is no such device here."""
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError as error:
        raise InputError(f"device is {asked!r}; expected cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device is {asked!r}, but torch finds no CUDA device here; use cpu")
    return asked


def _with_adapter(
    model: Model, adapter: AdapterConfig | None, start: Path | None, seed: int, keep_reference: bool
) -> Model:
    """The model with what is to be trained: an adapter, fresh or started from, or all of it."""
    if adapter is None and start is None:
        return model
    if adapter is not None and adapter.method == "full":
        if start is not None:
            raise InputError("full fine-tuning cannot start from an adapter: merge it first (`tieout ship`)")
        model.reference_network = frozen_copy(model.network) if keep_reference else None
        model.network.requires_grad_(True)
        return model
    bare = said_by(model.network)
    if start is not None:
        model.network = start_from(model.network, Path(start), adapter)
    else:
        assert adapter is not None
        torch.manual_seed(seed)
        model.network = get_peft_model(model.network, lora_config(adapter)).eval()
        exact_magnitudes(model.network, POLICY)
    if start is not None:  # PEFT repeats on loading what an initialisation did to the base
        with without(model.network):
            model.rewritten = not torch.equal(said_by(model.causal), bare)
    settle_reference(model, bare if start is None else None)
    # PEFT would write the folder it was loaded from.
    model.network.peft_config[POLICY].base_model_name_or_path = portable(model.name)
    return model


def _add_score(
    model: Model, tensors: dict[str, torch.Tensor] | None, adapter: AdapterConfig | None, seed: int
) -> None:
    """The score head with these weights, or a new one; it reads where the checkpoint's maker did."""
    config = text_config(model.causal)
    whole = tensors is None and adapter is not None and adapter.method == "full"
    # A saved head goes with the tokenizer next to it; that of a policy was not chosen for a head.
    pad = model.tokenizer.pad_token_id if model.own_tokenizer and tensors is not None else None
    if pad is None and adapter is None:
        pad = config.pad_token_id
    elif pad is None:
        model.tokenizer, model.own_tokenizer = copy.deepcopy(model.tokenizer), True
        pad = pad_of(config, model.tokenizer, whole)
    if tensors is not None:
        model.score = ScalarHead.of(tensors, model.device, pad=pad)
    else:
        torch.manual_seed(seed)
        model.score = ScalarHead.new("score", config.hidden_size, model.device, pad=pad)


def _add_value(model: Model, adapter: AdapterConfig | None, saved: Path, seed: int, own: bool) -> None:
    """The value head that lies in `saved`, or a new one; on an adapter of its own if `own`."""
    if model.only_scores:
        raise InputError(f"{model.name} is a reward model: it has no policy that a value head could serve")
    tensors, width = load_value(saved), text_config(model.causal).hidden_size
    if own:
        if model.rewritten:
            raise InputError(
                "the policy's adapter has rewritten its base, which a value head on an adapter of its own would need"
            )
        if adapter is None or not isinstance(model.network, PeftModel):
            raise InputError(
                "a value head on an adapter of its own needs an adapter to train: not method 'full'"
            )
        torch.manual_seed(seed)
        if (saved / VALUE / "adapter_config.json").exists():
            add_frozen(model.network, saved / VALUE, VALUE)
        else:
            policy = model.network.peft_config[POLICY]
            fresh: dict[str, Any] = {"init_lora_weights": True, "modules_to_save": None, "bias": "none"}
            model.network.add_adapter(VALUE, replace(policy, inference_mode=False, **fresh))
            round_once(model.network)
        for name, parameter in model.network.named_parameters():
            if f".{VALUE}." in name:
                parameter.requires_grad_(True)
        model.network.eval()
    where = VALUE if own else None
    if tensors is not None:
        model.value = ScalarHead.of(tensors, model.device, where)
    else:
        model.value = ScalarHead.new("value", width, model.device, where)


def load_chat(name: str) -> Chat:
    """The tokenizer and chat template of a model or adapter, without its weights."""
    base, source, own = resolve(name)
    refuse_unreachable(base, source)
    chat = Chat.load(source)
    return replace(chat, tokenizer=tokenizer_in(own, chat.tokenizer))


def context_of(name: str) -> int:
    """The longest sequence a model was built for, in tokens, without loading its weights."""
    base, source, _ = resolve(name)
    refuse_unreachable(base, source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"model {name!r} could not be loaded: its configuration is not known ({why_not(error)})"
        ) from error
    return context(config.get_text_config())


def precision_of(name: str, asked: str, device: str | None = None, four_bits: bool = False) -> Precision:
    """The precision that `load` would give this model, and why."""
    device = device_of(device)
    matters = asked == "auto" and device == "cpu" and not four_bits and native_bf16()
    return precision(asked, device, parameters_of(name) if matters else 0, four_bits)


def parameters_of(name: str) -> int:
    """How many parameters a base has, without loading its weights."""
    base, source, _ = resolve(name)  # converts a GGUF file, which has to be on a real device
    refuse_unreachable(base, source)
    try:
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(
                AutoConfig.from_pretrained(source, trust_remote_code=False)
            )
    except Exception as error:
        raise InputError(
            f"model {name!r} could not be loaded: its size is not known ({why_not(error)})"
        ) from error
    return sum(parameter.numel() for parameter in network.parameters())


def frozen_copy(network: PreTrainedModel) -> PreTrainedModel:
    """The same network, which no training moves."""
    copy = type(network)(network.config).to(network.device, network.dtype)
    copy.load_state_dict(network.state_dict())
    return copy.eval().requires_grad_(False)
