"""Cut tables into excerpts, and set the made-up statements of `finance_statements` as tables of the same form."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count, islice

from ..errors import InputError
from ..types import Row
from .sec_print import PrintedLine, Relation, Table
from .splits import split_sizes
from .statement_forms import COMPANIES
from .statements import SEEN_LAYOUTS, make_statement

SIZES: Mapping[str, int] = {"train": 2000, "calibration": 200, "test": 400}
"""Split -> rows, where they are made up."""
RowsOf = Callable[[Sequence[Table], Mapping[str, str]], Iterable[Row]]


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


def _made_tables(seed: int, split: str, periods: int) -> Iterator[Table]:
    """Made-up statements without end, of the companies that `finance_statements` has in a split."""
    for number in count():
        rng = random.Random(
            f"sec_statements/{seed}/{number}"
            if split == "train"
            else f"sec_statements/{split}/{seed}/{number}"
        )
        made = make_statement(rng, layouts=SEEN_LAYOUTS, companies=COMPANIES[split])
        lines = tuple(
            PrintedLine(line.label, (line.label, ""), False, cells, tuple(map(_figure, cells)))
            for line in made.lines
            for cells in [line.cells[:periods]]
        )
        relations = tuple(
            Relation(i, dict.fromkeys(line.parts, 1)) for i, line in enumerate(made.lines) if line.parts
        )
        title = f"{made.company}, {made.title} ({made.scale})"
        yield Table(title, str(made.kind), 0, made.periods[:periods], lines, (relations,) * periods)


def made_splits(
    name: str, sizes: Mapping[str, int], seed: int, periods: int, rows_of: RowsOf
) -> dict[str, list[Row]]:
    """Split -> `made_rows`, of other companies each, for a task without files; `sizes` in place of SIZES."""
    counts = split_sizes(name, SIZES, sizes)
    return {split: made_rows(size, seed, split, periods, rows_of) for split, size in counts.items()} | {
        "ood": []
    }


def made_rows(
    size: int,
    seed: int,
    split: str,
    periods: int,
    rows_of: RowsOf,
) -> list[Row]:
    """So many rows, each of another made-up statement, no two alike. InputError: there are not so many.

    Args:
        size: rows.
        seed: of the statements.
        split: whose companies they are of.
        periods: columns that are shown, 1 or 2.
        rows_of: the rows of tables, from what is known of their filing.
    """
    if periods not in (1, 2):
        raise InputError(f"periods is {periods}; expected 1 or 2, the columns of a made-up statement")
    found = dict[str, Row]()
    for number, table in enumerate(islice(_made_tables(seed, split, periods), 100 * size)):
        facts = {
            "company": table.title.split(",")[0],
            "cik": "",
            "adsh": f"made/{seed}/{number}",
            "form": "made up",
        }
        rows = list(rows_of([table], facts))
        for row in rows[number % len(rows) :][:1] if rows else []:
            found.setdefault(row["prompt"][1]["content"], row)
        if len(found) == size:
            break
    if len(found) < size:
        raise InputError(
            f"only {len(found)} of {size} made-up rows are left: raise max_chars or lower max_lines"
        )
    return list(found.values())


def _figure(cell: str) -> Decimal:
    """A cell of a made-up statement: `1,234`, `(56)`, `-56`, `—`, `12.5%`."""
    bare = cell.strip("()%").replace(",", "")
    if bare in ("—", "-"):
        return Decimal(0)
    return -Decimal(bare) if cell.startswith("(") else Decimal(bare)
