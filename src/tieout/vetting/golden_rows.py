"""The gold of a row: the completion that a reward must pay in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..errors import InputError
from ..rewards.text.figures import MEASURES, SCALES, figure, written
from ..types import Row


def with_gold(row: Row, gold: Callable[[Row], str | None] | None = None) -> Row | None:
    """The row with gold as a text in `completion`: the row's own (of a conversation, the last turn), else that of the
    task, else the answer, with its scale where a column says it; None: it has none."""
    text = row.get("completion")
    if isinstance(text, list | tuple) and text and isinstance(text[-1], Mapping):
        text = text[-1].get("content")
    if text is None and gold is not None:
        text = gold(row)
    if text is None and row.get("answer") is not None:
        text = _said_whole(written(row["answer"]), row.get("scale"))
    if not isinstance(text, str) or not text.strip():
        return None
    return {"prompt": "", **row, "completion": text}


def _said_whole(answer: str, scale: object) -> str:
    """An answer with the scale that completes it, as a completion must say it.

    >>> [_said_whole(*row) for row in (("-12.6", "million"), ("36", "percent"), ("36%", ""), ("Oslo", "million"))]
    ['-12.6 million', '36%', '36%', 'Oslo']
    """
    if not isinstance(scale, str) or scale.strip().lower() not in {*SCALES, *MEASURES}:
        return answer
    whole = f"{answer}%" if scale.strip().lower() == "percent" else f"{answer} {scale.strip()}"
    return whole if figure(whole) is not None else answer


def golden_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows with their gold. InputError: one has none, and which."""
    found = []
    for number, row in enumerate(rows, 1):
        golden = with_gold(row)
        if golden is None:
            raise InputError(f"row {number} has no gold in column 'completion'; it has: {', '.join(row)}")
        found.append(golden)
    return found
