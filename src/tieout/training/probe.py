"""Measurements of what a policy writes, every so many steps, for methods that learn from given completions."""

from __future__ import annotations

import random
import warnings
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..learner import Learner
from ..learner.memory import apart
from ..learner.tinker.learner import TinkerLearner
from ..methods import Method
from ..rewards.text.thinking import knowing
from ..samplers import SamplingParams
from ..samplers.local.sampler import LocalSampler
from ..samplers.tinker.sampler import TinkerSampler
from ..source import Source
from ..types import Group
from .alarms.text_metrics import texts
from .monitors import lengths, sequence_kl

PROMPTS, TOKENS = 8, 64
"""Size of a probe: prompts, the same ones every time, and tokens at most after each."""
PREFIX = "probe/"
PROBED = ("preference", "label")
"""Kinds of rows whose methods are probed: those that compare completions, and may push the policy anywhere."""


def probed(method: Method) -> bool:
    """Whether the policy of this method is probed: it learns from given pairs or labels."""
    return method.needs.rows in PROBED


@dataclass
class Probe:
    """A monitor that adds `probe/...` to the metrics of the first step, every `every` steps and the last one.

    `kl` is in nats per completion from the reference, where the model has one, and `kl_at_start` what it was before the
    first step, where the reference is a model of its own; `entropy` in nats per token;
    `length` in tokens, `cut_off` the share that did not end within the probe's tokens; the others are those of
    `alarms.texts`. Training is the same with and without it, to the bit.
    """

    learner: Learner
    source: Source
    steps: int
    every: int = 10
    tokens: int = TOKENS

    def __post_init__(self) -> None:
        self._groups = _prompts(self.source, self.learner.model.context - self.tokens)
        self._sampler: TinkerSampler | LocalSampler = (
            TinkerSampler(self.learner, self.source.chat)
            if isinstance(self.learner, TinkerLearner)
            else LocalSampler(self.learner.model, self.source.chat)
        )
        self._works = bool(self._groups) and not self.learner.sharded
        self._start: dict[str, float] = {}
        if self._works and self.learner.model.reference_network is not None:  # it may be any other model
            self._start = {"kl_at_start": self._measure(0).get("kl", 0.0)}

    def __call__(self, step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if not self._works or not (step == 1 or step % self.every == 0 or step >= self.steps):
            return
        with apart(self.learner.model.device):
            found = self._measure(step) | self._start
        if self._works:
            metrics.update({f"{PREFIX}{name}": value for name, value in found.items()})

    def _measure(self, step: int) -> dict[str, float]:
        """What the policy writes now, in numbers; nothing, from here on, if there is no memory to sample."""
        answered = self._answered()
        self._works = not self.learner.processes.any(not answered)  # all ranks ask the reference, or none
        if not self._works:
            warnings.warn(f"step {step}: no memory to sample from the policy; it is not probed", stacklevel=3)
            return {}
        found: dict[str, float] = {}
        lengths(step, answered, found)
        if "sampling_entropy" in found:
            found["entropy"] = found.pop("sampling_entropy")
        texts(step, answered, found)
        if self.learner.model.has_reference:
            found["kl"] = sequence_kl(answered, self.learner.reference_logprobs(answered))
        return found

    def _answered(self) -> list[Group]:
        """The groups with what the policy writes now; none where there is no memory to sample."""
        params = SamplingParams(self.tokens, seed=self.source.seed)
        self._sampler.load(self.learner)
        try:
            answers = self._sampler.sample([group.prompt for group in self._groups], 1, params)
        except torch.OutOfMemoryError:
            return []
        text = self.source.chat.text
        return [
            replace(g, completions=knowing(c, g.prompt, text))
            for g, c in zip(self._groups, answers, strict=True)
        ]


def _prompts(source: Source, room: int) -> list[Group]:
    """A few of the training prompts, each once, that leave room for the probe."""
    rows = source.rows
    found: dict[tuple[int, ...], Group] = {}
    for i in random.Random(source.seed).sample(range(len(rows)), min(len(rows), 8 * PROMPTS)):
        group = source.given(rows[i], [], None)
        if 0 < len(group.prompt) <= room:
            found.setdefault(tuple(group.prompt), group)
        if len(found) == PROMPTS:
            break
    return list(found.values())
