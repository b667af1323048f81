"""Read the figures of an answer to `finance_statements` from any text that holds some JSON, and count the right ones.

Form does not matter here: an answer inside prose, cut off, with keys too many or figures as text says what it says. So
that guesses do not pay, everything that is said counts: a second total, an entry too many, another answer next to the
first. The same answer again says nothing new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..text.figures import meant
from ..text.loose_json import Node, Value, number, read_loose
from ..text.structured import normalise_name

NAMES = frozenset(("name", "label", "row", "item", "line", "component"))
VALUES = frozenset(("value", "amount", "figure", "number"))
TOTALS = frozenset(("total", "sum"))
CITATIONS = frozenset(("citations", "citation", "quotes", "evidence", "sources"))
"""Keys that are read as such, in any case."""


@dataclass(slots=True)
class Figures:
    """What an answer says."""

    components: Counter[tuple[str, float | None]] = field(default_factory=Counter)
    """(normalised name, value; None: none that is a number)."""
    totals: set[float | None] = field(default_factory=set)
    citations: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of an answer is right."""

    right: int
    """Figures (components and total) with the right name and value."""
    names: int
    """Components with the right name, whatever their value."""
    asked: int
    whole: int
    """Figures asked, and those given beyond them: `right / whole` is 1 only if nothing else is said."""


def read_figures(completion: str) -> Figures:
    """All figures and citations of a text, but for its thinking."""
    found = Figures()
    nodes: list[Node] = [Node("[", [("", node)]) for node in read_loose(completion)]
    while nodes:
        node = nodes.pop()
        here: Counter[tuple[str, float | None]] = Counter()
        for key, value in node.items:
            role = key.casefold()
            if role in TOTALS:
                found.totals.update(_totals(value))
            elif role in CITATIONS:
                found.citations |= Counter(_texts(value))
            elif isinstance(value, Node):
                here.update(_entries(value))
                nodes.append(value)
        # The same entries in another place are the same answer again; twice in one place, they are one too many.
        found.components |= here
    return found


def count_figures(
    figures: Figures, total: Mapping[str, Any], components: Sequence[Mapping[str, Any]]
) -> Counts:
    """How many of the asked figures are there, and how many others."""
    asked: Counter[tuple[str, float | None]] = Counter(
        (normalise_name(part["name"]), meant(part["value"])) for part in components
    )
    right = (figures.components & asked).total() + (meant(total["value"]) in figures.totals)
    given_names = Counter(name for name, _ in figures.components.elements())
    names = (given_names & Counter(name for name, _ in asked.elements())).total()
    whole = max(figures.components.total(), len(components)) + max(len(figures.totals), 1)
    return Counts(right, names, len(components) + 1, whole)


def _entries(node: Node) -> list[tuple[str, float | None]]:
    """The components that an object is: one with a name or a value, or a map from names to values; else none."""
    roles = [(key.casefold(), value) for key, value in node.items]
    if node.opened != "{" or not roles:
        return []
    keys = {role for role, _ in roles}
    names = [value if isinstance(value, str) else "" for role, value in roles if role in NAMES]
    values = [_number(value) for role, value in roles if role in VALUES]
    if values or (names and not any(isinstance(value, Node) for _, value in roles) and not keys & TOTALS):
        count = max(len(names), len(values))
        names += (names[-1:] or [""]) * (count - len(names))
        values += [None] * (count - len(values))
        return [(normalise_name(name), value) for name, value in zip(names, values, strict=True)]
    figures = [_number(value) for _, value in roles]
    if keys & (TOTALS | CITATIONS) or None in figures:
        return []
    return [(normalise_name(key), value) for (key, _), value in zip(node.items, figures, strict=True)]


def _number(value: Value) -> float | None:
    if isinstance(value, str):
        return number(value)
    return None if isinstance(value, Node) else value


def _totals(value: Value) -> list[float | None]:
    if not isinstance(value, Node):
        return [_number(value)]
    said = [_number(inner) for key, inner in value.items if not key or key.casefold() in VALUES]
    return said or [None]


def _texts(value: Value) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for _, text in value.items if isinstance(text, str)] if isinstance(value, Node) else []
