"""Adapters on a frozen base: configuration, start from a saved one, and switching between several."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...errors import InputError
from ...sandbox.bounds import bounded
from .peft import (
    AuxiliaryTrainingWrapper,
    BaseTunerLayer,
    LoraConfig,
    PeftModel,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from .sixteen_bits import round_once
from .weights import misfit, read_tensors, refuse_changed, refuse_unused

POLICY = "default"
VALUE = "value"
"""A second adapter of the policy's shape, whose hidden states the value head reads."""
WEIGHTS = "adapter_model.safetensors"
REWARD = "reward"
"""A frozen reward model's adapter, on the policy's base."""


@dataclass(frozen=True)
class AdapterConfig:
    """The trained weights. Starting from an adapter, settings that are given must be those of the adapter."""

    method: Literal["lora", "dora", "qlora", "full"] = "lora"
    """lora: https://arxiv.org/abs/2106.09685; dora: https://arxiv.org/abs/2402.09353; qlora: lora over a base in 4
    bits, https://arxiv.org/abs/2305.14314, needs bitsandbytes; full: every weight."""
    rank: int | None = None
    """Width of the low-rank update; left out: 16, or that of the adapter it starts from."""
    alpha: float | None = None
    """The update is scaled by alpha / rank; left out: 32, or that of the adapter it starts from."""
    dropout: float = 0.0
    """Dropout before the adapter; above 0 no prompt can be shared between completions."""
    targets: str | None = None
    """`all-linear` (every linear layer but the output head), or module names separated by commas; left out:
    all-linear, or those of the adapter it starts from."""

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise InputError(f"adapter rank is {self.rank}; expected at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"adapter dropout is {self.dropout}; expected 0 or more, below 1")


def lora_config(adapter: AdapterConfig) -> LoraConfig:
    """PEFT's own description of a fresh adapter."""
    targets: str | list[str] = adapter.targets or "all-linear"
    if targets != "all-linear":
        targets = [t.strip() for t in str(targets).split(",")]
    return LoraConfig(
        r=adapter.rank or 16,
        lora_alpha=32.0 if adapter.alpha is None else adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        use_dora=adapter.method == "dora",
        task_type="CAUSAL_LM",
    )


def start_from(network: PreTrainedModel, folder: Path, adapter: AdapterConfig | None) -> PeftModel:
    """The network with the adapter in `folder` as its policy; trained if `adapter` is given. InputError if `adapter`
    asks for what the folder does not hold.
    """
    config = _read(folder)
    _refuse_endless(config, network, folder)
    weights = read_tensors(folder / WEIGHTS)
    if adapter is not None:
        _refuse_differences(folder, config, adapter)
        config.lora_dropout = adapter.dropout
    config.inference_mode = adapter is None
    options: dict[str, Any] = {"config": config, "torch_device": str(network.device)}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            peft = PeftModel.from_pretrained(
                network, str(folder), is_trainable=adapter is not None, **options
            )
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError, TypeError, UserWarning, ValueError) as error:  # of other layers or shapes
        raise InputError(misfit(folder / WEIGHTS, error)) from error
    refuse_unused(weights, get_peft_model_state_dict(peft, save_embedding_layers=False), folder / WEIGHTS)
    return peft.eval()


def add_frozen(peft: PeftModel, folder: Path, name: str) -> None:
    """Load the adapter in `folder` in addition to the others, without a gradient and not active."""
    config = _read(folder)
    _refuse_endless(config, peft, folder)
    if not _only_layers(config):
        raise InputError(
            f"the adapter in {folder} changes more of its base than LoRA's own layers, so it cannot share that with "
            "other adapters: merge it into its base, or use it as a model of its own"
        )
    config.inference_mode, config.lora_dropout = True, 0.0  # nothing could be shared, for a dropout never on
    config.init_lora_weights = True  # the weights come from the folder; PiSSA's would rewrite the base first
    if name not in peft.peft_config:  # a newer one of the same shape takes the place of an older one
        peft.add_adapter(name, config)
    weights = read_tensors(folder / WEIGHTS, str(next(peft.parameters()).device))
    try:
        missing = set_peft_model_state_dict(peft, weights, adapter_name=name).missing_keys
    except RuntimeError as error:
        raise InputError(misfit(folder / WEIGHTS, error)) from error
    if missing := [key for key in missing if f".{name}." in key]:
        raise InputError(misfit(folder / WEIGHTS, f"missing adapter keys: {missing}"))
    held = get_peft_model_state_dict(peft, adapter_name=name, save_embedding_layers=False)
    refuse_unused(weights, held, folder / WEIGHTS)
    for key, parameter in peft.named_parameters():
        if f".{name}." in key:
            parameter.requires_grad_(False)
    round_once(peft)
    peft.eval()


