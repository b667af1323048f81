"""Variants of a row of `finance_statements`: other order of lines, other print, other words. The gold follows."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from ..rewards.text.structured import contains_whole, normalise_space
from ..types import Row
from .variants import asking

HEADING = 2
"""Lines above the figures: the title and the periods."""
WORDINGS = (
    "Which rows add up to {total} for {period}?",
    "Show what {total} for {period} consists of.",
    "{period}: take {total} apart into the rows that it is the sum of.",
)
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def order(row: Row, rng: random.Random) -> Row | None:
    """The components in another order, within lines that stand together; None where no two may change places.

    The first of such lines stays unless it is the first of the statement: it may be the sum of the lines above it.
    """
    lines = row["statement"].split("\n")
    places = [_place(lines, part["evidence"]) for part in row["components"]]
    if None in places:
        return None
    runs: list[list[int]] = []
    for place in sorted(place for place in places if place is not None):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    moved = dict[int, int]()
    for run in runs:
        free = run if run[0] == HEADING else run[1:]
        to = rng.sample(free, len(free))
        if len(free) > 1 and to == free:
            to = [*free[1:], free[0]]
        moved |= dict(zip(free, to, strict=True))
    if all(place == to for place, to in moved.items()):
        return None
    came = {to: place for place, to in moved.items()}
    other = [lines[came.get(place, place)] for place in range(len(lines))]
    there = {place: part for place, part in zip(places, row["components"], strict=True) if place is not None}
    components = [there[place] for place in sorted(there, key=lambda place: moved.get(place, place))]
    return _shown(
        row, row["prompt"][-1]["content"].split("\n", 1)[0], "\n".join(other), components=components
    )


def formatting(row: Row, rng: random.Random) -> Row:
    """Figures without thousands separators, and a blank line below the question."""
    asked = row["prompt"][-1]["content"].split("\n", 1)[0]
    columns = {"total": _bare(row["total"]), "components": [_bare(part) for part in row["components"]]}
    return _shown(row, f"{asked}\n", _SEPARATOR.sub("", row["statement"]), **columns)


def paraphrase(row: Row, rng: random.Random) -> Row:
    """The question in other words."""
    asked = rng.choice(WORDINGS).format(total=row["total"]["name"], period=row["period"])
    return _shown(row, asked, row["statement"])


def _shown(row: Row, asked: str, statement: str, **columns: Any) -> Row:
    return asking(row, f"{asked}\n{statement}", statement=statement, **columns)


def _place(lines: list[str], evidence: str) -> int | None:
    """The one line below the heading that has this piece."""
    found = [i for i in range(HEADING, len(lines)) if contains_whole(normalise_space(lines[i]), evidence)]
    return found[0] if len(found) == 1 else None


def _bare(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A figure with its pieces of the source as they are printed without separators."""
    pieces = {key: _SEPARATOR.sub("", figure[key]) for key in ("evidence", "other_evidence")}
    return {**figure, **pieces}
