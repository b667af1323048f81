"""Rows of the task that a train stage names as its `data`: a split, or a part of one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import InputError
from ..rows.locations import part
from ..tasks import Task
from ..types import Row

FILES = {"data.train": "train", "data.pairs": "pairs", "data.labels": "labels"}
"""Values of a train stage's `data` that name files of the recipe -> split of the task."""

FORM = "data.train[FIRST:LAST], counted from 0, without LAST"
"""How a part is named."""


def part_of(data: str) -> tuple[str, slice] | None:
    """The split that `data` names, and which of its rows; None: it names something else.

    >>> part_of("data.train[:600]")
    ('train', slice(None, 600, None))
    """
    found = re.fullmatch(r"(data\.\w+)(?:\[(\d*):(\d*)\])?", data)
    if found is None or found[1] not in FILES:
        return None
    first, last = (int(number) if number else None for number in found.groups()[1:])
    return FILES[found[1]], slice(first, last)


def named_rows(task: Task, data: str, stage: str) -> Sequence[Row] | None:
    """The rows that a stage's `data` names; None: it names something else. InputError: not all of them are there."""
    named = part_of(data)
    if named is None:
        return None
    split, asked = named
    rows = task.rows(split)
    if asked == slice(None):
        return rows
    first, last = asked.start or 0, len(rows) if asked.stop is None else asked.stop
    if not first < last <= len(rows):
        raise InputError(
            f"stage {stage!r}: data is {data!r}, and {data.partition('[')[0]} has {len(rows):,} rows; expected "
            f"[FIRST:LAST] with FIRST below LAST, and LAST at most {len(rows)}"
        )
    return part(rows, first, last)
