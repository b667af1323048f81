"""tieout: fine-tune language models by reinforcement and preference, and prove that it worked.

Names are imported when they are first used, so that what needs no torch starts without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers; a test compares them with the table below
    from .chat.template import Chat as Chat
    from .errors import TieoutError as TieoutError
    from .learner import AdapterConfig as AdapterConfig
    from .learner import Learner as Learner
    from .learner import LearnerConfig as LearnerConfig
    from .learner import load as load
    from .methods import CISPO as CISPO
    from .methods import CPO as CPO
    from .methods import DAPO as DAPO
    from .methods import DPO as DPO
    from .methods import GRPO as GRPO
    from .methods import GSPO as GSPO
    from .methods import KTO as KTO
    from .methods import METHODS as METHODS
    from .methods import ORPO as ORPO
    from .methods import PPO as PPO
    from .methods import RLOO as RLOO
    from .methods import SFT as SFT
    from .methods import Distill as Distill
    from .methods import DrGRPO as DrGRPO
    from .methods import Method as Method
    from .methods import OnlineDPO as OnlineDPO
    from .methods import RejectionSampling as RejectionSampling
    from .methods import RewardModel as RewardModel
    from .methods import SimPO as SimPO
    from .methods import load_method as load_method
    from .python.judging import attack as attack
    from .python.judging import best_of as best_of
    from .python.judging import evaluate as evaluate
    from .python.judging import gate as gate
    from .python.prompting import optimize_prompt as optimize_prompt
    from .python.saving import save as save
    from .python.training import cispo as cispo
    from .python.training import cpo as cpo
    from .python.training import dapo as dapo
    from .python.training import distill as distill
    from .python.training import dpo as dpo
    from .python.training import dr_grpo as dr_grpo
    from .python.training import grpo as grpo
    from .python.training import gspo as gspo
    from .python.training import kto as kto
    from .python.training import online_dpo as online_dpo
    from .python.training import orpo as orpo
    from .python.training import ppo as ppo
    from .python.training import rejection_sampling as rejection_sampling
    from .python.training import reward_model as reward_model
    from .python.training import rloo as rloo
    from .python.training import sft as sft
    from .python.training import simpo as simpo
    from .python.tuned import Tuned as Tuned
    from .rewards import REWARDS as REWARDS
    from .rewards import load_reward as load_reward
    from .rewards.library.judge import Judge as Judge
    from .rewards.scoring.combine import combine as combine
    from .rewards.scoring.outcomes import ranged as ranged
    from .rewards.scoring.runner import score as score
    from .samplers import SamplingParams as SamplingParams
    from .samplers.local.sampler import LocalSampler as LocalSampler
    from .samplers.mock import MockSampler as MockSampler
    from .samplers.staleness import StalenessCheck as StalenessCheck
    from .samplers.vllm.sampler import VLLMSampler as VLLMSampler
    from .source import Source as Source
    from .tasks import TASKS as TASKS
    from .tasks import Task as Task
    from .tasks import load_task as load_task
    from .training.loop import train as train
    from .training.schedule import Schedule as Schedule
    from .types import Completion as Completion
    from .types import Group as Group

    __version__: str

_NAMES = {
    "types": "Completion Group",
    "errors": "TieoutError",
    "chat.template": "Chat",
    "learner": "AdapterConfig Learner LearnerConfig load",
    "samplers": "SamplingParams",
    "samplers.local.sampler": "LocalSampler",
    "samplers.mock": "MockSampler",
    "samplers.staleness": "StalenessCheck",
    "samplers.vllm.sampler": "VLLMSampler",
    "rewards": "REWARDS load_reward",
    "rewards.library.judge": "Judge",
    "rewards.scoring.combine": "combine",
    "rewards.scoring.outcomes": "ranged",
    "rewards.scoring.runner": "score",
    "tasks": "TASKS Task load_task",
    "source": "Source",
    "methods": "CISPO CPO DAPO Distill DPO DrGRPO GRPO GSPO KTO METHODS Method OnlineDPO ORPO PPO RejectionSampling "
    "RLOO RewardModel SFT SimPO load_method",
    "python.training": "sft reward_model dpo kto orpo cpo simpo rejection_sampling online_dpo grpo dr_grpo dapo gspo "
    "cispo rloo ppo distill",
    "python.judging": "attack best_of evaluate gate",
    "python.prompting": "optimize_prompt",
    "python.saving": "save",
    "python.tuned": "Tuned",
    "training.loop": "train",
    "training.schedule": "Schedule",
}
"""Module -> what is exported of it."""
_MODULE = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_MODULE, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tieout")
    if name not in _MODULE:
        raise AttributeError(f"module 'tieout' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
