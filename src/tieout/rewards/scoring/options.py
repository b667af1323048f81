"""Options of rewards: columns of the row, or one value for all."""

from __future__ import annotations

from typing import Any

from ...errors import InputError


def each(value: Any, count: int) -> list[Any]:
    """A column as it is, or one value for all; a list or tuple is a column.

    >>> each(3, 2), each([1, 2], 2)
    ([3, 3], [1, 2])
    """
    if isinstance(value, list | tuple):
        if len(value) != count:
            raise InputError(f"an option has {len(value)} values for {count} completions")
        return list(value)
    return [value] * count
