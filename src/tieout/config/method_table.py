"""The table of methods that are known by name: class, kind of rows, least values. No torch.

`tieout.methods` loads its classes by it and holds them to its values; the command line checks names, rows and values by
it before torch is loaded, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import InputError
from ..types import Kind

LEAST: Mapping[str, float] = {"batch_size": 1, "learning_rate": 0, "max_new_tokens": 1}
"""Field -> the smallest value that every method takes."""


@dataclass(frozen=True)
class Named:
    """A method of the library."""

    place: str
    """`file:Class` in the folder of methods."""
    rows: Kind
    """The kind of its rows, with its default settings."""
    group_size: int = 1
    """The least completions per prompt, of a method that samples: two where it compares them."""
    rewarded: bool = True
    """Whether what it samples is scored by a reward."""

    @property
    def least(self) -> Mapping[str, float]:
        """Field -> the smallest value that it takes."""
        return {**LEAST, "group_size": self.group_size}


TABLE: Mapping[str, Named] = {
    "sft": Named("sft:SFT", "demonstration"),
    "rejection_sampling": Named("online:RejectionSampling", "prompt"),
    "reward_model": Named("reward_model:RewardModel", "ranking"),
    "dpo": Named("dpo:DPO", "preference"),
    "online_dpo": Named("online:OnlineDPO", "prompt", group_size=2),
    "kto": Named("kto:KTO", "label"),
    "orpo": Named("orpo:ORPO", "preference"),
    "cpo": Named("cpo:CPO", "preference"),
    "simpo": Named("cpo:SimPO", "preference"),
    "grpo": Named("grpo:GRPO", "prompt", group_size=2),
    "dr_grpo": Named("grpo_family:DrGRPO", "prompt", group_size=2),
    "dapo": Named("grpo_family:DAPO", "prompt", group_size=2),
    "gspo": Named("grpo_family:GSPO", "prompt", group_size=2),
    "cispo": Named("grpo_family:CISPO", "prompt", group_size=2),
    "rloo": Named("grpo_family:RLOO", "prompt", group_size=2),
    "ppo": Named("ppo:PPO", "prompt"),
    "distill": Named("distill:Distill", "prompt", rewarded=False),
}
"""Name, as `tieout train` and recipes accept it -> the method."""


def check_name(name: str) -> None:
    """InputError: no method of this name; the nearest is named. FILE.py:Class, a method of your own, is left alone."""
    if name in TABLE or all(name.rpartition(":")[::2]):
        return
    near = get_close_matches(name.lower(), TABLE, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"no method {name!r}{hint} There are: {', '.join(TABLE)}; or FILE.py:Class")
