"""Settings of an attack: one set of defaults for the library, the command line and recipes."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InputError
from .probe import CLASSES


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """How long and how widely a reward is attacked."""

    max_rows: int = 4
    """Rows to attack, spread over all; golds of the others serve as wrong answers."""
    num_search: int = 200
    """Probes bred from the fixed ones."""
    seconds: float = 8.0
    """Time for the fixed probes, and half of it for the search; what is not tried by then is counted as skipped."""
    deadline_seconds: float = 1.0
    """A call that takes longer hangs; longer calls of gold lengthen it."""
    classes: tuple[str, ...] = CLASSES
    """Classes of probes to try; the verdict says which were not."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.classes) - set(CLASSES)):
            raise InputError(f"no class is called {unknown[0]!r}; there are: {', '.join(CLASSES)}")
        if self.max_rows < 0 or self.num_search < 0:
            raise InputError(
                f"max_rows is {self.max_rows} and num_search {self.num_search}; neither is below 0"
            )
        if not (self.seconds > 0 and self.deadline_seconds > 0):
            raise InputError(
                f"seconds is {self.seconds} and deadline_seconds {self.deadline_seconds}; both must be above 0"
            )
