"""Where a task's splits come from: a seeded generator of rows, or one file that is the test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from ..errors import InputError
from ..rewards.scoring.runner import check_reward
from ..rows import check_rows, read_rows
from ..rows.spread import spread
from ..types import Reward, Row
from . import Task

Splits = Callable[[str], Sequence[Row]]
"""Split -> its rows; none for a split that is not there."""


def split_sizes(name: str, defaults: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """The defaults with other sizes. InputError: `sizes` names a split that has no default, or is below 0."""
    unknown = sorted(set(sizes) - set(defaults))
    if unknown:
        raise InputError(f"no split {', '.join(unknown)}; {name} has: {', '.join(defaults)}")
    for split, size in sizes.items():
        if size < 0:
            raise InputError(f"task {name}: sizes.{split} is {size}; expected 0 or more rows")
    return {**defaults, **sizes}


def generated(
    name: str, defaults: Mapping[str, int], sizes: Mapping[str, int], row: Callable[[str, int], Row]
) -> Splits:
    """Rows made by `row(split, index)`, each split once. ValueError: `sizes` names a split that has no default."""
    counts = split_sizes(name, defaults, sizes)

    @cache
    def rows(split: str) -> Sequence[Row]:
        return [row(split, i) for i in range(counts.get(split, 0))]

    return rows


def from_file(path: str | Path, reward: Reward) -> Splits:
    """The rows of a file, all in the split `test`. ValueError: a column that the reward asks for is missing."""
    given = check_rows(read_rows(path), "prompt", str(path))
    check_columns(reward, given, str(path))
    return lambda split: given if split == "test" else []


def check_columns(reward: Reward, rows: Sequence[Row], source: str) -> None:
    """InputError, with the row: it lacks a column that the reward asks for. What is null in a file is not there."""
    seen = set[tuple[str, ...]]()
    for number, row in enumerate(rows, 1):
        if tuple(row) not in seen:
            try:
                check_reward(reward, row)
            except InputError as error:
                raise InputError(f"{source}, row {number}: {error}; null counts as missing") from error
            seen.add(tuple(row))


def from_lists(name: str, rows: Mapping[str, Sequence[Row]]) -> Splits:
    """Rows that are there, by split. InputError, when asked: a split that `rows` does not have."""

    def rows_of(split: str) -> Sequence[Row]:
        if split not in rows:
            raise InputError(f"task {name} has no split {split!r}; it has: {', '.join(rows)}")
        return rows[split]

    return rows_of


def only_made(task: str, **options: object) -> None:
    """InputError: an option that is of generated rows alone is given beside the path of others."""
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"task {task}: {name} is of the rows that it makes up, and path gives others: leave one of the two out"
            )


def rows_or_none(task: Task, split: str) -> Sequence[Row]:
    """The rows of a split; none for a split that the task lacks."""
    try:
        return task.rows(split)
    except InputError:  # a task may refuse the names of splits that it does not have
        return []


def calibration_rows(task: Task, limit: int) -> list[Row]:
    """Rows spread over the split `calibration`; over `train`, for a task that sets none aside."""
    rows = rows_or_none(task, "calibration") or rows_or_none(task, "train")
    return spread(rows, limit) if rows and limit else []
