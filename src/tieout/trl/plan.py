"""A configuration of TRL -> what is done here: method, optimizer, schedule, steps. Pure; a test walks every option."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

from ..errors import InputError
from ..learner import LearnerConfig
from ..methods import CPO, GRPO, KTO, ORPO, PPO, RLOO, SFT, Method, RewardModel
from .configs import Config, CPOConfig, DPOConfig, KTOConfig, ORPOConfig
from .dpo_losses import dpo
from .online_configs import GRPOConfig, PPOConfig, RLOOConfig


@dataclass(frozen=True)
class Scheduled:
    """A learning-rate schedule of transformers, by its name."""

    kind: str
    warmup: float
    """Steps, or below 1 a share of them."""
    options: Any = None
    learning_rate: float = 1.0
    """Of which the factors are; some schedules end at a rate of their own."""

    def rate(self, step: int, steps: int) -> float:
        """Factor for step `step` (from 0) of `steps`."""
        return self._factors(steps)(step)

    def _factors(self, steps: int) -> Any:
        known = self.__dict__.setdefault("_known", {})
        if steps not in known:
            import torch
            from transformers import get_scheduler

            dummy = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=self.learning_rate)
            warmup = ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)
            made = get_scheduler(
                self.kind, dummy, warmup, steps, scheduler_specific_kwargs=dict(self.options or {})
            )
            known[steps] = made.lr_lambdas[0]
        return known[steps]


@dataclass(frozen=True)
class Plan:
    """All that a trainer does with its configuration."""

    method: Method
    learner: LearnerConfig
    betas: tuple[float, float]
    epsilon: float
    schedule: Scheduled
    groups_per_step: int
    max_steps: int
    epochs: float
    drop_last: bool
    seed: int
    data_seed: int
    shuffle: bool
    max_length: int | None
    max_prompt_length: int | None
    max_completion_length: int | None
    truncation: str
    bf16: bool
    use_cpu: bool
    keep_checkpoints: int | None
    reporting: tuple[str, ...]
    progress_bar: bool
    text: tuple[Any, ...]
    """What the tokenizer is told: template, end and padding tokens; and which tokens SFT trains."""
    rewards: tuple[Any, ...] = ()
    """Weights and range of the rewards."""
    missing_eos_penalty: float = 0.0
    """Of RLOO; PPO's is its method's."""
    num_generations_eval: int | None = None
    """Completions a prompt in evaluations, drawn as in training; None: one, greedily."""
    vllm: str | None = None
    """Address of the server that samples."""
    vllm_seconds: float = 240.0
    """How long to wait for it to be up."""

    @cached_property
    def temperature(self) -> float:
        """Of rollouts, and of the log-probabilities that are trained."""
        return float(getattr(self.method, "temperature", 1.0))

    def steps(self, num_rows: int) -> int:
        """Optimizer steps for so many rows."""
        if self.max_steps > 0:
            return self.max_steps
        per_epoch = num_rows / self.groups_per_step
        return max(1, ceil(self.epochs * (int(per_epoch) if self.drop_last else ceil(per_epoch))))


def plan(config: Config, world: int = 1) -> Plan:
    """The plan of a configuration, for so many processes. ValueError: combinations that make no step."""
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps * world
    rollouts = isinstance(config, GRPOConfig | RLOOConfig)
    groups = rows
    if rollouts:
        groups = _prompts(config, rows)
    method = _method(config, groups)
    sampling = getattr(config, "train_sampling_strategy", "random")
    if sampling not in ("random", "sequential"):
        raise InputError(f"train_sampling_strategy is {sampling!r}; random and sequential are known here")
    get = lambda name, default=None: getattr(config, name, default)  # noqa: E731
    return Plan(
        method=method,
        learner=LearnerConfig(weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm or float("inf")),
        betas=(config.adam_beta1, config.adam_beta2),
        epsilon=config.adam_epsilon,
        schedule=Scheduled(
            _name(config.lr_scheduler_type),
            config.warmup_steps,
            config.lr_scheduler_kwargs or None,
            config.learning_rate,
        ),
        groups_per_step=method.batch_size,
        max_steps=_steps(config, groups),
        epochs=config.num_train_epochs,
        drop_last=config.dataloader_drop_last,
        seed=config.seed,
        data_seed=config.seed if config.data_seed is None else config.data_seed,
        shuffle=bool(get("shuffle_dataset")) if rollouts else sampling == "random" or bool(get("shuffle_dataset")),
        max_length=config.max_length,
        max_prompt_length=config.max_prompt_length,
        max_completion_length=get("max_completion_length") if isinstance(config, DPOConfig) else None,
        truncation=str(get("truncation_mode", "keep_start")),
        bf16=config.wants_bf16,
        use_cpu=config.use_cpu,
        keep_checkpoints=config.save_total_limit,
        reporting=tuple([config.report_to] if isinstance(config.report_to, str) else config.report_to or ()),
        progress_bar=not config.disable_tqdm,
        text=(get("chat_template_path"), get("eos_token"), config.pad_token, get("dataset_text_field", "text"),
              get("completion_only_loss"), get("assistant_only_loss", False), get("shuffle_dataset", False),
              repr(config.model_init_kwargs)),
        rewards=(tuple(get("reward_weights") or ()), get("reward_clip_range"), get("reward_model_path")),
        missing_eos_penalty=(get("missing_eos_penalty") or 0.0) if rollouts else 0.0,
        num_generations_eval=get("num_generations_eval"),
        vllm=_server(config) if get("use_vllm", False) else None,
        vllm_seconds=float(get("vllm_server_timeout") or 240.0),
    )  # fmt: skip


def _steps(config: Config, groups: int) -> int:
    """Steps in all, where the configuration says it; -1: epochs decide."""
    episodes = getattr(config, "total_episodes", None)
    if config.max_steps > 0 or episodes is None:
        return config.max_steps
    return ceil(
        episodes / ((getattr(config, "batch_size", None) or groups) * getattr(config, "num_generations", 1))
    )


def _prompts(config: GRPOConfig | RLOOConfig, completions: int) -> int:
    size = config.num_generations
    if completions % size:
        raise InputError(
            f"{completions} completions a step (per_device_train_batch_size * gradient_accumulation_steps * processes) "
            f"are not whole groups of num_generations={size}; change one of them"
        )
    if config.steps_per_generation not in (None, config.gradient_accumulation_steps):
        raise InputError(
            f"steps_per_generation={config.steps_per_generation}: completions are used in the step they were sampled "
            f"for; leave it out, or give gradient_accumulation_steps={config.gradient_accumulation_steps}"
        )
    if config.generation_batch_size not in (None, completions):
        raise InputError(
            f"generation_batch_size={config.generation_batch_size}: leave it out, or give {completions}"
        )
    return completions // size


def _method(config: Config, groups: int) -> Method:
    common: dict[str, Any] = {
        "learning_rate": config.learning_rate, "batch_size": groups, "epochs": config.num_train_epochs
    }  # fmt: skip
    kind = next(cls.__name__ for cls in type(config).__mro__ if cls.__name__ in _METHODS)
    method: Method = _METHODS[kind](config, common)
    return method


def _sft(config: Any, common: dict[str, Any]) -> Method:
    if config.loss_type != "nll":
        raise InputError(f"loss_type {config.loss_type!r}: SFT here is nll, the cross entropy")
    return SFT(**common)


def _reward(config: Any, common: dict[str, Any]) -> Method:
    return RewardModel(center_rewards_coefficient=config.center_rewards_coefficient or 0.0, **common)


def _kto(config: KTOConfig, common: dict[str, Any]) -> Method:
    weights = {"desirable_weight": config.desirable_weight, "undesirable_weight": config.undesirable_weight}
    return KTO(beta=config.beta, loss_type=config.loss_type, **weights, **common)  # type: ignore[arg-type]


def _orpo(config: ORPOConfig, common: dict[str, Any]) -> Method:
    return ORPO(beta=config.beta, **common)


def _cpo(config: CPOConfig, common: dict[str, Any]) -> Method:
    own = {
        name: getattr(config, name)
        for name in ("beta", "loss_type", "label_smoothing", "cpo_alpha", "simpo_gamma")
    }
    return CPO(**own, **common)


_LOSSES: dict[str, dict[str, Any]] = {
    "grpo": {"aggregation": "sequence"},
    "dapo": {"aggregation": "token"},
    "bnpo": {"aggregation": "token"},
    "dr_grpo": {"aggregation": "constant"},
    "cispo": {"aggregation": "token", "policy_loss": "cispo", "epsilon_low": 1.0},
    "sapo": {"aggregation": "sequence", "policy_loss": "sapo"},
}
"""TRL's loss_type is a choice of aggregation, and for two of them of the policy loss."""
_SCALES = {
    "group": "zscore",
    True: "zscore",
    "true": "zscore",
    "batch": "batch_zscore",
    "none": "mean",
    False: "mean",
}


