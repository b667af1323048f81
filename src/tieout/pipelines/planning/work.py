"""Work of a train stage: its groups at their real lengths, and its optimizer steps, before anything is trained."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...chat.template import Chat
from ...errors import InputError
from ...learner.models.names import resolve
from ...methods import Distill
from ...rows.spread import spread
from ...source import Source
from ...tasks import Task
from ...training.spec import TrainSpec
from ...types import Completion, Group, Row
from ..kinds import Demonstrations, Pairs, Train
from ..run import Run
from ..stages.plan import rows_of
from ..stages.train import spec_of
from ..training_rows import known_rows, training_task

SAMPLE = 128
"""Rows whose lengths are measured, at least a batch."""


@dataclass(frozen=True)
class Work:
    """One training, as far as it is known beforehand."""

    name: str
    spec: TrainSpec
    task: Task
    """Its split `train` is learned from; where `rows` is a bound, prompts stand in for it."""
    rows: int
    at_most: bool = False
    length: int = 0
    """Tokens of a completion that are assumed; 0: the rows hold the completions."""
    assumed: tuple[str, ...] = field(default=())
    """What is not known, and what was taken for it."""
    to_the_end: bool = False
    """Whether a measurement may sample completions to their ends instead: the policy is there already."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        method = self.spec.method
        return max(1, math.ceil(method.epochs * self.rows / method.batch_size))

    @property
    def lengths(self) -> str:
        """What is assumed of completions that are not sampled yet."""
        return f"every completion has {self.length} tokens"


def work_of(run: Run, stage: Train, length: int = 0) -> Work:
    """The work of one stage of a run, for whatever stages before it have left."""
    spec, notes = _without_what_is_missing(run, stage)
    count, bound = rows_of(run, stage)
    needs, task = stage.method.needs, run.task
    known = (
        known_rows(task, stage, run.fitting) is not None
        or (run.folder.path / stage.options.data / "done.json").exists()
    )
    if known:
        task = training_task(task, stage, run.folder.path, run.fitting)
    if not known:
        longest = max(s.method.needs.max_new_tokens for s in run.recipe.stages if isinstance(s, Train))
        made = run.recipe.stage(stage.options.data)
        length = length or (task.max_new_tokens if isinstance(made, Pairs | Demonstrations) else longest)
        notes.append(f"rows are not made yet: at most {count}, completions of {length} tokens")
    start = spec_of(run, stage).start
    assumed = 0 if known and not needs.samples else length
    work = Work(stage.name, spec, task, count, bool(bound), assumed, tuple(notes))
    return _sampling(work, length, there=start is None or start.exists())


def work_alone(name: str, spec: TrainSpec, task: Task, length: int = 0) -> Work:
    """The work of `tieout train`."""
    return _sampling(Work(name, spec, task, len(task.rows("train"))), length, there=True)


def groups_of(work: Work, chat: Chat) -> list[Group]:
    """Groups of at least one batch; completions that are not there yet are random tokens of the assumed length."""
    method, rows = work.spec.method, work.task.rows("train")
    count = max(method.batch_size, min(SAMPLE, work.rows))
    if not work.length:
        batches, found = method.collect(Source(work.task, chat, seed=work.spec.seed)), list[Group]()
        while len(found) < count:
            found += next(batches)
        return found
    draw, size = random.Random(0), len(chat.tokenizer)
    alone = {"demonstration": 1, "label": 1}.get(method.needs.rows, 2)
    number = getattr(method, "group_size", alone) if method.needs.samples else alone
    scores = None if number == 1 else [1.0] + [0.0] * (number - 1)
    return [
        Group(
            chat.prompt(row["prompt"]), [_made(draw, size, work.length) for _ in range(number)], scores, row
        )
        for row in _cycle(spread(rows, min(count, len(rows))), count)
    ]


def _cycle(rows: Sequence[Row], count: int) -> list[Row]:
    return [rows[i % len(rows)] for i in range(count)]


def _made(draw: random.Random, vocabulary: int, length: int) -> Completion:
    return Completion([draw.randrange(vocabulary) for _ in range(length)], [True] * length)


def _sampling(work: Work, length: int, there: bool) -> Work:
    """The work with the length of sampled completions; `there`: the policy that starts to sample is."""
    if length < 0:
        raise InputError(f"length is {length}; it must be at least 0")
    needs, notes = work.spec.method.needs, work.assumed
    if needs.taught:
        notes = (*notes, "time of the teacher is not counted")
    if needs.rewarded:
        notes = (*notes, "time of the reward is not counted")
    if not needs.samples:
        return replace(work, assumed=notes)
    to_the_end = there and not length and work.task.environment is None
    return replace(work, length=length or needs.max_new_tokens, assumed=notes, to_the_end=to_the_end)


def _there(teacher: str) -> bool:
    """Whether a teacher is not the adapter of a stage that is yet to be trained."""
    return Path(teacher).name != "adapter" or Path(teacher).exists()


def _without_what_is_missing(run: Run, stage: Train) -> tuple[TrainSpec, list[str]]:
    """The specification on the base, where what it builds on is not trained yet: the shapes are the same."""
    spec, notes = spec_of(run, stage), list[str]()
    if spec.start is not None and not spec.start.exists():
        rank = spec.adapter.rank or next(
            (
                s.options.adapter.rank
                for s in run.recipe.stages
                if isinstance(s, Train) and s.options.adapter.rank
            ),
            None,
        )
        base = spec.model if Path(spec.model).exists() else resolve(run.recipe.model)[0]
        spec = replace(spec, start=None, model=base, adapter=replace(spec.adapter, rank=rank))
    if isinstance(spec.method, Distill) and not all(map(_there, spec.method.teachers.values())):
        spec = replace(spec, method=replace(spec.method, teacher="", teacher_column="", teacher_prompt=""))
        notes.append("a teacher is not trained yet: its memory is not counted")
    folder = spec.method.needs.reward_model
    if folder and not Path(folder).exists():
        changed = {"reward_model": ""}
        spec = replace(spec, method=replace(spec.method, **changed))  # type: ignore[arg-type]
        notes.append("the reward model is not trained yet: its memory is not counted")
    return spec, notes
