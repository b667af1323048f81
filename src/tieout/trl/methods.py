"""Translate a configuration of TRL into the method that is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from ..errors import InputError
from ..losses.preference import PAIR_LOSSES
from ..losses.supervised import cross_entropy
from ..methods import CPO, DPO, GRPO, KTO, ORPO, PPO, RLOO, SFT, Method, RewardModel
from .options import name_of

_ROLLOUTS = (
    "group_size=num_generations max_new_tokens=max_completion_length temperature beta epsilon_low=epsilon epsilon_high "
    "updates_per_batch=num_iterations mask_cut_off=mask_truncated_completions"
)
FIELDS: dict[str, str] = {
    "SFTConfig": "",
    "RewardConfig": "center_rewards_coefficient",
    "DPOConfig": "beta ld_alpha divergence=f_divergence_type rpo_alpha",
    "KTOConfig": "beta loss_type desirable_weight undesirable_weight",
    "ORPOConfig": "beta",
    "CPOConfig": "beta loss_type label_smoothing cpo_alpha simpo_gamma",
    "GRPOConfig": f"{_ROLLOUTS} entropy_coef tau_positive=sapo_temperature_pos tau_negative=sapo_temperature_neg",
    "RLOOConfig": _ROLLOUTS,
    "PPOConfig": "num_ppo_epochs num_mini_batches temperature gamma lam kl_estimator kl_coef target_kl whiten_rewards "
    "missing_eos_penalty max_new_tokens=response_length epsilon_low=cliprange epsilon_high=cliprange "
    "value_coef=vf_coef value_clip=cliprange_value kl_horizon=horizon",
}
"""Configuration -> the method's fields, each with the option it is taken from if that has another name."""
_LOSSES: dict[str, dict[str, Any]] = {
    "grpo": {"aggregation": "sequence"},
    "dapo": {"aggregation": "token"},
    "bnpo": {"aggregation": "token"},
    "dr_grpo": {"aggregation": "constant"},
    "cispo": {"aggregation": "token", "policy_loss": "cispo", "epsilon_low": 1.0},
    "sapo": {"aggregation": "sequence", "policy_loss": "sapo"},
}
"""TRL's loss_type is a choice of aggregation, and for two of them of the policy loss."""
_SCALES = dict.fromkeys(("group", "true", True), "zscore") | dict.fromkeys(("none", False), "mean")
_SCALES["batch"] = "batch_zscore"


def method_of(config: Any, groups: int) -> Method:
    """The method, for so many groups per step. InputError: options that do not go together."""
    name = name_of(type(config))
    fields: dict[str, Any] = {
        "learning_rate": config.learning_rate,
        "batch_size": groups,
        "epochs": config.num_train_epochs,
    }
    for word in FIELDS[name].split():
        field, _, option = word.rpartition("=")
        if (value := getattr(config, option)) is not None:  # of None the method has its own meaning
            fields[field or option] = value
    method: Method = _MAKE[name](config, fields)
    return method


def _sft(config: Any, fields: dict[str, Any]) -> SFT:
    if config.loss_type != "nll":
        raise InputError(f"loss_type {config.loss_type!r}: SFT here is nll, the cross entropy")
    return SFT(**fields)


# ------------------------------------------------------------ rollouts


def _rollouts(config: Any, fields: dict[str, Any]) -> dict[str, Any]:
    if config.mask_truncated_completions and config.max_completion_length is None:
        raise InputError("mask_truncated_completions needs max_completion_length")
    return {"max_new_tokens": 512, "epsilon_high": config.epsilon, **fields}