def _rollouts(config: Any, common: dict[str, Any]) -> dict[str, Any]:
    if config.mask_truncated_completions and config.max_completion_length is None:
        raise InputError("mask_truncated_completions needs max_completion_length")
    return {
        "group_size": config.num_generations,
        "temperature": config.temperature,
        "max_new_tokens": config.max_completion_length or 512,
        "epsilon_low": config.epsilon,
        "epsilon_high": config.epsilon if config.epsilon_high is None else config.epsilon_high,
        "beta": config.beta,
        "updates_per_batch": config.num_iterations,
        "mask_cut_off": config.mask_truncated_completions,
        **common,
    }


def _grpo(config: GRPOConfig, common: dict[str, Any]) -> Method:
    if config.loss_type not in _LOSSES:
        raise InputError(f"loss_type {config.loss_type!r}; known are {', '.join(_LOSSES)}")
    if config.scale_rewards not in _SCALES:
        raise InputError(f"scale_rewards {config.scale_rewards!r}; known are group, batch and none")
    if config.importance_sampling_level not in ("token", "sequence"):
        raise InputError(f"importance_sampling_level {config.importance_sampling_level!r}: token or sequence")
    options = _rollouts(config, common) | _LOSSES[config.loss_type]
    if config.importance_sampling_level == "sequence":
        options["policy_loss"] = "gspo"
    if config.loss_type == "cispo" and config.epsilon_high is None:
        raise InputError("loss_type 'cispo' needs epsilon_high, the largest weight less 1, such as 4.0")
    cap = config.vllm_importance_sampling_cap or config.vllm_importance_sampling_clip_max
    corrected = config.use_vllm and config.vllm_importance_sampling_correction
    if corrected and config.vllm_importance_sampling_mode != "token_truncate":
        warnings.warn(
            f"vllm_importance_sampling_mode {config.vllm_importance_sampling_mode!r}: instead, weights of tokens are "
            f"truncated at {cap} (token_truncate)",
            stacklevel=3,
        )
    return GRPO(
        advantage=_SCALES[config.scale_rewards],  # type: ignore[arg-type]
        tau_positive=config.sapo_temperature_pos,
        tau_negative=config.sapo_temperature_neg,
        kl_correction=config.use_bias_correction_kl and bool(config.beta),
        entropy_coef=config.entropy_coef,
        tis_cap=float(cap or 0.0) if corrected else 0.0,
        **options,
    )


