"""TRL's configuration classes: the same names and defaults, and the names of earlier versions."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from transformers import TrainingArguments

from .legacy.older_names import remember, translated
from .options import check

C = TypeVar("C", bound=type)

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
        generated(self, *given, **translated(cls.__name__, options, known))
        remember(self, {name: value for name, value in options.items() if name not in known})

    made.__init__ = init
    return cast(C, made)


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

    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    """keep_end: of rows that are too long, the beginning of the prompt is lost first."""
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


@config
class ORPOConfig(Config):
    """Odds Ratio Preference Optimization."""

    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    """keep_end: of rows that are too long, the beginning of the prompt is lost first."""
    max_completion_length: int | None = None
    beta: float = 0.1
    """The paper's lambda: the weight of the odds ratio's term."""
    padding_value: int | None = None
    generate_during_eval: bool = False
    is_encoder_decoder: bool | None = None


@config
class CPOConfig(Config):
    """Contrastive Preference Optimization, and SimPO."""

    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    """keep_end: of rows that are too long, the beginning of the prompt is lost first."""
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
