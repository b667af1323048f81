"""Translate a configuration of TRL into a plan: method, optimizer, schedule, steps. Pure; a test walks every option."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

from ..chat.tokens import Limits
from ..errors import InputError
from ..learner import LearnerConfig
from ..methods import Method, Rollouts
from ..training.library_schedule import LibrarySchedule
from ..training.passes import Passes
from .configs import DPOConfig, GRPOConfig, RLOOConfig
from .methods import method_of


@dataclass(frozen=True)
class Plan:
    """All that a trainer does with its configuration."""

    method: Method
    learner: LearnerConfig
    schedule: LibrarySchedule
    limits: Limits
    groups_per_step: int
    max_steps: int
    """-1: num_train_epochs decides."""
    shuffle: bool
    bf16: bool
    data_seed: int
    temperature: float
    """Of rollouts, and of the log-probabilities that are trained."""
    vllm: str | None
    """Address of the server that samples."""
    missing_eos_penalty: float
    """Taken off scores by the source; PPO's method does it itself."""

    # As the configuration has them.
    output_dir: str | None
    seed: int
    use_cpu: bool
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    num_train_epochs: float
    gradient_accumulation_steps: int
    dataloader_drop_last: bool
    save_total_limit: int | None
    report_to: Any
    disable_tqdm: bool
    pad_token: str | None
    model_init_kwargs: dict[str, Any] | None
    eos_token: str | None = None
    chat_template_path: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    dataset_text_field: str = "text"
    completion_only_loss: bool | None = None
    assistant_only_loss: bool = False
    reward_weights: list[float] | None = None
    reward_clip_range: list[float] | None = None
    reward_model_path: str | None = None
    num_generations_eval: int | None = None
    vllm_server_timeout: float = 240.0

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self.output_dir or "trainer_output")

    @property
    def max_rows(self) -> int | None:
        """How many rows the steps take, where the steps are known."""
        return self.max_steps * self.groups_per_step if self.max_steps > 0 else None

    def passes(self, num_rows: int) -> Passes:
        """How so many rows are divided into steps."""
        if isinstance(self.method, Rollouts):
            return Passes(num_rows, self.groups_per_step, whole=True)
        return Passes(
            num_rows, self.groups_per_step, self.gradient_accumulation_steps, self.dataloader_drop_last
        )

    def steps(self, num_rows: int) -> int:
        """Optimizer steps for so many rows."""
        return self.max_steps if self.max_steps > 0 else self.passes(num_rows).steps_of(self.num_train_epochs)


def plan(config: Any, world: int = 1) -> Plan:
    """The plan of a configuration, for so many processes. InputError: combinations that make no step."""
    rollouts = isinstance(config, GRPOConfig | RLOOConfig)
    groups = config.per_device_train_batch_size * config.gradient_accumulation_steps * world
    method = method_of(config, _prompts(config, groups) if rollouts else groups)
    sampling = getattr(config, "train_sampling_strategy", "random")
    if sampling not in ("random", "sequential"):
        raise InputError(f"train_sampling_strategy is {sampling!r}; random and sequential are known here")
    shuffled = bool(getattr(config, "shuffle_dataset", False))
    if rollouts and config.num_iterations > 1:
        text = f"num_iterations={config.num_iterations}: a step samples once and makes so many updates; TRL counts each"
        warnings.warn(
            f"{text} of them as a step, so max_steps, save_steps and their like go further here", stacklevel=3
        )
    same: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(Plan) if hasattr(config, f.name)}
    same |= {
        "method": method,
        "learner": LearnerConfig(weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm or float("inf")),
        "schedule": LibrarySchedule(
            str(getattr(config.lr_scheduler_type, "value", config.lr_scheduler_type)),
            config.warmup_steps, config.lr_scheduler_kwargs or None, config.learning_rate,
        ),
        "limits": Limits(
            config.max_length, config.max_prompt_length,
            config.max_completion_length if isinstance(config, DPOConfig) else None,
            getattr(config, "truncation_mode", "keep_start"),
        ),
        "groups_per_step": method.batch_size,
        "max_steps": _steps(config, method.batch_size),
        "shuffle": shuffled or (not rollouts and sampling == "random"),
        "bf16": config.wants_bf16,
        "data_seed": config.seed if config.data_seed is None else config.data_seed,
        "temperature": float(getattr(config, "temperature", 1.0)),
        "vllm": _server(config) if getattr(config, "use_vllm", False) else None,
        "missing_eos_penalty": (getattr(config, "missing_eos_penalty", None) or 0.0) if rollouts else 0.0,
    }  # fmt: skip
    return Plan(**same)


def _steps(config: Any, groups: int) -> int:
    """Steps in all, where the configuration says it; -1: epochs decide."""
    episodes = getattr(config, "total_episodes", None)
    if config.max_steps > 0 or episodes is None:
        return int(config.max_steps)
    return ceil(episodes / (groups * getattr(config, "num_generations", 1)))


def _prompts(config: Any, completions: int) -> int:
    """Prompts per step. A batch counts completions; one that is too small for a group counted prompts in TRL 0.14."""
    size, prompts = config.num_generations, completions // config.num_generations
    if completions < size and size % completions == 0 and config.gradient_accumulation_steps == 1:
        prompts, completions = completions, completions * size
        warnings.warn(
            f"a batch of {prompts} completions holds no group of num_generations={size}: taken as in TRL 0.14, where "
            f"it counted prompts, as {prompts} prompts of {size} completions per step; a total batch of {completions} "
            "says the same today",
            stacklevel=4,
        )
    elif completions % size:
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
    return int(prompts)


def _server(config: Any) -> str:
    host, url = getattr(config, "vllm_server_host", None), config.vllm_server_base_url
    if url is None and (host is None or config.vllm_mode != "server"):
        raise InputError(
            "use_vllm: there is no engine in this process; start one with `make vllm`, then give "
            "vllm_mode='server' and vllm_server_base_url"
        )
    return url or f"http://{host}:{config.vllm_server_port}"
