"""The gold of a row: the completion that a reward must pay in full."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ..errors import InputError
from ..rewards.text.figures import MEASURES, SCALES, figure, written
from ..rows.checks import with_prompts
from ..rows.values import truth
from ..types import Row

ANSWERS = ("answer", "solution", "ground_truth")
"""Columns that may hold gold where none is called so."""


def with_gold(
    row: Row, gold: Callable[[Row], str | None] | None = None, asked: Collection[str] = ()
) -> Row | None:
    """The row with gold as a text in `completion`: that of the task, else the row's own (of a conversation, the last
    turn) unless it is labelled bad, else one of ANSWERS, first those that the reward asks for, with the scale that a
    column says; None: none."""
    text = None if gold is None else gold(row)
    if text is None and truth(row.get("label")) is not False:
        text = row.get("completion")
    if isinstance(text, list | tuple) and text and isinstance(text[-1], Mapping):
        text = text[-1].get("content")
    if text is None:
        values = [row.get(name) for name in sorted(ANSWERS, key=lambda name: name not in asked)]
        known = [v for v in values if v is not None and v == v and not isinstance(v, list | tuple | Mapping)]
        text = _said_whole(written(known[0]), row.get("scale")) if known else None
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


def golden_rows(rows: Iterable[Row], asked: Collection[str] = ()) -> list[Row]:
    """The rows with their gold. InputError: one has none, and which."""
    found = []
    for number, row in enumerate(with_prompts(list(rows)), 1):
        golden = with_gold(row, asked=asked)
        if golden is None:
            bad = " that is not labelled bad" if truth(row.get("label")) is False else ""
            raise InputError(
                f"row {number} has no gold in column 'completion'{bad} or {', '.join(ANSWERS)}; it has: "
                f"{', '.join(row)}"
            )
        found.append(golden)
    return found
