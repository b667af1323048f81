"""What TRL gives reward functions beside the text and the columns: tokens as sampled, the state, a way to log."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ..learner import Learner
from ..monitors import Monitor
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
    extra: list[dict[str, Any]] = field(default_factory=list)
    """Columns and values that the functions have logged since the last step, a call each."""

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
        """TRL's: a column of the table of completions; here a line of output_dir/extra.jsonl, a call each."""
        self.extra.append({"column": column, "values": list(values)})

    def monitor(self, folder: Path | None) -> Monitor:
        """Adds what the functions have logged to the metrics, and to extra.jsonl in the folder, if there is one."""

        def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
            metrics.update({name: fmean(values) for name, values in self.measured.items()})
            if folder is not None and self.extra:
                folder.mkdir(parents=True, exist_ok=True)
                with open(folder / "extra.jsonl", "a", encoding="utf-8") as file:
                    for line in self.extra:
                        file.write(json.dumps({"step": step, **line}, ensure_ascii=False, default=str) + "\n")
            self.measured.clear()
            self.extra.clear()

        return monitor


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