def _grpo(config: Any, fields: dict[str, Any]) -> GRPO:
    for option, known in (("loss_type", _LOSSES), ("scale_rewards", _SCALES),
                          ("importance_sampling_level", ("token", "sequence"))):  # fmt: skip
        if getattr(config, option) not in known:
            raise InputError(f"{option} {getattr(config, option)!r}; known are {', '.join(map(str, known))}")
    fields = _rollouts(config, fields) | _LOSSES[config.loss_type]
    if config.importance_sampling_level == "sequence":
        fields["policy_loss"] = "gspo"
    if config.loss_type == "cispo" and config.epsilon_high is None:
        raise InputError("loss_type 'cispo' needs epsilon_high, the largest weight less 1, such as 4.0")
    if config.use_vllm and config.vllm_importance_sampling_correction:
        cap = config.vllm_importance_sampling_cap or config.vllm_importance_sampling_clip_max
        fields["tis_cap"] = float(cap or 0.0)
        if config.vllm_importance_sampling_mode != "token_truncate":
            warnings.warn(
                f"vllm_importance_sampling_mode {config.vllm_importance_sampling_mode!r}: instead, weights of tokens "
                f"are truncated at {cap} (token_truncate)",
                stacklevel=4,
            )
    correction = config.use_bias_correction_kl and bool(config.beta)
    return GRPO(advantage=_SCALES[config.scale_rewards], kl_correction=correction, **fields)  # type: ignore[arg-type]


def _rloo(config: Any, fields: dict[str, Any]) -> GRPO:
    return RLOO(**_rollouts(config, fields))


def _ppo(config: Any, fields: dict[str, Any]) -> PPO:
    size = config.batch_size or fields["batch_size"]
    mini = (config.mini_batch_size or 0) * (config.gradient_accumulation_steps if config.batch_size else 1)
    if mini and size % mini:
        raise InputError(
            f"batch_size {size} is no multiple of the {mini} completions of an update "
            "(mini_batch_size, and with batch_size times gradient_accumulation_steps)"
        )
    if config.stop_token not in (None, "eos"):
        raise InputError(
            f"stop_token {config.stop_token!r}: completions end with the stop tokens of the model: 'eos'"
        )
    fields |= {
        "batch_size": size,
        "group_size": 1,
        "kl_target": config.target if config.adap_kl_ctrl else 0.0,
    }
    fields.setdefault("target_kl", 0.0)
    fields |= {"num_mini_batches": size // mini} if mini else {}
    fields |= {} if config.init_kl_coef is None else {"kl_coef": config.init_kl_coef}
    return PPO(**fields)


# ------------------------------------------------------------ DPO


class WeightedLoss(NamedTuple):
    """One of DPO's losses, and how much it counts."""

    weight: float
    method: DPO


@dataclass(frozen=True)
class SeveralLosses(DPO):
    """A weighted sum of DPO's losses."""

    parts: tuple[WeightedLoss, ...] = ()

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The metrics are the same for all of them."""
        losses, metrics = zip(*(part.method.loss(outputs, batch) for part in self.parts), strict=True)
        total = torch.stack([part.weight * loss for part, loss in zip(self.parts, losses, strict=True)]).sum()
        if self.rpo_alpha:
            total = total + self.rpo_alpha * batch.best_token_mean(cross_entropy(outputs.logprobs))
        return total, metrics[0]


def _dpo(config: Any, fields: dict[str, Any]) -> DPO:
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


def _one(config: Any, name: str, fields: dict[str, Any], alone: bool) -> DPO:
    """One of the losses. Alone it is told all options, and refuses those it does not take; of several, its own."""
    given = {"label_smoothing": config.label_smoothing, "discopop_tau": config.discopop_tau}
    options = {k: v for k, v in given.items() if alone or k in PAIR_LOSSES[name].options}
    if name == "exo_pair" and not config.label_smoothing:
        options["label_smoothing"] = 1e-3  # TRL does this, too, but without saying so
        warnings.warn("exo_pair needs label_smoothing above 0: it is 0.001", stacklevel=6)
    return DPO(loss_type=name, **options, **fields)  # type: ignore[arg-type]


def _plainly(method: Callable[..., Method]) -> Callable[[Any, dict[str, Any]], Method]:
    return lambda config, fields: method(**fields)


_MAKE: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "SFTConfig": _sft, "RewardConfig": _plainly(RewardModel), "DPOConfig": _dpo, "KTOConfig": _plainly(KTO),
    "ORPOConfig": _plainly(ORPO), "CPOConfig": _plainly(CPO), "GRPOConfig": _grpo, "RLOOConfig": _rloo,
    "PPOConfig": _ppo,
}  # fmt: skip
