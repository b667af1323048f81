"""TRL's trainers, with TRL's argument names, over the same core: change the import and the code runs.

    from tieout.trl import DPOConfig, DPOTrainer

Options that cannot be honoured are errors, options without effect are named in a warning: see `options.yaml`. Functions
over data sets and chat templates are TRL's own, where it is installed. Names that are not here say why: `older.yaml`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from ..learner.models import peft as _peft  # noqa: F401  # first: transformers imports it with bitsandbytes

# isort: split
from transformers import set_seed

from . import rewards
from .chat_format import setup_chat_format
from .collators import DataCollatorForCompletionOnlyLM
from .configs import (
    CPOConfig,
    DPOConfig,
    GRPOConfig,
    KTOConfig,
    ORPOConfig,
    PPOConfig,
    RewardConfig,
    RLOOConfig,
    SFTConfig,
)
from .older import ABSENT, HANDED_ON, NAMES, handed_on, older_class, why_not
from .ppo import PPOTrainer
from .scripts import (
    ModelConfig,
    ScriptArguments,
    TrlParser,
    get_kbit_device_map,
    get_peft_config,
    get_quantization_config,
    init_zero_verbose,
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
from .value_head import (
    AutoModelForCausalLMWithValueHead,
    LengthSampler,
    create_reference_model,
    respond_to_batch,
)

__all__ = [
    "AutoModelForCausalLMWithValueHead", "CPOConfig", "CPOTrainer", "DPOConfig", "DPOTrainer",
    "DataCollatorForCompletionOnlyLM", "GRPOConfig", "GRPOTrainer", "KTOConfig", "KTOTrainer", "LengthSampler",
    "ModelConfig", "ORPOConfig", "ORPOTrainer", "PPOConfig", "PPOTrainer", "RLOOConfig", "RLOOTrainer",
    "RewardConfig", "RewardTrainer", "SFTConfig", "SFTTrainer", "ScriptArguments", "TrlParser",
    "create_reference_model", "get_kbit_device_map", "get_peft_config", "get_quantization_config",
    "init_zero_verbose", "respond_to_batch", "rewards", "set_seed", "setup_chat_format",
]  # fmt: skip
__all__ += [*NAMES["classes"], *(HANDED_ON if find_spec("trl") else ())]


def __getattr__(name: str) -> Any:
    """Older classes, and what TRL has; else an error that says what to use instead.

    It is an AttributeError, or an ImportError for `from tieout.trl import name`.
    """
    if name in NAMES["classes"]:
        return globals().setdefault(name, older_class(name, globals()[NAMES["classes"][name]]))
    if name in HANDED_ON:
        return globals().setdefault(name, handed_on(name))
    asks = sys._getframe(1).f_code.co_name  # importlib drops the message of an AttributeError
    kind = ImportError if name in ABSENT and asks == "_handle_fromlist" else AttributeError
    raise kind(why_not(name, __all__))
