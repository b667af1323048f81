"""TRL's trainers, with TRL's argument names, over the same core: change the import and the code runs.

    from tieout.trl import DPOConfig, DPOTrainer

Options that cannot be honoured are errors, options without effect are named in a warning: `options.yaml` has them all.
"""

from __future__ import annotations

from transformers import set_seed

from .chat_template import apply_chat_template
from .collators import DataCollatorForCompletionOnlyLM
from .configs import CPOConfig, DPOConfig, KTOConfig, ORPOConfig, RewardConfig, SFTConfig
from .online_configs import GRPOConfig, PPOConfig, RLOOConfig
from .ppo import (
    AutoModelForCausalLMWithValueHead,
    LengthSampler,
    PPOTrainer,
    create_reference_model,
    respond_to_batch,
)
from .scripts import (
    ModelConfig,
    ScriptArguments,
    TrlParser,
    get_kbit_device_map,
    get_peft_config,
    get_quantization_config,
)
from .trainers import (
    CPOTrainer,
    DPOTrainer,
    GRPOTrainer,
    KTOTrainer,
    ORPOTrainer,
    RewardTrainer,
    RLOOTrainer,
    SFTTrainer,
)

__all__ = [
    "AutoModelForCausalLMWithValueHead",
    "CPOConfig",
    "CPOTrainer",
    "DPOConfig",
    "DPOTrainer",
    "DataCollatorForCompletionOnlyLM",
    "GRPOConfig",
    "GRPOTrainer",
    "KTOConfig",
    "KTOTrainer",
    "LengthSampler",
    "ModelConfig",
    "ORPOConfig",
    "ORPOTrainer",
    "PPOConfig",
    "PPOTrainer",
    "RLOOConfig",
    "RLOOTrainer",
    "RewardConfig",
    "RewardTrainer",
    "SFTConfig",
    "SFTTrainer",
    "ScriptArguments",
    "TrlParser",
    "apply_chat_template",
    "create_reference_model",
    "get_kbit_device_map",
    "get_peft_config",
    "get_quantization_config",
    "respond_to_batch",
    "set_seed",
]
