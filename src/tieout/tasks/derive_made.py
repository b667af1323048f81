"""What can be asked of a made-up statement: a share of a total, growth, and how many times one sum is another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .sec_print import Table

Cell = tuple[int, int]
"""(line, column)."""


@dataclass(frozen=True)
class Question:
    """A measure of two cells of a table."""

    name: Literal["share", "growth", "multiple"]
    says: str
    first: Cell
    second: Cell


def questions(table: Table, rng: random.Random) -> list[Question]:
    """All that have positive figures, in an order drawn by `rng`; a label that stands twice is not asked."""
    labels = [line.label for line in table.lines]
    asked = [
        one
        for one in (*_shares(table), *_growth(table), *_multiples(table))
        if all(
            _positive(table, cell) and labels.count(labels[cell[0]]) == 1 for cell in (one.first, one.second)
        )
    ]
    rng.shuffle(asked)
    return asked


def _positive(table: Table, cell: Cell) -> bool:
    value = table.lines[cell[0]].values[cell[1]]
    return value is not None and value > 0


def _shares(table: Table) -> Iterator[Question]:
    for column, relations in enumerate(table.relations):
        for one in relations:
            for part, sign in one.parts.items():
                if sign > 0:
                    says = f"{table.lines[part].label} as a percentage of {table.lines[one.total].label}"
                    yield Question("share", says, (part, column), (one.total, column))


def _growth(table: Table) -> Iterator[Question]:
    """From the earlier of two periods to the later."""
    for line, printed in enumerate(table.lines):
        if any("%" in cell for cell in printed.cells):  # per cent of per cent, or points?
            continue
        for later, period in enumerate(table.periods):
            for earlier, before in enumerate(table.periods):
                if _order(before) < _order(period):
                    says = f"change of {printed.label} since {before}, in per cent"
                    yield Question("growth", says, (line, later), (line, earlier))


def _multiples(table: Table) -> Iterator[Question]:
    for column, relations in enumerate(table.relations):
        for one in relations:
            for other in relations:
                if one.total != other.total:
                    says = f"{table.lines[one.total].label} divided by {table.lines[other.total].label}"
                    yield Question("multiple", says, (one.total, column), (other.total, column))


def _order(period: str) -> list[str]:
    """The year, then the quarter: `Q1 2023`.

    >>> sorted(["Q3 2021", "Q1 2022"], key=_order)
    ['Q3 2021', 'Q1 2022']
    """
    return period.split()[::-1]
