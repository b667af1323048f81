"""tieout: fine-tune language models by reinforcement and preference, and prove that it worked.

Names are imported when they are first used, so that what needs no torch starts without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat.template import Chat
    from .learner import AdapterConfig, Learner, LearnerConfig, load
    from .methods import (
        CPO,
        DPO,
        GRPO,
        KTO,
        METHODS,
        ORPO,
        SFT,
        OnlineDPO,
        RejectionSampling,
        RewardModel,
        SimPO,
    )
    from .samplers import SamplingParams
    from .samplers.local.sampler import LocalSampler
    from .samplers.mock import MockSampler
    from .samplers.staleness import StalenessCheck
    from .samplers.vllm.sampler import VLLMSampler
    from .source import Source
    from .tasks import TASKS, Task, load_task
    from .training.loop import train
    from .training.schedule import Schedule
    from .types import Completion, Group

_WHERE = {
    "AdapterConfig": "learner",
    "CPO": "methods",
    "StalenessCheck": "samplers.staleness",
    "Chat": "chat.template",
    "Completion": "types",
    "DPO": "methods",
    "GRPO": "methods",
    "Group": "types",
    "KTO": "methods",
    "Learner": "learner",
    "LearnerConfig": "learner",
    "LocalSampler": "samplers.local.sampler",
    "METHODS": "methods",
    "MockSampler": "samplers.mock",
    "ORPO": "methods",
    "OnlineDPO": "methods",
    "RejectionSampling": "methods",
    "RewardModel": "methods",
    "SFT": "methods",
    "SamplingParams": "samplers",
    "Schedule": "training.schedule",
    "SimPO": "methods",
    "Source": "source",
    "TASKS": "tasks",
    "Task": "tasks",
    "VLLMSampler": "samplers.vllm.sampler",
    "load": "learner",
    "load_task": "tasks",
    "train": "training.loop",
}

__all__ = [
    "CPO",
    "DPO",
    "GRPO",
    "KTO",
    "METHODS",
    "ORPO",
    "SFT",
    "TASKS",
    "AdapterConfig",
    "Chat",
    "Completion",
    "Group",
    "Learner",
    "LearnerConfig",
    "LocalSampler",
    "MockSampler",
    "OnlineDPO",
    "RejectionSampling",
    "RewardModel",
    "SamplingParams",
    "Schedule",
    "SimPO",
    "Source",
    "StalenessCheck",
    "Task",
    "VLLMSampler",
    "load",
    "load_task",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tieout' has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
