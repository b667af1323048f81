"""Settings of completions that are sampled to be chosen among, and of the pairs that are made of them. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True, kw_only=True)
class SampledSettings:
    """How completions are sampled, and which is good enough to be learned from."""

    num_completions: int = 8
    """Completions sampled per prompt."""
    temperature: float = 0.7
    """Of the sampling."""
    max_prompts: int = 0
    """Training prompts to take, spread over all; 0 takes all."""
    min_chosen: float | None = None
    """The least score of a chosen completion, on the reward's scale. Left out: the task's primary metric must be 1, or
    without one the reward at the top of its declared range."""

    def __post_init__(self) -> None:
        if self.max_prompts < 0:
            raise InputError(f"max_prompts is {self.max_prompts}; it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class PairRules(SampledSettings):
    """Which pairs are made of the completions of a prompt."""

    min_gap: float | None = None
    """The least difference of the two scores. Left out: a tenth of the reward's declared range."""
    max_form: float = 0.1
    """The largest share of pairs that form alone decides, where the task tells form from substance: those with the
    smallest gaps above it are dropped."""
    pairs_per_prompt: int = 1
    """Pairs that one prompt may give. Above 1, each has a weight with which all prompts count the same."""
    min_pairs: int = 16
    """Where prompts gave no pair, and fewer pairs than this are left in all, nothing is written, and the reasons are
    said."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pairs_per_prompt", "min_pairs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.max_form <= 1:
            raise InputError(f"max_form is {self.max_form}; expected a share from 0 to 1")
