"""Probes that compare form with substance, for gold that is JSON: a well-formed wrong answer, and a right or half-right
one whose form is broken.

A reward that pays the first at least as much as the second teaches form: a policy finds it first, and keeps to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from .gold import Gold
from .json_probes import dumped, numbers, put, wrong_value
from .probe import Probe, Setting

KIND = "form against substance"

BREAKS: Mapping[str, Callable[[Gold, Any], str]] = {
    "with words around it": lambda gold, value: (
        f"{gold.before}Here it is: {dumped(value)}. I hope that helps.{gold.after}"
    ),
    "with a key too many": lambda gold, value: put(gold, {**value, "note": "as asked"}),
    "with the last bracket cut off": lambda gold, value: gold.before + dumped(value)[:-1] + gold.after,
}
"""What breaks the form and leaves what is said."""


def form_probes(gold: Gold, setting: Setting) -> Iterator[Probe]:
    """For gold that is a JSON object; none for another."""
    if gold.kind != "json" or not isinstance(gold.value, dict):
        return
    wrong = {"made up": wrong_value(gold.value)}
    for other in setting.others:
        if other.kind == "json" and _answers_nothing_alike(gold.value, other.value):
            wrong["another row's gold"] = other.value
            break
    half = _half_right(gold.value)
    for name, value in wrong.items():
        for broken, broke in BREAKS.items():
            yield Probe(
                KIND,
                f"well-formed, {name}; the right answer {broken}",
                put(gold, value),
                "outweighs",
                broke(gold, gold.value),
            )
            if half is not None:
                yield Probe(
                    KIND,
                    f"well-formed, {name}; a half-right answer {broken}",
                    put(gold, value),
                    "outweighs",
                    broke(gold, half),
                )


def _half_right(value: Any) -> Any | None:
    """Every second number wrong, the first being right; None if there are not two."""
    turn = count()
    changed = numbers(value, lambda n: n if next(turn) % 2 == 0 else n * 7 + 13)
    return changed if next(turn) >= 2 else None


def _answers_nothing_alike(one: Any, other: Any) -> bool:
    """Whether two objects have the same keys, and no text or number of one is in the other."""
    if not isinstance(other, dict) or set(one) != set(other):
        return False
    return not set(_leaves(one)) & set(_leaves(other))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    elif value is not None:
        yield value
