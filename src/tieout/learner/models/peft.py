"""PEFT, imported without bitsandbytes.

PEFT imports bitsandbytes with itself and with every adapter, wherever it is installed. That takes time, may look for
kernels on the network, and prints a warning where there are none: for 4-bit layers only, so it is left until there are
some. Modules of tieout import PEFT's names from here.
"""

from __future__ import annotations

import sys

_NAME = "bitsandbytes"
_hidden = _NAME not in sys.modules  # hidden as None: an import of it raises ImportError
if _hidden:
    sys.modules[_NAME] = None  # type: ignore[assignment]
try:
    import peft.tuners.lora.model as _lora
    from peft import (
        LoraConfig,
        PeftConfig,
        PeftModel,
        get_peft_model,
        get_peft_model_state_dict,
        set_peft_model_state_dict,
    )
    from peft.tuners.lora.layer import Linear as LoraLinear
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, AuxiliaryTrainingWrapper
finally:
    if _hidden:
        del sys.modules[_NAME]

__all__ = [
    "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING",
    "AuxiliaryTrainingWrapper",
    "BaseTunerLayer",
    "LoraConfig",
    "LoraLinear",
    "PeftConfig",
    "PeftModel",
    "get_peft_model",
    "get_peft_model_state_dict",
    "set_peft_model_state_dict",
]


def _loaded() -> bool:
    """Whether a layer can be one of bitsandbytes': only if something has imported it."""
    return sys.modules.get(_NAME) is not None


_lora.is_bnb_available = _lora.is_bnb_4bit_available = _loaded
