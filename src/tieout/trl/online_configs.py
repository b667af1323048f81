"""TRL's configurations of what samples while it trains: GRPO, RLOO and PPO."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from .configs import Config, config


@dataclass
class _Rollouts(Config):
    """What GRPO and RLOO share: completions sampled from the policy."""

    max_length: int | None = None
    remove_unused_columns: bool | None = False
    disable_dropout: bool = False
    num_generations: int = 8
    """Completions per prompt."""
    num_generations_eval: int | None = None
    max_completion_length: int | None = 512
    """Completions are cut off after this many tokens."""
    ds3_gather_for_generation: bool = True
    shuffle_dataset: bool = True
    generation_batch_size: int | None = None
    """Completions sampled at once; must be those of one optimizer step, which is the default."""
    steps_per_generation: int | None = None
    """Must be gradient_accumulation_steps, which is the default."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = 0
    min_p: float | None = None
    generation_kwargs: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    repetition_penalty: float = 1.0
    cache_implementation: str | None = None
    use_vllm: bool = False
    """Sample on the server of vllm_server_base_url."""
    vllm_mode: str = "colocate"
    vllm_model_impl: str = "vllm"
    vllm_enable_sleep_mode: bool = False
    vllm_structured_outputs_regex: str | None = None
    vllm_server_base_url: str | None = None
    vllm_server_host: str = "0.0.0.0"
    vllm_server_port: int = 8000
    vllm_server_timeout: float = 240.0
    vllm_group_port: int = 51216
    vllm_gpu_memory_utilization: float = 0.3
    vllm_max_model_length: int | None = None
    vllm_tensor_parallel_size: int = 1
    num_iterations: int = 1
    """Updates on the same completions."""
    epsilon: float = 0.2
    epsilon_high: float | None = None
    reward_weights: list[float] | None = None
    mask_truncated_completions: bool = False
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    log_completions: bool = False
    log_multimodal: bool = True
    num_completions_to_print: int | None = None
    log_unique_prompts: bool = False
    use_transformers_continuous_batching: bool = False
    transformers_continuous_batching_config: Any = None
    use_transformers_paged: bool = False


@config
class GRPOConfig(_Rollouts):
    """Group Relative Policy Optimization and its family."""

    cast_lm_head_to_fp32: bool = False
    beta: float = 0.0
    """Weight of the KL to the reference; 0 computes none."""
    delta: float | None = None
    sapo_temperature_neg: float = 1.05
    sapo_temperature_pos: float = 1.0
    vespo_k_pos: float = 2.0
    vespo_lambda_pos: float = 3.0
    vespo_k_neg: float = 3.0
    vespo_lambda_neg: float = 2.0
    importance_sampling_level: str = "token"
    """token, or sequence (GSPO)."""
    multi_objective_aggregation: str = "sum_then_normalize"
    scale_rewards: str = "group"
    """group, batch, or none."""
    loss_type: str = "dapo"
    """grpo, dapo, bnpo, dr_grpo, cispo or sapo."""
    top_entropy_quantile: float = 1.0
    entropy_coef: float = 0.0
    use_adaptive_entropy: bool = False
    entropy_coef_min: float = 0.0
    entropy_coef_max: float = 1.0
    entropy_coef_delta: float = 0.005
    entropy_target: float = 0.2
    max_tool_calling_iterations: int | None = None
    vllm_importance_sampling_correction: bool = True
    """With use_vllm: weigh tokens by learner over sampler, at most vllm_importance_sampling_clip_max."""
    vllm_importance_sampling_mode: str = "sequence_mask"
    """token_truncate is the one there is; another is taken for it, with a warning, where vLLM is used."""
    vllm_importance_sampling_clip_max: float | None = 3.0
    vllm_importance_sampling_clip_min: float | None = None
    off_policy_mask_threshold: float | None = None
    use_bias_correction_kl: bool = True
    """Multiply the KL by the probability ratio."""
    log_completions_hub_repo: str | None = None
    vllm_importance_sampling_cap: float | None = None


@config
class RLOOConfig(_Rollouts):
    """REINFORCE with the mean of the other completions as baseline."""

    num_generations: int = 2
    beta: float = 0.05
    """Weight of the KL, which is taken off the score."""
    normalize_advantages: bool = False
    reward_clip_range: list[float] | None = None
    """(lowest, highest): scores are clipped to it."""
    num_mini_batches: int = 1
    missing_eos_penalty: float | None = None
    """Taken off the score of a completion that was cut off."""
    total_episodes: int | None = None
    """Completions in all; num_train_epochs over the prompts if None."""


@config
class PPOConfig(Config):
    """Proximal Policy Optimization: today's names, and those of the step interface of earlier versions."""

    learning_rate: float = 3e-6
    model_name: str | None = None
    batch_size: int | None = None
    """Step interface: queries of one step. Else per_device_train_batch_size * gradient_accumulation_steps."""
    mini_batch_size: int | None = None
    """Completions of one update."""
    num_mini_batches: int = 1
    num_ppo_epochs: int = 4
    kl_coef: float = 0.05
    init_kl_coef: float | None = None
    """Step interface: the older name of kl_coef."""
    adap_kl_ctrl: bool = False
    """Adapt the coefficient so that the KL stays near `target`."""
    target: float = 6.0
    horizon: int = 10_000
    kl_estimator: Literal["k1", "k3"] = "k1"
    cliprange: float = 0.2
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    target_kl: float | None = None
    """Updates of a batch end when the policy has moved so far, in nats a token."""
    whiten_rewards: bool = False
    missing_eos_penalty: float | None = None
    response_length: int = 53
    """Completions are cut off after this many tokens."""
    temperature: float = 0.7
    reward_model_path: str | None = None
    """Folder or hub id of a reward model."""
    sft_model_path: str | None = None
    use_vllm: bool = False
    vllm_server_base_url: str | None = None
    num_sample_generations: int = 0
    stop_token: str | None = None
    """eos, which is what ends completions in any case."""
    stop_token_id: int | None = None
    kl_penalty: str = "kl"
    use_score_scaling: bool = False
    use_score_norm: bool = False
    score_clip: float | None = None
    ratio_threshold: float = 10.0
    compare_steps: int = 1
    total_episodes: int | None = None
    """Completions in all; num_train_epochs over the prompts if None."""

    def __new__(cls, *given: Any, **options: Any) -> PPOConfig:
        """A configuration that knows what it was given by name."""
        made = super().__new__(cls)
        made.__dict__["_given"] = frozenset(options)
        return made

    def chose(self, option: str) -> bool:
        """Whether the option was chosen: it has another value than by default, or was given by name.

        Parsers of command lines give all options by name, so that only the value tells.
        """
        fields = {f.name: f.default for f in dataclasses.fields(self) if f.init}
        given = self.__dict__["_given"]
        return getattr(self, option) != fields[option] or (option in given and not fields.keys() <= given)
