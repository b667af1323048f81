"""A Task: rows, how to ask, how to score. One file a task; its docstring shows one real row."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from ..errors import InputError
from ..rows.messages import check_in_turn
from ..types import Reward, Row

Environment = Callable[[Row], Generator[str, str, float | None]]
"""`text = yield observation`, `return score`: a multi-turn episode. The first observation is the user's turn."""


@dataclass(frozen=True)
class Task:
    """What to learn: where rows come from, and what a good completion is."""

    name: str
    rows: Callable[[str], Sequence[Row]]
    """Split name -> rows. Splits: train, calibration, test, ood; a task may lack some (empty list)."""
    reward: Reward | None = None
    """Scores completions; None if the environment returns the score."""
    environment: Environment | None = None
    """None: single turn, the row's prompt is asked and one completion is taken."""
    scored_by: Literal["reward", "environment"] | None = None
    """Which of the two scores; needed only if there are both. A reward then scores everything that the policy said in
    an episode."""
    metrics: Mapping[str, Reward] = field(default_factory=dict)
    """Further numbers for reports, with a reward's signature."""
    primary: str | None = None
    """The metric that says whether a completion is right: the gate judges it and reports show it first. None: the
    reward itself, or the environment's score."""
    parts: Mapping[str, Reward] = field(default_factory=dict)
    """What the reward consists of (form, schema, figures, ...): name -> the points of a reward that this part
    gave. They add up to the reward, so a gain of reward is the sum of the gains of its parts."""
    gold: Callable[[Row], str | None] | None = None
    """The completion that must score 1; None for a row that has none."""
    corrupt: Callable[[Row, random.Random], str] | None = None
    """A flawed completion that must score below gold: for pairs of gold against flawed."""
    flaws: Mapping[str, Callable[[Row, random.Random], str]] = field(default_factory=dict)
    """The kinds of flawed completions by name, where `corrupt` makes several: a calibration reports each."""
    variants: Mapping[str, Callable[[Row, random.Random], Row | None]] = field(default_factory=dict)
    """Kind (`order`, `formatting`, `paraphrase`, ...) -> the same question put otherwise: a row with a prompt and
    columns of its own whose right answer is known; None for a row that has none. See `tieout.tasks.variants`."""
    max_new_tokens: int = 256
    """Long enough for every gold completion."""
    entity: str = ""
    """The column that names what a row is about (a company, a document, a word), where splits are divided by it: the
    rows of one entity stand in one split."""

    def __post_init__(self) -> None:
        both = self.reward is not None and self.environment is not None
        if both and self.scored_by is None:
            raise InputError(
                f"task {self.name!r} has both a reward and an environment; say which of them scores: "
                'scored_by="reward" or scored_by="environment"'
            )
        if self.scored_by not in (None, "reward", "environment"):
            raise InputError(
                f"task {self.name!r}: scored_by is {self.scored_by!r}; expected reward or environment"
            )
        if self.scored_by is not None and getattr(self, self.scored_by) is None:
            raise InputError(f"task {self.name!r} is scored by its {self.scored_by}, but has none")
        if self.primary is not None and self.primary not in self.metrics:
            raise InputError(
                f"task {self.name!r}: primary is {self.primary!r}, which is none of its metrics: "
                f"{', '.join(self.metrics) or 'it has none'}"
            )

    @property
    def games(self) -> bool:
        """Whether its reward scores whole episodes: one answer to a prompt is none."""
        return self.environment is not None and self.scorer == "reward"

    @property
    def scorer(self) -> Literal["reward", "environment"] | None:
        """What scores, in training as in evaluation; None: nothing does, and the task has rows only."""
        if self.scored_by is not None:
            return self.scored_by
        return (
            "environment" if self.environment is not None else "reward" if self.reward is not None else None
        )


TASKS: dict[str, str] = {
    "code": "tieout.tasks.code:make",
    "controls": "tieout.tasks.controls:task",
    "derive": "tieout.tasks.derive:load",
    "finance_statements": "tieout.tasks.finance_statements:make",
    "numeric_qa": "tieout.tasks.numeric_qa:load",
    "rag": "tieout.tasks.rag:make",
    "ratios": "tieout.tasks.ratios:load",
    "sec_statements": "tieout.tasks.sec_statements:load",
    "short_questions": "tieout.tasks.short_questions:task",
    "style": "tieout.tasks.style:make",
    "summaries": "tieout.tasks.summaries:make",
    "wordle": "tieout.tasks.wordle:make",
}
"""Name -> where it is: a Task, or a function from options to a Task."""


def load_task(name: str, options: Mapping[str, object] | None = None) -> Task:
    """A task by its name in TASKS, or your own as `FILE.py:attribute` or `module:attribute`.

    Raises ValueError for an unknown name (the nearest is named) and for options that the task does not take.
    """
    from ..config.attribute import load_attribute
    from ..config.fields import checked_arguments

    if name not in TASKS and ":" not in name:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise InputError(f"no task {name!r}{hint} There are: {', '.join(TASKS)}; or FILE.py:attribute")
    found = load_attribute(TASKS.get(name, name))
    if isinstance(found, Task):
        if options:
            raise InputError(f"task {name!r} takes no options; given: {', '.join(options)}")
        return _opened(found)
    if not callable(found):
        raise InputError(
            f"{name!r} is a {type(found).__name__}; expected a tieout Task, or a function that makes one"
        )
    given = checked_arguments(found, options or {}, f"task {name!r}")
    try:
        task = found(**given)
    except TypeError as error:
        raise InputError(f"task {name!r} with options {dict(options or {})}: {error}") from error
    if not isinstance(task, Task):
        raise InputError(f"{name!r} gave a {type(task).__name__}; expected a tieout Task")
    return _opened(task)


def _opened(task: Task) -> Task:
    """The task; of an environment, its rows without a prompt with the first observation as one."""
    if task.environment is None:
        return task
    return replace(task, rows=cache(lambda split: _with_observations(task, split)))


def _with_observations(task: Task, split: str) -> Sequence[Row]:
    rows = task.rows(split)
    for number, row in enumerate(rows, 1):
        if isinstance(row.get("completion"), list):
            try:
                check_in_turn(row["completion"])
            except InputError as error:
                raise InputError(f"task {task.name!r}, row {number} of {split}: {error}") from error
    if all("prompt" in row for row in rows):
        return rows
    assert task.environment is not None
    found = list[Row]()
    for number, row in enumerate(rows, 1):
        if "prompt" not in row:
            game = task.environment(row)
            try:
                first = next(game)
            except Exception as error:  # StopIteration, too: it returned at once
                said = (
                    "it ended at once"
                    if isinstance(error, StopIteration)
                    else f"{type(error).__name__}: {error}"
                )
                raise InputError(
                    f"task {task.name!r}, row {number} of {split}: the environment gave no first observation: {said}"
                ) from error
            game.close()
            row = {**row, "prompt": [{"role": "user", "content": first}]}
        found.append(row)
    return found
