"""Distillation: bring a student's distributions to a teacher's, on what the student writes or on given text."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ..batch import Batch, Outputs
from ..errors import InputError
from ..learner import Learner
from ..losses.distillation import generalized_jsd, top_forward_kl
from ..rows.teacher_prompts import columns_in
from ..source import Source
from ..types import Group
from .checks import check_ranges, check_rollouts
from .method import Method, Needs

SELF, START = "policy", "reference"
"""In place of a model: the student's own weights, as they are now or as they were at step 0."""


@dataclass(frozen=True)
class Distill(Method):
    """On-policy distillation from a teacher (GKD). Agarwal et al., 2023, https://arxiv.org/abs/2306.13649."""

    learning_rate: float = 1e-4
    batch_size: int = 8
    """Prompts per step."""
    teacher: str = ""
    """A model or adapter with the student's tokenizer; policy or reference: the student itself, now or at step 0, with
    teacher_prompt; in a recipe also a train stage. Several: NAME=MODEL,NAME=MODEL, with teacher_column."""
    teacher_column: str = ""
    """Column of the rows that names each row's teacher."""
    teacher_prompt: str = ""
    """What the teacher sees in place of the question: a text with {prompt} and other columns in braces, or the column
    that holds its whole prompt. Empty: the same prompt."""
    loss_type: Literal["jsd", "forward_kl", "reverse_kl"] = "jsd"
    """jsd: generalised Jensen-Shannon divergence over the vocabulary; forward_kl: KL(teacher || student) over the
    teacher's top_k tokens; reverse_kl: the teacher's log-ratio of each sampled token as its advantage."""
    beta: float = 0.5
    """Of jsd: from KL(teacher || student) at 0 to KL(student || teacher) at 1."""
    top_k: int = 64
    """Of forward_kl: tokens of the teacher that are compared one by one; all others count as one."""
    on_policy: float = 1.0
    """Share of steps on what the student samples (GKD's lambda); the others take the completions of the rows."""
    group_size: int = 1
    """Completions sampled per prompt (K)."""
    temperature: float = 1.0
    """Of the sampling, and of both models' distributions."""
    max_new_tokens: int = 256
    """Completions are cut off after this many tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rollouts(self)
        check_ranges(self, "distill")
        for name, owner in (("beta", "jsd"), ("top_k", "forward_kl")):
            if getattr(self, name) != getattr(Distill, name) and self.loss_type != owner:
                raise InputError(f"{name} is of loss_type {owner!r}, and loss_type is {self.loss_type!r}")
        if self.loss_type == "reverse_kl" and self.on_policy < 1:
            raise InputError(
                f"loss_type 'reverse_kl' is a mean over what the student samples, and on_policy is {self.on_policy}; "
                "leave it out, or take jsd or forward_kl"
            )
        if self.group_size > 1 and self.on_policy == 0:
            raise InputError("group_size is of sampled completions, and with on_policy=0 nothing is sampled")
        self._check_teachers()

    def _check_teachers(self) -> None:
        """InputError: the teacher and how it is asked do not fit."""
        teachers = self.teachers
        columns_in(self.teacher_prompt)
        if bool(self.teacher_column) != ("=" in self.teacher):
            raise InputError(
                f"teacher is {self.teacher!r} and teacher_column {self.teacher_column!r}; several teachers are "
                "NAME=MODEL,NAME=MODEL, and teacher_column is the column that holds a name; one is a model alone"
            )
        own = [name for name in teachers.values() if name in (SELF, START)]
        if own and not self.teacher_prompt:
            raise InputError(
                f"teacher is {own[0]!r}, the student itself, and sees the same prompt: it would teach nothing. Give "
                'teacher_prompt, such as "{prompt} The right answer is {answer}."'
            )

    @property
    def teachers(self) -> dict[str, str]:
        """Name, as teacher_column has it, or empty -> model. InputError: a name or a model is missing."""
        if "=" not in self.teacher:
            return {"": self.teacher} if self.teacher else {}
        parts = [part.strip().partition("=") for part in self.teacher.split(",")]
        if bad := [key or name for key, _, name in parts if not key or not name]:
            raise InputError(f"teacher is {self.teacher!r}: {bad[0]!r} is not NAME=MODEL")
        return {key: name for key, _, name in parts}

    def taught_by(self, named: Callable[[str], str]) -> Distill:
        """The same with other names for its teachers' models."""
        parts = [f"{key}={named(name)}" if key else named(name) for key, name in self.teachers.items()]
        return replace(self, teacher=",".join(parts))

    @property
    def needs(self) -> Needs:
        """Teachers; prompts to sample from, or demonstrations."""
        samples = self.on_policy > 0
        return Needs(
            "prompt" if self.on_policy == 1 else "demonstration",
            samples=samples,
            unscored=True,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens if samples else 0,
            reference=START in self.teachers.values(),
            taught=True,
            teachers=self.teachers,
            teacher_column=self.teacher_column,
            teacher_prompt=self.teacher_prompt,
        )

    def collect(self, source: Source) -> Iterator[list[Group]]:
        """Completions sampled from the student; in a share of the steps those of the rows."""
        given = source.demonstrations(self.batch_size)
        sampled = source.continuations(
            self.batch_size, self.group_size, self.temperature, self.max_new_tokens
        )
        while True:
            drawn = random.Random(f"{source.seed}/{source.position}").random()  # a resumed run draws the same
            yield next(sampled if drawn < self.on_policy else given)

    def annotate(self, groups: list[Group], learner: Learner) -> list[Group]:
        """With reverse_kl add each token's advantage: the teacher's log-probability minus the student's."""
        if self.loss_type != "reverse_kl":
            return groups
        taught = learner.teacher_logprobs(groups)
        return [g.with_columns(teacher_logprobs=t) for g, t in zip(groups, taught, strict=True)]

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean over the trained tokens of the step."""
        sampled = batch.groups[0].completions[0].logprobs is not None
        metrics: dict[str, Tensor] = {}
        if sampled:
            drift = outputs.logprobs.detach() - batch["sampler_logprobs"]
            metrics["mismatch"] = batch.token_mean(drift.abs())
        if self.loss_type == "reverse_kl":
            old = batch["sampler_logprobs"]
            advantages = batch["teacher_logprobs"] - old
            metrics["teacher_kl"] = batch.token_mean(-advantages)
            return batch.token_mean(-(outputs.logprobs - old).exp() * advantages), metrics
        assert outputs.predictions is not None
        assert outputs.teacher is not None
        teacher = outputs.teacher()

        def apart(logits: Tensor, part: slice) -> Tensor:
            other = teacher.logits(part)
            size = min(logits.shape[-1], other.shape[-1])  # of one tokenizer, padded to other sizes
            student, known = (x[:, :size].log_softmax(-1) for x in (logits, other))
            if self.loss_type == "jsd":
                return generalized_jsd(student, known, self.beta)
            return top_forward_kl(student, known, self.top_k)

        return batch.token_mean(outputs.predictions.per_token(apart)), metrics
