"""The contract of a method: `Method`, what it declares in `Needs`, and the fields of methods that sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ..batch import Batch, Outputs
from ..config.method_table import EVERY
from ..learner import Learner
from ..rows import Kind
from ..source import Source
from ..types import Group
from .checks import check_choices

Updates = Generator[list[Group], Mapping[str, float], None]
"""Yields the groups of each optimizer update of a step, and is sent the metrics of the update before."""


@dataclass(frozen=True)
class Needs:
    """What a method needs from rows, model and sampler. The code around a method asks this and nothing else."""

    rows: Kind
    """The kind of its rows, one of `tieout.rows.KINDS`; `prompt` for methods that sample."""
    samples: bool = False
    """Its completions are sampled from the current policy and, unless `unscored`, scored by a reward."""
    unscored: bool = False
    """It needs no reward; one that is given scores held-out rows alone."""
    temperature: float = 1.0
    """Of the sampling, and of the log-probabilities that are trained."""
    max_new_tokens: int = 0
    """Limit of a sampled completion; 0 if it samples nothing."""
    reference: bool = False
    """`annotate` asks for log-probabilities under the policy of step 0."""
    kl_coef: str | None = None
    """The field that is the weight of a KL(policy || reference) penalty, which an alarm may raise; None without one."""
    head: Literal["score", "value"] | None = None
    """The scalar head that the model gets: a reward model's score or a value of each token."""
    value_adapter: bool = False
    """The value head gets an adapter of its own."""
    reward_model: str = ""
    """Folder of a reward model on the same base that scores in place of the task's reward; empty without one."""
    anchors: bool = False
    """General rows, whose chosen equals rejected, train its SFT term alone; other methods learn nothing from them."""
    taught: bool = False
    """It learns from teachers."""
    teachers: Mapping[str, str] = field(default_factory=dict)
    """Name of a teacher, empty for a single one -> model, adapter, or the student itself."""
    teacher_column: str = ""
    """Column of the rows that names each row's teacher; empty for a single one."""
    teacher_prompt: str = ""
    """What the teacher sees in place of the prompt: see `tieout.rows.teacher_prompts`; empty: the same prompt."""

    @property
    def rewarded(self) -> bool:
        """Whether a reward scores what it samples."""
        return self.samples and not self.unscored


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass: its fields are the configuration, and the docstring under each is its help.

    Every field has a default. `tieout.methods.METHODS` lists the methods that are known by name; any other is named as
    FILE.py:Class.
    """

    learning_rate: float = 1e-5
    """For LoRA; a tenth of it for full fine-tuning."""
    batch_size: int = 16
    """Groups per optimizer step."""
    epochs: float = 1.0
    """Passes over the rows; the last batch is filled from the next pass."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("batch_size", "learning_rate", "epochs"):
            EVERY[name].check(name, getattr(self, name))

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What these settings need from rows, model and sampler."""

    @abstractmethod
    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Take groups from the source, one batch per optimizer step."""

    @abstractmethod
    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """Add columns, without gradient. Whatever couples completions to each other happens here."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch's share of the step's loss and of its metrics; denominators come from `batch.totals`."""

    def updates(self, groups: list[Group]) -> Updates:
        """Yield the groups of each optimizer update that a batch is worth: by default one update with all of them."""
        yield groups

    def counts(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Count the denominators of `loss` over all groups of an update: they become `batch.totals.counts`.

        Tokens, completions and groups are counted for every method; by default there is nothing else.
        """
        return {}


@dataclass(frozen=True)
class Rollouts:
    """The fields of a method that samples, and its needs; to be inherited in front of `Method` or of another method."""

    group_size: int = 8
    """Completions per prompt (K)."""
    temperature: float = 1.0
    """Of the rollouts, and of the log-probabilities that are trained."""
    max_new_tokens: int = 256
    """Completions are cut off after this many tokens."""
    reward_model: str = ""
    """Folder of a reward model's adapter on the same base, which then scores completions; left out: --reward, or
    the task's."""

    @property
    def needs(self) -> Needs:
        """Prompts, a sampler and a reward, or the reward model in its place."""
        return Needs(
            "prompt",
            samples=True,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            reward_model=self.reward_model,
        )