def _rloo(config: RLOOConfig, common: dict[str, Any]) -> Method:
    return RLOO(**_rollouts(config, common))


def _ppo(config: PPOConfig, common: dict[str, Any]) -> Method:
    size = config.batch_size or common["batch_size"]
    mini = (config.mini_batch_size or 0) * (config.gradient_accumulation_steps if config.batch_size else 1)
    if mini and size % mini:
        raise InputError(
            f"batch_size {size} is no multiple of the {mini} completions of an update "
            "(mini_batch_size, and with batch_size times gradient_accumulation_steps)"
        )
    parts = size // mini if mini else config.num_mini_batches
    if config.stop_token not in (None, "eos"):
        raise InputError(
            f"stop_token {config.stop_token!r}: completions end with the stop tokens of the model: 'eos'"
        )
    return PPO(
        group_size=1,
        num_mini_batches=parts,
        num_ppo_epochs=config.num_ppo_epochs,
        temperature=config.temperature,
        max_new_tokens=config.response_length,
        target_kl=config.target_kl or 0.0,
        epsilon_low=config.cliprange,
        epsilon_high=config.cliprange,
        gamma=config.gamma,
        lam=config.lam,
        value_coef=config.vf_coef,
        value_clip=config.cliprange_value,
        kl_coef=config.kl_coef if config.init_kl_coef is None else config.init_kl_coef,
        kl_estimator=config.kl_estimator,
        kl_target=config.target if config.adap_kl_ctrl else 0.0,
        kl_horizon=config.horizon,
        missing_eos_penalty=config.missing_eos_penalty or 0.0,
        whiten_rewards=config.whiten_rewards,
        **common | {"batch_size": size},
    )


_METHODS: dict[str, Any] = {
    "SFTConfig": _sft, "RewardConfig": _reward, "DPOConfig": dpo, "KTOConfig": _kto, "ORPOConfig": _orpo,
    "CPOConfig": _cpo, "GRPOConfig": _grpo, "RLOOConfig": _rloo, "PPOConfig": _ppo,
}  # fmt: skip


def _server(config: Any) -> str:
    url: str | None = config.vllm_server_base_url
    if (
        url is None
        and getattr(config, "vllm_mode", "server") == "server"
        and hasattr(config, "vllm_server_host")
    ):
        url = f"http://{config.vllm_server_host}:{config.vllm_server_port}"
    if url is None:
        raise InputError(
            "use_vllm: there is no engine in this process; start one with `make vllm`, then give "
            "vllm_mode='server' and vllm_server_base_url"
        )
    return url


def _name(value: Any) -> str:
    return str(getattr(value, "value", value))
