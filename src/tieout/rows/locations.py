"""Locations of rows in their source, and errors that name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

from ..errors import InputError
from ..types import Row

MAX_PROBLEMS = 5
"""This many causes are listed, the others are counted."""
MAX_NAMED = 3
"""This many further rows with the same cause are named."""


class RowsError(InputError):
    """Data that cannot be used; the message names file and line, what is there and what is expected."""


class Rows(list[Row]):
    """A list of rows that knows its source and, for text files, the line of each row."""

    def __init__(
        self, rows: Iterable[Row] = (), source: str = "rows", lines: Sequence[int | str] | None = None
    ):
        super().__init__(rows)
        self.source = source
        self.lines = lines

    def location(self, index: int) -> str:
        """`train.jsonl:17`, or `train.parquet, row 17` where there are no lines."""
        if self.lines is not None:
            line = self.lines[index]
            return line if isinstance(line, str) else f"{self.source}:{line}"  # a mixture knows whole places
        return f"{self.source}, row {index + 1}"


def each(rows: Sequence[Row], change: Callable[[Row], Row]) -> list[Row]:
    """The rows, each changed, with the locations that they had."""
    made = copy(rows) if isinstance(rows, list) else list(rows)
    made[:] = map(change, rows)
    return made


def part(rows: Sequence[Row], first: int, last: int) -> Sequence[Row]:
    """The rows from one place up to another, with the locations that they had."""
    found = rows[first:last]
    return (
        Rows(found, rows.source, [rows.location(i) for i in range(first, last)])
        if isinstance(rows, Rows)
        else found
    )


def location(rows: Sequence[Row], index: int, source: str = "rows") -> str:
    """The location of a row, as errors name it."""
    return rows.location(index) if isinstance(rows, Rows) else f"{source}, row {index + 1}"


def raise_problems(problems: Sequence[str], source: str, advice: str = "") -> None:
    """RowsError with the first problems and what to do; nothing if there are none.

    A problem is `LOCATION: CAUSE`. Rows with the same cause are one line: the first is named, the others are counted.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise RowsError(f"{problems[0]}; {advice}" if advice else problems[0])
    causes = dict[str, list[str]]()
    for problem in problems:
        location, _, cause = problem.partition(": ")
        causes.setdefault(cause, []).append(location)
    listed = [_line(cause, places) for cause, places in list(causes.items())[:MAX_PROBLEMS]]
    if left := sum(map(len, list(causes.values())[MAX_PROBLEMS:])):
        listed.append(f"... and {left} more")
    listed += [advice] if advice else []
    raise RowsError(f"{len(problems)} problems in {source}:\n  " + "\n  ".join(listed))


def _line(cause: str, places: Sequence[str]) -> str:
    """A cause with the first of its places; the next ones in brackets."""
    more = len(places) - 1 - MAX_NAMED
    others = [*places[1 : 1 + MAX_NAMED], *([f"{more} more"] if more > 0 else [])]
    return f"{places[0]}: {cause}" + (f" (and {'; '.join(others)})" if others else "")


def kind_of(value: Any) -> str:
    """A value's type in words."""
    names = {
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
