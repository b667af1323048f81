"""What a method is: collect -> annotate -> loss. One file each; the table below is all there is to register."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor

from ..batch import Batch, Outputs
from ..learner import Learner
from ..source import Source
from ..types import Group
from .cpo import CPO, SimPO
from .dpo import DPO
from .grpo import GRPO
from .grpo_family import CISPO, DAPO, GSPO, RLOO, DrGRPO
from .kto import KTO
from .online import OnlineDPO, RejectionSampling
from .orpo import ORPO
from .ppo import PPO
from .reward_model import RewardModel
from .sft import SFT


class Method(Protocol):
    """A frozen dataclass: its fields are the configuration, the docstring under each is its help.

    A method that learns more than once from a batch also has `updates(groups)`, a generator of the groups of each
    optimizer update, which is sent the metrics of the one before; see `tieout.training.loop.learn`.
    """

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        ...

    @property
    def batch_size(self) -> int:
        """Groups per optimizer step."""
        ...

    @property
    def epochs(self) -> float:
        """Passes over the rows."""
        ...

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Which groups the method wants from the source, one batch per optimizer step."""
        ...

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add columns, without gradient. Whatever couples completions to each other happens here."""
        ...

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch's share of the step's loss and of its metrics; denominators come from `batch.totals`."""
        ...


METHODS: dict[str, type[Method]] = {
    "sft": SFT,
    "rejection_sampling": RejectionSampling,
    "reward_model": RewardModel,
    "dpo": DPO,
    "online_dpo": OnlineDPO,
    "kto": KTO,
    "orpo": ORPO,
    "cpo": CPO,
    "simpo": SimPO,
    "grpo": GRPO,
    "dr_grpo": DrGRPO,
    "dapo": DAPO,
    "gspo": GSPO,
    "cispo": CISPO,
    "rloo": RLOO,
    "ppo": PPO,
}
"""Name -> class: what `tieout train NAME` and recipes accept."""

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
    "DrGRPO",
    "Method",
    "OnlineDPO",
    "RejectionSampling",
    "RewardModel",
    "SimPO",
]
