"""Functions that make text of rows, as TRL's users write them: of one row, or of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..types import Row


def rowwise(function: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """TRL's formatting_func as a function of one row: earlier versions gave it a batch, and took a list of texts."""
    if function is None:
        return None
    batched: list[bool] = []

    def of_batch(row: Row) -> Any:
        made = function({name: [value] for name, value in row.items()})
        return made[0] if isinstance(made, list) and len(made) == 1 and isinstance(made[0], str) else None

    def of_row(row: Row) -> Any:
        if not batched:
            try:
                batched.append(of_batch(row) is not None)
            except Exception:  # a function of rows may fail on a batch, in whatever way
                batched.append(False)
        return of_batch(row) if batched[0] else function(row)

    return of_row
