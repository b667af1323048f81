"""What TRL gives reward functions beside the text and the columns: tokens as sampled, the state, a way to log."""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ..learner import Learner
from ..samplers import PolicySampler, SamplingParams
from ..types import Completion, Group


@dataclass
class Surroundings:
    """Of one trainer."""

    tokenizer: Any
    state: Callable[[], Any]
    """The trainer's state of now."""
    sampled: dict[str, list[int]] = field(default_factory=dict)
    """Text -> its tokens, of what was sampled last."""
    measured: dict[str, list[float]] = field(default_factory=dict)
    """Name -> what the functions have logged since the last step."""

    def ids(self, text: str) -> list[int]:
        """The tokens that were sampled; of a text that was not, those of the tokenizer."""
        known = self.sampled.get(text)
        return list(
            known if known is not None else self.tokenizer(text, add_special_tokens=False)["input_ids"]
        )

    def log_metric(self, name: str, value: float) -> None:
        """TRL's: its mean over the step is logged."""
        self.measured.setdefault(name, []).append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """TRL's table of completions is not printed here."""
        warnings.warn(
            f"log_extra({column!r}): without effect; output_dir/groups.jsonl has all completions",
            stacklevel=2,
        )

    def monitor(self, step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        """Add what the functions have logged."""
        metrics.update({name: fmean(values) for name, values in self.measured.items()})
        self.measured.clear()


class Remembering:
    """A sampler that notes which tokens each text was."""

    def __init__(self, sampler: PolicySampler, sampled: dict[str, list[int]]) -> None:
        self.sampler, self.sampled = sampler, sampled

    @property
    def context(self) -> int:
        """The sampler's."""
        return self.sampler.context

    def load(self, learner: Learner) -> None:
        """Pass it on."""
        self.sampler.load(learner)

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """What the sampler draws."""
        drawn = self.sampler.sample(prompts, num_completions, params)
        self.sampled.clear()
        self.sampled.update({c.text: c.tokens for group in drawn for c in group})
        return drawn
