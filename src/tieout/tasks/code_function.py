"""A function to be written: its text, its programs, and the calls that test it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = tuple[list[Any], dict[str, Any]]
"""Positional and named arguments."""


@dataclass(frozen=True)
class Function:
    """One row's function. Two functions of one `family` differ in what they measure, in names, options and numbers."""

    family: str
    entry: str
    signature: str
    task: str
    """A sentence or more, after "Write a Python function `f(x)`."."""
    program: str
    """Gold."""
    flawed: tuple[str, ...]
    """Programs of likely mistakes, the likeliest first; a row takes the first that passes its example and fails a
    hidden test."""
    calls: dict[str, Callable[[random.Random], Call]]
    """Kind -> a call of it. `example` is shown in the prompt, the others are hidden tests."""
    kinds: tuple[str, ...]
    """Of the hidden tests, in their order: `usual` ones first, edge cases after them."""
    caught: tuple[str, ...] = ()
    """Programs of which each must fail a hidden test; a row of which one passes is drawn again."""

    @property
    def text(self) -> str:
        """What is asked, up to the example."""
        return f"Write a Python function `{self.entry}({self.signature})`. {self.task}"


def defined(program: str, entry: str) -> Callable[..., Any]:
    """The function of a program of ours: from this package, and from no model."""
    scope: dict[str, Any] = {}
    exec(program, scope)
    found: Callable[..., Any] = scope[entry]
    return found


def written(call: Call, entry: str) -> str:
    """A call as it stands in a prompt.

    >>> written(([[1, 2]], {"days": 3}), "f")
    'f([1, 2], days=3)'
    """
    args, kwargs = call
    named = [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"{entry}({', '.join([*map(repr, args), *named])})"
