"""What is known of a completion apart from its score: whether it is right, and what each part of its reward gave."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import InputError
from ...rewards.processes.workers import Workers
from ...rewards.scoring.combine import Combined
from ...rewards.scoring.failures import Failures
from ...rewards.scoring.outcomes import judges_form, reward_range
from ...rewards.scoring.runner import Call, score_groups
from ...tasks import Task
from ...types import Prompt, Reward, Row

FORM_WORDS = frozenset({"form", "format", "json", "schema", "structure", "tags", "valid", "xml"})
"""A part whose name has one of these words is form, and so is one that declares it: `ranged(..., form=True)`."""
SAME = 1e-9
"""Values that differ by less are equal."""


@dataclass(frozen=True)
class Candidate:
    """A completion that may become one side of a pair."""

    text: str
    score: float
    measures: Mapping[str, float]
    """Name -> value; a measure that abstained or failed is absent."""


@dataclass(frozen=True)
class Measures:
    """The measures of a task."""

    primary: str | None
    """The metric that says whether a completion is right."""
    functions: Mapping[str, Reward]
    """What is called for them: the primary, and the task's parts; its other metrics where it declares no parts."""
    form: frozenset[str]
    """Names of those that judge the form."""
    substance: frozenset[str]
    """Names of those that judge anything else, without the primary."""
    bounds: tuple[float, float] | None
    """The declared range of the reward."""

    @classmethod
    def of(cls, task: Task) -> Measures:
        """The parts that the task declares; else those of a combined reward; else its metrics."""
        own: Mapping[str, Reward] = task.parts
        combined = task.reward.parts if isinstance(task.reward, Combined) and not own else {}
        if not own and not combined:
            own = {name: function for name, function in task.metrics.items() if name != task.primary}
        parts = {**own, **combined}
        form = frozenset(name for name, part in parts.items() if judges_form(part) or _says_form(name))
        functions = dict(own)  # a combined reward gives its parts with the score
        if task.primary is not None:
            functions[task.primary] = task.metrics[task.primary]
        bounds = reward_range(task.reward) if task.reward is not None else None
        return cls(task.primary, functions, form, frozenset(parts) - form - {task.primary}, bounds)

    @property
    def tell_form(self) -> bool:
        """Whether pairs that form alone decides can be told from others."""
        return bool(self.form) and (self.primary is not None or bool(self.substance))

    def candidates(
        self, task: Task, groups: Sequence[Scored], workers: Workers | None
    ) -> list[list[Candidate]]:
        """[group][completion] with every measure. TooManyErrors: one fails on more than a fifth of the completions."""
        calls = [Call.of_texts(g.texts, [g.prompt] * len(g.texts), g.row, opened=g.opened) for g in groups]
        found: list[list[dict[str, float]]] = [[dict(part) for part in g.parts] for g in groups]
        for name, function in self.functions.items():
            said = score_groups(function, calls, able(workers, function))
            failures = Failures(f"measure {name!r}")
            for outcomes in said:
                failures.count(outcomes)
            failures.check()
            for own, outcomes in zip(found, said, strict=True):
                for values, outcome in zip(own, outcomes, strict=True):
                    if outcome.worth is not None:
                        values[name] = outcome.worth
        return [
            [Candidate(*case) for case in zip(g.texts, g.scores, own, strict=True)]
            for g, own in zip(groups, found, strict=True)
        ]

    def contradict(self, chosen: Candidate, rejected: Candidate) -> bool:
        """Whether the primary metric prefers the completion that the reward rejects."""
        return self.primary is not None and _gain(chosen, rejected, self.primary) < -SAME

    def decision(self, chosen: Candidate, rejected: Candidate) -> Decision:
        """What decides a pair: right against wrong, else the substance that gained most, else the form."""
        form, substance = (_gains(chosen, rejected, names) for names in (self.form, self.substance))
        told = False if self.tell_form else None
        if self.primary is not None and _gain(chosen, rejected, self.primary) > SAME:
            how = f", {'form differs too' if form else 'same form'}" if self.form else ""
            return Decision(f"right against wrong{how}", told, not form)
        if sum(substance.values()) > SAME:
            return Decision(f"{max(substance, key=substance.__getitem__)}: more against less", told, not form)
        if form:
            how = "form against substance" if substance else "form alone"
            return Decision(
                f"{how}: {max(form, key=form.__getitem__)}", None if told is None else True, False
            )
        if self.primary or self.form or self.substance:
            return Decision("the reward alone: no part differs", told)
        if self.bounds is not None and chosen.score - rejected.score > self.bounds[1] - self.bounds[0] - 1e-6:
            return Decision("right against wrong, by the reward", None)
        return Decision("cannot be told: the task has neither a primary metric nor parts", None)


@dataclass(frozen=True)
class Decision:
    """What decides a pair, in words."""

    label: str
    form_alone: bool | None
    """Whether form differs and substance gains nothing; None: the measures cannot tell."""
    same_form: bool = True


@dataclass(frozen=True)
class Scored:
    """Completions of one row, with their scores."""

    row: Row
    texts: Sequence[str]
    scores: Sequence[float]
    parts: Sequence[Mapping[str, float]]
    """Of a combined reward, what each part gave; empty mappings else."""
    opened: Sequence[str] = ()
    """Of each text, the tag of thinking that its prompt left open; none where nothing was sampled."""

    @property
    def prompt(self) -> Prompt:
        """Of the row."""
        prompt: Prompt = self.row["prompt"]
        return prompt


def _gain(chosen: Candidate, rejected: Candidate, name: str) -> float:
    """Chosen minus rejected; 0 where one of them has no value."""
    first, second = chosen.measures.get(name), rejected.measures.get(name)
    return 0.0 if first is None or second is None else first - second


def _gains(chosen: Candidate, rejected: Candidate, names: Iterable[str]) -> dict[str, float]:
    """The measures that differ -> chosen minus rejected."""
    gains = {name: _gain(chosen, rejected, name) for name in sorted(names)}
    return {name: gain for name, gain in gains.items() if abs(gain) > SAME}


def _says_form(name: str) -> bool:
    return not FORM_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def able(workers: Workers | None, function: Reward) -> Workers | None:
    """The workers, unless they cannot import the function; it then runs in this process."""
    if workers is not None and not isinstance(function, Combined):
        try:
            workers.load(function)
        except InputError:
            return None
    return workers
