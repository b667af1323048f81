"""TRL's trainers, with TRL's argument names, over the same core: change the import and the code runs.

    from tieout.trl import DPOConfig, DPOTrainer

Options that cannot be honoured are errors, options without effect are named in a warning: `options.yaml` has them all.
"""

from __future__ import annotations

from .chat_template import apply_chat_template
from .configs import CPOConfig, DPOConfig, KTOConfig, ORPOConfig, RewardConfig, SFTConfig
from .online_configs import GRPOConfig, PPOConfig, RLOOConfig
from .ppo import AutoModelForCausalLMWithValueHead, PPOTrainer, create_reference_model
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
    "GRPOConfig",
    "GRPOTrainer",
    "KTOConfig",
    "KTOTrainer",
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
    "apply_chat_template",
    "create_reference_model",
]
