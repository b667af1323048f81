"""TRL's trainers, with TRL's argument names, over the same core: change the import and the code runs.

    from tieout.trl import DPOConfig, DPOTrainer

Options that cannot be honoured are errors, options without effect are named in a warning: `options.yaml` has them all.
Names that TRL exports and that are not here say why: `absent.py`.
"""

from __future__ import annotations

import sys
from typing import Any

from transformers import set_seed

from . import rewards
from .chat_template import apply_chat_template, clone_chat_template, setup_chat_format
from .collators import DataCollatorForCompletionOnlyLM
from .configs import CPOConfig, DPOConfig, KTOConfig, ORPOConfig, RewardConfig, SFTConfig
from .conversion import (
    extract_prompt,
    is_conversational,
    is_conversational_from_value,
    maybe_apply_chat_template,
    maybe_convert_to_chatml,
    maybe_extract_prompt,
    maybe_unpair_preference_dataset,
    unpair_preference_dataset,
)
from .legacy.absent import ABSENT, why_not
from .legacy.mixtures import DatasetConfig, DatasetMixtureConfig, get_dataset
from .legacy.older_classes import DPOScriptArguments, PPOv2Config, PPOv2Trainer, SFTScriptArguments
from .legacy.parser import TrlParser, init_zero_verbose
from .legacy.scripts import (
    ModelConfig,
    ScriptArguments,
    get_kbit_device_map,
    get_peft_config,
    get_quantization_config,
)
from .online_configs import GRPOConfig, PPOConfig, RLOOConfig
from .ppo import (
    AutoModelForCausalLMWithValueHead,
    LengthSampler,
    PPOTrainer,
    create_reference_model,
    respond_to_batch,
)
from .progress import RichProgressCallback
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
    "DPOScriptArguments",
    "DPOTrainer",
    "DataCollatorForCompletionOnlyLM",
    "DatasetConfig",
    "DatasetMixtureConfig",
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
    "PPOv2Config",
    "PPOv2Trainer",
    "RLOOConfig",
    "RLOOTrainer",
    "RewardConfig",
    "RewardTrainer",
    "RichProgressCallback",
    "SFTConfig",
    "SFTScriptArguments",
    "SFTTrainer",
    "ScriptArguments",
    "TrlParser",
    "apply_chat_template",
    "clone_chat_template",
    "create_reference_model",
    "extract_prompt",
    "get_dataset",
    "get_kbit_device_map",
    "get_peft_config",
    "get_quantization_config",
    "init_zero_verbose",
    "is_conversational",
    "is_conversational_from_value",
    "maybe_apply_chat_template",
    "maybe_convert_to_chatml",
    "maybe_extract_prompt",
    "maybe_unpair_preference_dataset",
    "respond_to_batch",
    "rewards",
    "set_seed",
    "setup_chat_format",
    "unpair_preference_dataset",
]


def __getattr__(name: str) -> Any:
    """AttributeError, or ImportError for `from tieout.trl import name`, that says what to use instead."""
    asks = sys._getframe(1).f_code.co_name  # importlib drops the message of an AttributeError
    kind = ImportError if name in ABSENT and asks == "_handle_fromlist" else AttributeError
    raise kind(why_not(name, __all__))