def fits_beside(folder: Path) -> bool:
    """Whether `add_frozen` can load the adapter in `folder`: it changes nothing but LoRA's own layers."""
    return _only_layers(_read(folder))


def _only_layers(config: LoraConfig) -> bool:
    return not config.modules_to_save and config.bias == "none" and not _repeats(config)


def _repeats(config: LoraConfig) -> bool:
    """Whether PEFT takes the same part of the base's weights away whenever it loads the adapter."""
    return str(config.init_lora_weights).lower() in ("pissa", "olora")


def refuse_unrepeatable(config: LoraConfig, what: str) -> None:
    """InputError: PEFT has rewritten the base when it made the adapter, in a way that it cannot repeat."""
    if str(config.init_lora_weights).lower().startswith(("pissa_niter", "corda", "lora_ga", "loftq")):
        raise InputError(
            f"{what} was made by init_lora_weights={config.init_lora_weights!r}, which rewrites the base as no load "
            "repeats it. Give the base and the configuration, or save the adapter as a plain LoRA, with PEFT's "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )


def _read(folder: Path) -> LoraConfig:
    refuse_changed(folder)
    for name in ("adapter_config.json", WEIGHTS):
        if not (folder / name).exists():
            raise InputError(
                f"{folder} holds no adapter: expected adapter_config.json and adapter_model.safetensors"
            )
    try:
        config = LoraConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder}/adapter_config.json is no configuration of an adapter ({error})"
        ) from error
    if not isinstance(config, LoraConfig):
        raise InputError(f"{folder} holds a {config.peft_type} adapter; only LoRA and DoRA are known here")
    refuse_unrepeatable(config, f"the adapter in {folder}")
    saved = [name for name in config.modules_to_save or [] if name not in ("score", "classifier")]
    config.modules_to_save, config.task_type = saved or None, "CAUSAL_LM"  # a score head is read apart
    return config


def _refuse_endless(config: LoraConfig, network: nn.Module, folder: Path) -> None:
    """InputError: a pattern for names of layers is none, or takes for ever on those of the base."""
    for key in ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"):
        given = getattr(config, key)
        for pattern in [given] if isinstance(given, str) else given if isinstance(given, Mapping) else ():
            where = f"{key} of {folder}/adapter_config.json, {str(pattern)[:80]!r},"
            try:
                with bounded(where):
                    for name, _ in network.named_modules():
                        re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name)
            except re.error as error:
                raise InputError(f"{where} is no regular expression ({error})") from error


def _refuse_differences(folder: Path, config: LoraConfig, adapter: AdapterConfig) -> None:
    """Refuse settings that differ from the adapter in the folder, which would silently have no effect."""
    if adapter.method == "dora" and not config.use_dora:
        raise InputError(f"adapter method 'dora' is asked, but {folder} holds a plain LoRA adapter")
    wanted: set[str] | None = None
    if adapter.targets not in (None, "all-linear"):
        wanted = {t.strip() for t in str(adapter.targets).split(",")}
    held = {"rank": config.r, "alpha": config.lora_alpha, "targets": config.target_modules}
    for name, asked in {"rank": adapter.rank, "alpha": adapter.alpha, "targets": wanted}.items():
        if asked is not None and asked != (set(held[name]) if name == "targets" else held[name]):
            raise InputError(
                f"adapter {name} is {asked}, but the adapter to start from ({folder}) has {held[name]}: leave "
                f"{name} out, or merge it into its base first and train a fresh one"
            )


@contextmanager
def using(network: Any, adapter: str | None) -> Iterator[None]:
    """Switch the active adapter without touching requires_grad (PEFT's own set_adapter would); None: as it is."""
    layers = tuner_layers(network) if adapter is not None else []
    before = [layer._active_adapter for layer in layers]
    try:
        for layer in layers:
            layer._active_adapter = [adapter]
        yield
    finally:
        for layer, names in zip(layers, before, strict=True):
            layer._active_adapter = names


@contextmanager
def without(network: PeftModel) -> Iterator[None]:
    """Switch all adapters off, without touching requires_grad (PEFT's own disable_adapter would)."""
    layers: list[Any] = [
        m for m in network.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)
    ]
    before = [layer._disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer._disable_adapters = True
        yield
    finally:
        for layer, off in zip(layers, before, strict=True):
            layer._disable_adapters = off


@contextmanager
def in_place(trained: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other weights in the place of what is trained; afterwards it is where it was, to the bit."""
    kept = {name: p.data for name, p in trained.items()}
    try:
        for name, parameter in trained.items():
            parameter.data = weights[name]
        yield
    finally:
        for name, parameter in trained.items():
            parameter.data = kept[name]


def tuner_layers(network: Any) -> list[Any]:
    """The layers that carry adapters."""
    return [m for m in network.modules() if isinstance(m, BaseTunerLayer)]
