"""A monitor, and what it remembers of earlier steps."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, TypeVar

from ...types import Group

Monitor = Callable[[int, Sequence[Group], MutableMapping[str, float]], None]
"""Gets the step's number, its groups (annotated) and its metrics, which it may add to."""


Memory = dict[str, Any]
"""What a monitor knows of earlier steps: plain values, which `train` saves with the weights."""

F = TypeVar("F", bound=Callable[..., Any])


def remembers(memory: Memory) -> Callable[[F], F]:
    """Declare that `memory` is all a monitor remembers, so that a resumed run continues as the unbroken one."""

    def mark(function: F) -> F:
        function.memory = memory  # type: ignore[attr-defined]
        return function

    return mark


def memory_of(function: Callable[..., Any]) -> Memory:
    """What a monitor, detector or action remembers: the memory itself, not a copy."""
    memory: Memory = getattr(function, "memory", {})
    return memory


def both_ends(memory: Memory, seen: Any, start: int, window: int) -> bool:
    """Put what a step showed to the `first` steps of a run, or to its `last`; whether both are whole."""
    if len(memory["first"]) < start:
        memory["first"].append(seen)
        return False
    memory["last"] = [*memory["last"], seen][-window:]
    return len(memory["last"]) == window


def recall(memory: Memory, saved: Memory) -> None:
    """Put back what was saved; names that are new since then stay as they are."""
    for name, value in saved.items():
        if isinstance(memory.get(name), dict):
            recall(memory[name], value)
        elif name in memory:
            memory[name] = value
