"""TRL's configuration classes: the same names and defaults, and the names of earlier versions."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, cast

from transformers import TrainingArguments

from .options import check

C = TypeVar("C", bound=type)

RENAMED: dict[str, dict[str, str]] = {
    "": {
        "evaluation_strategy": "eval_strategy",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "no_cuda": "use_cpu",
        "warmup_ratio": "warmup_steps",
    },
    "SFTConfig": {"max_seq_length": "max_length", "dataset_batch_size": ""},
    "DPOConfig": {"max_target_length": "max_completion_length", "generate_during_eval": ""},
    "GRPOConfig": {"max_new_tokens": "max_completion_length", "vllm_device": "", "max_grad_value": ""},
    "PPOConfig": {
        "ppo_epochs": "num_ppo_epochs",
        "vllm_device": "",
        "max_new_tokens": "response_length",
        "steps": "max_steps",
        "log_with": "report_to",
        "optimize_cuda_cache": "",
        "early_stopping": "",
        "optimize_device_cache": "",
        "forward_batch_size": "mini_batch_size",
        "local_rollout_forward_batch_size": "",
        "exp_name": "run_name",
        "tracker_project_name": "",
        "tracker_kwargs": "",
        "accelerator_kwargs": "",
        "project_kwargs": "",
        "task_name": "",
        "query_dataset": "",
        "reward_model": "",
        "world_size": "",
    },
    "RLOOConfig": {
        "rloo_k": "num_generations",
        "kl_coef": "beta",
        "max_new_tokens": "max_completion_length",
        "response_length": "max_completion_length",
        "num_ppo_epochs": "num_iterations",
        "cliprange": "epsilon",
        "local_rollout_forward_batch_size": "",
    },
}
"""Class -> older name -> today's; "" where the option has gone and changed no number."""

CONFIGS: dict[str, type] = {}
"""Name -> class."""


def config(cls: C) -> C:
    """A dataclass whose constructor also takes older names, with one warning, and says what it does not know."""
    made: Any = dataclass(cls)
    CONFIGS[cls.__name__] = made
    known = {f.name for f in dataclasses.fields(made) if f.init}
    generated: Callable[..., None] = made.__init__

    @functools.wraps(generated)
    def init(self: Any, *given: Any, **options: Any) -> None:
        generated(self, *given, **_translated(cls.__name__, options, known))

    made.__init__ = init
    return cast(C, made)


def _translated(name: str, options: dict[str, Any], known: set[str]) -> dict[str, Any]:
    renamed = RENAMED[""] | RENAMED.get(name, {})
    result, older = {}, []
    for option, value in options.items():
        new = option if option in known else renamed.get(option)
        if new is None:
            near = get_close_matches(option, [*known, *renamed], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{name} has no option {option!r}{hint}")
        if new != option:
            older.append(f"{option} (now {new})" if new else f"{option} (gone)")
        if not new:
            continue
        if new in result or (new != option and new in options):
            raise TypeError(f"{name}: {option!r} is the older name of {new!r}; give one of the two")
        result[new] = value
    if older:
        warnings.warn(f"{name}: older names are still taken: {', '.join(older)}", FutureWarning, stacklevel=4)
    return result


@dataclass
class Config(TrainingArguments):
    """What all of them share: transformers' TrainingArguments with TRL's defaults.

    Options that are set and cannot be honoured are an error, those that change no number are named in one warning.
    """

    learning_rate: float = 1e-6
    """Peak learning rate of AdamW."""
    logging_steps: float = 10
    """Steps between two entries of the log history."""
    gradient_checkpointing: bool | None = True
    """Without effect: activations are recomputed only where they do not fit."""
    bf16: bool | None = None
    """bf16 on CUDA, fp32 on the CPU; False: fp32 everywhere."""
    fp16: bool = False
    push_to_hub: bool = False
    model_init_kwargs: dict[str, Any] | None = None
    """For a model given by name: `dtype` (or `torch_dtype`) and `device_map` of one device."""
    trust_remote_code: bool = False
    router_aux_loss_coef: float | None = None
    disable_dropout: bool = True
    dataset_num_proc: int | None = None
    max_length: int | None = 1024
    """Tokens of prompt and completion together; None cuts nothing."""
    pad_to_multiple_of: str | None = "auto"
    activation_offloading: bool = False
    pad_token: str | None = None
    """Text of the token to pad with, where the tokenizer has none."""
    max_prompt_length: int | None = None
    """Longer prompts lose their beginning."""

    def __post_init__(self) -> None:
        check(self)  # as it was given: TrainingArguments changes some options itself
        self.wants_bf16 = self.bf16 is None or bool(self.bf16) or bool(getattr(self, "fp16", False))
        self.bf16, self.fp16, self.push_to_hub = bool(self.bf16), False, False
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=r"`(gradient|activation)_checkpointing", category=FutureWarning
            )
            super().__post_init__()


