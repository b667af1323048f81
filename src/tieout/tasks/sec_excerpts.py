"""Cut tables into excerpts, and set the made-up statements of `finance_statements` as tables of the same form."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal

from .sec_print import PrintedLine, Relation, Table
from .statement_forms import COMPANIES
from .statements import SEEN_LAYOUTS, make_statement


def excerpts(table: Table, max_lines: int | None) -> list[tuple[int, int]]:
    """[start, end) of consecutive lines that together are the table, each with at most `max_lines` lines with figures.

    They are cut so that as many sums as possible are whole; of such cuts, in as few excerpts as possible. None: one.
    """
    size = len(table.lines)
    if max_lines is None:
        return [(0, size)]
    figures = [any(line.cells) for line in table.lines]
    sums = {
        (min(one.total, *one.parts), max(one.total, *one.parts)) for col in table.relations for one in col
    }
    best: list[tuple[int, int, list[tuple[int, int]]]] = [
        (0, 0, [])
    ]  # [end] (whole sums, minus excerpts, cuts)
    for end in range(1, size + 1):
        starts = [start for start in range(end) if sum(figures[start:end]) <= max_lines]
        best.append(
            max(
                (
                    whole + sum(start <= first and last < end for first, last in sums),
                    fewer - 1,
                    [*cuts, (start, end)],
                )
                for start in starts
                for whole, fewer, cuts in [best[start]]
            )
        )
    return best[size][2]


def made_tables(count: int, seed: int) -> Iterator[Table]:
    """Made-up statements, of the companies that `finance_statements` trains on."""
    for number in range(count):
        rng = random.Random(f"sec_statements/{seed}/{number}")
        made = make_statement(rng, layouts=SEEN_LAYOUTS, companies=COMPANIES["train"])
        lines = tuple(
            PrintedLine(line.label, (line.label, ""), False, line.cells, tuple(map(_figure, line.cells)))
            for line in made.lines
        )
        relations = tuple(
            Relation(i, dict.fromkeys(line.parts, 1)) for i, line in enumerate(made.lines) if line.parts
        )
        title = f"{made.company}, {made.title} ({made.scale})"
        yield Table(title, str(made.kind), 0, made.periods, lines, (relations,) * len(made.periods))


def _figure(cell: str) -> Decimal:
    """A cell of a made-up statement: `1,234`, `(56)`, `-56`, `—`, `12.5%`."""
    bare = cell.strip("()%").replace(",", "")
    if bare in ("—", "-"):
        return Decimal(0)
    return -Decimal(bare) if cell.startswith("(") else Decimal(bare)
