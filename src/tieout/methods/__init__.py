"""Methods: collect -> annotate -> loss, one file each, and the table of those that are known by name."""

from __future__ import annotations

from .cpo import CPO, SimPO
from .distill import Distill
from .dpo import DPO
from .grpo import GRPO
from .grpo_family import CISPO, DAPO, GSPO, RLOO, DrGRPO
from .kto import KTO
from .method import Method, Needs, Rollouts
from .online import OnlineDPO, RejectionSampling
from .orpo import ORPO
from .ppo import PPO
from .reward_model import RewardModel
from .sft import SFT
from .table import METHODS, load_method

__all__ = [
    "CISPO",
    "CPO",
    "DAPO",
    "DPO",
    "GRPO",
    "GSPO",
    "KTO",
    "METHODS",
    "ORPO",
    "PPO",
    "RLOO",
    "SFT",
    "Distill",
    "DrGRPO",
    "Method",
    "Needs",
    "OnlineDPO",
    "RejectionSampling",
    "RewardModel",
    "Rollouts",
    "SimPO",
    "load_method",
]