@config
class SFTConfig(Config):
    """Supervised fine-tuning."""

    learning_rate: float = 2e-5
    chat_template_path: str | None = None
    """A tokenizer's folder or a Jinja file to take the chat template from."""
    dataset_text_field: str = "text"
    """Column of plain text; all of it is trained."""
    dataset_kwargs: dict[str, Any] | None = None
    eos_token: str | None = None
    """Text of the token that ends a turn."""
    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    shuffle_dataset: bool = False
    packing: bool = False
    packing_strategy: str = "bfd"
    padding_free: bool = False
    eval_packing: bool | None = None
    completion_only_loss: bool | None = None
    """Train on completions only; None: yes for rows of prompt and completion, no for text and messages."""
    assistant_only_loss: bool = False
    """Of messages, train on the assistant's turns only; the template must mark them with {% generation %}."""
    loss_type: str = "nll"
    """nll is the one there is."""


@config
class RewardConfig(Config):
    """Reward modelling: Bradley-Terry on pairs."""

    learning_rate: float = 1e-4
    chat_template_path: str | None = None
    eos_token: str | None = None
    center_rewards_coefficient: float | None = None
    """Weight of the squared sum of a pair's scores, which keeps them around 0."""


@config
class DPOConfig(Config):
    """Direct Preference Optimization."""

    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    padding_free: bool = False
    precompute_ref_log_probs: bool = False
    precompute_ref_batch_size: int | None = None
    loss_type: list[str] = field(default_factory=lambda: ["sigmoid"])
    """One loss, or several with loss_weights."""
    loss_weights: list[float] | None = None
    ld_alpha: float | None = None
    """LD-DPO: weight of the tokens beyond the shorter completion's length."""
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    label_smoothing: float = 0.0
    beta: float = 0.1
    use_weighting: bool = False
    """WPO: weigh pairs by how likely the policy is to write them."""
    discopop_tau: float = 0.05
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    rpo_alpha: float | None = None
    """Weight of the cross entropy of the chosen completion beside the loss."""
    max_completion_length: int | None = None
    """Longer completions lose their end."""


@config
class KTOConfig(Config):
    """Kahneman-Tversky Optimization."""

    train_sampling_strategy: str = "sequential"
    precompute_ref_log_probs: bool = False
    precompute_ref_batch_size: int | None = None
    loss_type: str = "kto"
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    max_completion_length: int | None = None
    """Longer completions lose their end."""


@config
class ORPOConfig(Config):
    """Odds Ratio Preference Optimization."""

    max_completion_length: int | None = None
    beta: float = 0.1
    """The paper's lambda: the weight of the odds ratio's term."""
    padding_value: int | None = None
    generate_during_eval: bool = False
    is_encoder_decoder: bool | None = None


@config
class CPOConfig(Config):
    """Contrastive Preference Optimization, and SimPO."""

    max_completion_length: int | None = None
    beta: float = 0.1
    label_smoothing: float = 0.0
    loss_type: str = "sigmoid"
    cpo_alpha: float = 1.0
    """Weight of the cross entropy of the chosen completion."""
    simpo_gamma: float = 0.5
    """SimPO: the margin between the two."""
    alpha: float = 0.0
    padding_value: int | None = None
    generate_during_eval: bool = False
    is_encoder_decoder: bool | None = None
