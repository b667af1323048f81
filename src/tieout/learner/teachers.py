"""Teachers: frozen models that say how likely they find the completions of a student."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from ..types import Group, Row
from .forward import Forward
from .micro_batches import MicroBatches
from .models.predictor import Predictor

Nested = list[list[list[float]]]
"""[group][completion][token]"""


@dataclass(frozen=True, eq=False)
class Teacher:
    """One frozen model, computed by a learner of its own, or by the student's where they share a base."""

    forward: Forward
    micro_batches: MicroBatches
    measure: Callable[[Sequence[Group], Any], Nested]
    """Log-probabilities of completions under a network."""
    active: Callable[[], AbstractContextManager[Any]]
    """Puts the teacher's weights in place, and gives the network."""


@dataclass(frozen=True, eq=False)
class Teachers:
    """The teachers of one student, by name."""

    named: Mapping[str, Teacher]
    column: str = ""
    """Of the rows: the name of each row's teacher. Empty: there is one teacher."""
    prompt: Callable[[Row], list[int]] | None = None
    """Row -> tokens that the teacher sees in place of the prompt; None: the same prompt."""

    def divided(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """The groups of each teacher, in their order."""
        for name in self.named:
            if own := [group for group in groups if self._name(group) == name]:
                yield own

    def predictor(self, groups: Sequence[Group]) -> Predictor:
        """The distributions before every completion token of groups that have one teacher."""
        teacher = self.named[self._name(groups[0])]
        layout = teacher.micro_batches.layout(self._seen(groups))
        return teacher.forward.predictor(layout, teacher.active)

    def logprobs(self, groups: Sequence[Group]) -> Nested:
        """[group][completion][token] nats, each group under its own teacher."""
        found: dict[int, list[list[float]]] = {}
        for part in self.divided(groups):
            teacher = self.named[self._name(part[0])]
            teacher.micro_batches.decide()
            with teacher.active() as network:
                measured = teacher.measure(self._seen(part), network)
            found |= dict(zip(map(id, part), measured, strict=True))
        return [found[id(group)] for group in groups]

    def _name(self, group: Group) -> str:
        return str(group.row[self.column]) if self.column else next(iter(self.named))

    def _seen(self, groups: Sequence[Group]) -> list[Group]:
        if self.prompt is None:
            return list(groups)
        return [replace(group, prompt=self.prompt(group.row)) for group in groups]
