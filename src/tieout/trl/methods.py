"""Translate a configuration of TRL into the method that is trained, by the tables of `methods.yaml`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.yaml_file import read_yaml
from ..errors import InputError
from ..losses.preference import PAIR_LOSSES
from ..methods import CPO, DPO, GRPO, KTO, ORPO, PPO, RLOO, SFT, Method, RewardModel
from ..methods.several_losses import SeveralLosses, WeightedLoss
from .options import name_of

TABLES: dict[str, dict[str, Any]] = read_yaml(Path(__file__).with_name("methods.yaml"))
Fields = dict[str, Any]


def method_of(config: Any, groups: int) -> Method:
    """The method, for so many groups per step. InputError: options that do not go together."""
    name = name_of(type(config))
    fields: Fields = {
        "learning_rate": config.learning_rate,
        "batch_size": groups,
        "epochs": config.num_train_epochs,
    }
    for word in TABLES["fields"][name].split():
        field, _, option = word.rpartition("=")
        if (value := getattr(config, option)) is not None:  # of None the method has its own meaning
            fields[field or option] = value
    method: Method = _MAKE[name](config, fields)
    return method


def _plainly(method: Callable[..., Method]) -> Callable[[Any, Fields], Method]:
    return lambda config, fields: method(**fields)


def _sft(config: Any, fields: Fields) -> SFT:
    if config.loss_type != "nll":
        raise InputError(f"loss_type {config.loss_type!r}: SFT here is nll, the cross entropy")
    return SFT(**fields)


def _rollouts(config: Any, fields: Fields) -> Fields:
    if config.mask_truncated_completions and config.max_completion_length is None:
        raise InputError("mask_truncated_completions needs max_completion_length")
    return {"max_new_tokens": 512, "epsilon_high": config.epsilon, **fields}


def _grpo(config: Any, fields: Fields) -> GRPO:
    fields = _rollouts(config, fields)
    for option, choices in TABLES["choices"].items():
        value = str(getattr(config, option))
        if value not in choices and value.capitalize() not in choices:
            raise InputError(f"{option} {value!r}; known are {', '.join(choices)}")
        fields |= choices.get(value) or choices.get(value.capitalize(), {})
    if config.loss_type == "cispo" and config.epsilon_high is None:
        raise InputError("loss_type 'cispo' needs epsilon_high, the largest weight less 1, such as 4.0")
    if config.use_vllm:
        asked = config.vllm_importance_sampling_correction
        cap = asked and (config.vllm_importance_sampling_cap or config.vllm_importance_sampling_clip_max)
        fields["tis_cap"] = float(cap or 0.0)
        if asked and config.vllm_importance_sampling_mode != "token_truncate":
            warnings.warn(
                f"vllm_importance_sampling_mode {config.vllm_importance_sampling_mode!r}: instead, weights of tokens "
                f"are truncated at {cap} (token_truncate)",
                stacklevel=4,
            )
    return GRPO(kl_correction=config.use_bias_correction_kl and bool(config.beta), **fields)


def _rloo(config: Any, fields: Fields) -> GRPO:
    return RLOO(**_rollouts(config, fields))


def _ppo(config: Any, fields: Fields) -> PPO:
    size = config.batch_size or fields["batch_size"]
    mini = (config.mini_batch_size or 0) * (config.gradient_accumulation_steps if config.batch_size else 1)
    if mini and size % mini:
        raise InputError(
            f"batch_size {size} is no multiple of the {mini} completions of an update "
            "(mini_batch_size, and with batch_size times gradient_accumulation_steps)"
        )
    if config.stop_token not in (None, "eos"):
        raise InputError(
            f"stop_token {config.stop_token!r}: completions end with the model's stop tokens: 'eos'"
        )
    if config.use_score_scaling != config.use_score_norm:
        raise InputError("use_score_scaling and use_score_norm: give both, or scale the scores yourself")
    fields |= {
        "batch_size": size,
        "group_size": 1,
        "kl_target": config.target if config.adap_kl_ctrl else 0.0,
    }
    fields |= {"num_mini_batches": size // mini} if mini else {}
    fields |= {} if config.init_kl_coef is None else {"kl_coef": config.init_kl_coef}
    return PPO(**{"target_kl": 0.0, **fields})


def _dpo(config: Any, fields: Fields) -> DPO:
    losses = [config.loss_type] if isinstance(config.loss_type, str) else list(config.loss_type)
    weights = config.loss_weights or [1.0] * len(losses)
    if len(weights) != len(losses):
        raise InputError(
            f"{len(weights)} loss_weights for {len(losses)} losses of loss_type; give one for each"
        )
    if unknown := [name for name in losses if name not in PAIR_LOSSES and name != "sft"]:
        raise InputError(f"loss_type {unknown[0]!r} is not here; known are {', '.join(PAIR_LOSSES)} and sft")
    weighted: dict[str, float] = {}
    for name, weight in zip(losses, weights, strict=True):
        weighted[name] = weighted.get(name, 0.0) + weight
    # TRL's coefficient is one minus the paper's, which is ours.
    fields |= {"divergence_alpha": 1 - config.f_alpha_divergence_coef}
    cross = fields.pop("rpo_alpha", 0.0) + weighted.pop("sft", 0.0)
    if not weighted:
        raise InputError("loss_type is sft alone, which compares nothing: use SFTTrainer")
    alone = len(losses) == 1
    parts = [WeightedLoss(weight, _one(config, name, fields, alone)) for name, weight in weighted.items()]
    if len(parts) == 1 and parts[0].weight == 1:
        return replace(parts[0].method, rpo_alpha=cross)
    return SeveralLosses(**fields, rpo_alpha=cross, parts=tuple(parts))


def _one(config: Any, name: str, fields: Fields, alone: bool) -> DPO:
    """One of the losses. Alone it is told all options, and refuses those it does not take; of several, its own."""
    given = {"label_smoothing": config.label_smoothing, "discopop_tau": config.discopop_tau}
    options: Fields = {k: v for k, v in given.items() if alone or k in PAIR_LOSSES[name].options}
    if name == "exo_pair" and not config.label_smoothing:
        options["label_smoothing"] = 1e-3  # TRL does this, too, but without saying so
        warnings.warn("exo_pair needs label_smoothing above 0: it is 0.001", stacklevel=6)
    return DPO(**{"loss_type": name, **options, **fields})


_MAKE: dict[str, Callable[[Any, Fields], Any]] = {
    "SFTConfig": _sft, "RewardConfig": _plainly(RewardModel), "DPOConfig": _dpo, "KTOConfig": _plainly(KTO),
    "ORPOConfig": _plainly(ORPO), "CPOConfig": _plainly(CPO), "GRPOConfig": _grpo, "RLOOConfig": _rloo,
    "PPOConfig": _ppo,
}  # fmt: skip
