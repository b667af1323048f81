"""What TRL gives reward functions beside the text and the columns: tokens as sampled, the state, a way to log."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ..chat.template import Chat
from ..learner import Learner
from ..learner.parallel.processes import Processes, join
from ..samplers import PolicySampler, SamplingParams
from ..types import Completion, Prompt


@dataclass
class Surroundings:
    """Of one trainer."""

    chat: Chat
    state: Callable[[], Any]
    """The trainer's state of now."""
    processes: Processes = field(default_factory=join)
    sampled: dict[tuple[int, ...], list[Completion]] = field(default_factory=dict)
    """Tokens of a prompt -> what was sampled last for it."""
    measured: dict[str, list[float]] = field(default_factory=dict)
    """Name -> what the functions have logged since it was last taken."""
    extra: list[dict[str, Any]] = field(default_factory=list)
    """Columns and values that the functions have logged since they were last taken, a call each."""

    def ids(self, prompt: Prompt, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that were sampled, for each text; of texts that were not, those of the tokenizer."""
        left = list(self.sampled.get(tuple(self.chat.prompt(prompt)), ()))
        found = []
        for text in texts:
            place = next((i for i, c in enumerate(left) if c.text == text), None)
            known = None if place is None else left.pop(place).tokens
            tokens = (
                self.chat.tokenizer(text, add_special_tokens=False)["input_ids"] if known is None else known
            )
            found.append(list(tokens))
        return found

    def log_metric(self, name: str, value: float) -> None:
        """TRL's: its mean over the step, or over the evaluation, is logged."""
        self.measured.setdefault(name, []).append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """TRL's: a column of the table of completions; here a line of output_dir/extra.jsonl, a call each."""
        self.extra.append({"column": column, "values": list(values)})

    def take(self, folder: Path | None, step: int) -> dict[str, float]:
        """What the functions of all ranks have logged since: the means; the columns go into the folder's extra.jsonl.

        Every rank asks, and gets the same; None writes nothing.
        """
        lines = [json.dumps({"step": step, **line}, ensure_ascii=False, default=str) for line in self.extra]
        told = self.processes.gather([self.measured, lines])
        self.measured, self.extra = {}, []
        means: dict[str, list[float]] = {}
        for measured, _ in told:
            for name, values in measured.items():
                means.setdefault(name, []).extend(values)
        written = [line + "\n" for _, lines in told for line in lines]
        if folder is not None and written and self.processes.leads:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / "extra.jsonl", "a", encoding="utf-8") as file:
                file.writelines(written)
        return {name: fmean(values) for name, values in means.items()}


class Remembering:
    """A sampler that notes what it drew for each prompt."""

    def __init__(self, sampler: PolicySampler, sampled: dict[tuple[int, ...], list[Completion]]) -> None:
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
        for prompt, completions in zip(prompts, drawn, strict=True):
            self.sampled.setdefault(tuple(prompt), []).extend(completions)
        return drawn
