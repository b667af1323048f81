"""The table of methods that are known by name: class, kind of rows, ranges of values. No torch.

`tieout.methods` loads its classes by it and holds them to its ranges; the command line checks names, rows and values by
it before torch is loaded, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import inf

from ..errors import InputError
from ..types import Kind


@dataclass(frozen=True)
class Range:
    """The values that a number may have."""

    least: float
    most: float = inf
    above: bool = False
    """`least` itself is none of them."""

    def check(self, name: str, value: float, given: object = None) -> None:
        """InputError: the value is outside, or NaN. `given`: what was written, where that is no number yet."""
        if self.least <= value <= self.most and not (self.above and value == self.least):
            return
        expected = f"it must be {'above' if self.above else 'at least'} {self.least:g}"
        if self.most < inf:
            expected = f"expected {self.least:g} to {self.most:g}"
        raise InputError(f"{name} is {value if given is None else given}; {expected}")


COUNT, NOT_NEGATIVE, POSITIVE, SHARE = Range(1), Range(0), Range(0, above=True), Range(0, 1)
EVERY: Mapping[str, Range] = {
    "batch_size": COUNT, "learning_rate": NOT_NEGATIVE, "epochs": POSITIVE, "max_new_tokens": COUNT,
    "temperature": POSITIVE,
}  # fmt: skip
"""Field -> the values that every method takes which has it."""
_ANCHORED = {"beta": POSITIVE, "rpo_alpha": NOT_NEGATIVE, "sft_anchor": NOT_NEGATIVE}
_BETA = {"beta": POSITIVE}
_GRPO = {
    "updates_per_batch": COUNT, "epsilon_low": NOT_NEGATIVE, "epsilon_high": NOT_NEGATIVE, "beta": NOT_NEGATIVE,
    "reference_steps": NOT_NEGATIVE, "overlong_share": SHARE,
}  # fmt: skip
_PPO = {
    **dict.fromkeys(("num_ppo_epochs", "num_mini_batches", "kl_horizon"), COUNT),
    **dict.fromkeys(("epsilon_low", "epsilon_high", "value_clip", "kl_coef", "kl_target"), NOT_NEGATIVE),
    **dict.fromkeys(("target_kl", "mini_batch_size"), NOT_NEGATIVE),
}


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
    own: Mapping[str, Range] = field(default_factory=dict)
    """Field -> the values that this method takes, in addition to `EVERY`."""

    @property
    def ranges(self) -> Mapping[str, Range]:
        """Field -> the values that it takes."""
        return {**EVERY, **self.own, "group_size": Range(self.group_size)}


TABLE: Mapping[str, Named] = {
    "sft": Named("sft:SFT", "demonstration", own={"general_kl": NOT_NEGATIVE}),
    "rejection_sampling": Named("online:RejectionSampling", "prompt"),
    "reward_model": Named("reward_model:RewardModel", "ranking"),
    "dpo": Named("dpo:DPO", "preference", own=_ANCHORED),
    "online_dpo": Named("online:OnlineDPO", "prompt", group_size=2, own=_ANCHORED),
    "kto": Named("kto:KTO", "label", own=_BETA),
    "orpo": Named("orpo:ORPO", "preference", own={"beta": NOT_NEGATIVE}),
    "cpo": Named("cpo:CPO", "preference", own=_BETA),
    "simpo": Named("cpo:SimPO", "preference", own=_BETA),
    "grpo": Named("grpo:GRPO", "prompt", group_size=2, own=_GRPO),
    "dr_grpo": Named("grpo_family:DrGRPO", "prompt", group_size=2, own=_GRPO),
    "dapo": Named("grpo_family:DAPO", "prompt", group_size=2, own=_GRPO),
    "gspo": Named("grpo_family:GSPO", "prompt", group_size=2, own=_GRPO),
    "cispo": Named("grpo_family:CISPO", "prompt", group_size=2, own=_GRPO),
    "rloo": Named("grpo_family:RLOO", "prompt", group_size=2, own=_GRPO),
    "ppo": Named("ppo:PPO", "prompt", own=_PPO),
    "distill": Named(
        "distill:Distill", "prompt", rewarded=False, own={"top_k": COUNT, "beta": SHARE, "on_policy": SHARE}
    ),
}
"""Name, as `tieout train` and recipes accept it -> the method."""


def check_name(name: str) -> None:
    """InputError: no method of this name; the nearest is named. FILE.py:Class, a method of your own, is left alone."""
    if name in TABLE or all(name.rpartition(":")[::2]):
        return
    near = get_close_matches(name.lower(), TABLE, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"no method {name!r}{hint} There are: {', '.join(TABLE)}; or FILE.py:Class")
