"""Rows that are longer than a model's context: leave them out, or shorten their prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from ..errors import InputError
from ..rows import LongRows, Rows, RowsError
from ..rows.messages import telling
from ..rows.pairs import WEIGHT, Preferences, weighted
from ..types import Messages, Row
from .template import Chat


@dataclass(frozen=True)
class Fitting:
    """Makes rows fit into the context of a model, and counts what that took."""

    chat: Chat
    context: int
    """Tokens."""
    max_new_tokens: int = 0
    """Room for what is sampled after a prompt."""
    how: LongRows = "error"
    told: Mapping[str, Any] = field(default_factory=dict)
    """Options of the chat template, for rows that do not say otherwise."""
    trained: bool = True
    """Whether the completions that rows have must fit, too."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Name of a set of rows -> how many rows it had, and of them `dropped` and `truncated`; sets without any are not
    there."""

    def __post_init__(self) -> None:
        if self.how not in get_args(LongRows):
            raise InputError(f"long_rows is {self.how!r}; expected error, drop or truncate")

    def __call__(self, rows: Sequence[Row], name: str) -> Sequence[Row]:
        """The rows that fit, in their order; with `error` all of them, for `Chat.check_lengths` to refuse.

        RowsError: none is left.
        """
        rows = telling(rows, self.told)
        if self.how == "error":
            return rows
        found = [self._fitted(row) for row in rows]
        kept = [(i, row) for i, row in enumerate(found) if row is not None]
        truncated = sum(row is not rows[i] for i, row in kept)
        if truncated or len(kept) < len(rows):
            self.counts[name] = {"rows": len(rows), "dropped": len(rows) - len(kept), "truncated": truncated}
            if not kept:
                raise RowsError(
                    f"{getattr(rows, 'source', name)}: none of {len(rows)} rows fits into the model's context of "
                    f"{self.context} tokens, with room for {self.max_new_tokens} new ones"
                )
            return _like(rows, [row for _, row in kept], [i for i, _ in kept])
        return rows

    @property
    def said(self) -> list[str]:
        """A line for each set of rows of which some did not fit."""
        return [
            f"{name}: {n['dropped'] + n['truncated']} of {n['rows']} rows are longer than the model's context of "
            f"{self.context} tokens: {n['dropped']} left out, {n['truncated']} with a prompt cut at its beginning"
            for name, n in self.counts.items()
        ]

    def _fits(self, row: Row) -> bool:
        try:
            self.chat.check_lengths([row], self.context, self.max_new_tokens, trained=self.trained)
        except RowsError:
            return False
        return True

    def _fitted(self, row: Row) -> Row | None:
        """The row, or one with a shorter prompt; None: it is left out."""
        if self._fits(row):
            return row
        return shortened(row, self._fits) if self.how == "truncate" else None


def shortened(row: Row, fits: Callable[[Row], bool]) -> Row | None:
    """The row with as much of the end of its prompt as fits; None: not even a word does.

    Of messages, the oldest turns go first, each question with what follows it, and then the beginning of the last
    question; a system message stays.

    >>> shortened({"prompt": "one two three", "completion": "4"}, lambda row: len(row["prompt"]) < 10)
    {'prompt': 'two three', 'completion': '4'}
    """
    prompt: Any = row["prompt"]
    if isinstance(prompt, str):
        return _cut(prompt, lambda text: {**row, "prompt": text}, fits)
    told = prompt.told if isinstance(prompt, Messages) else {}

    def of(messages: Sequence[Any]) -> Row:
        return {**row, "prompt": Messages(messages, told)}

    asked = [i for i, message in enumerate(prompt) if message.get("role") == "user"]
    if not asked:
        return None
    lead = list(prompt[: asked[0]]) if prompt[0].get("role") == "system" else []
    for start in asked[1:]:
        if fits(made := of([*lead, *prompt[start:]])):
            return made
    last, rest = prompt[asked[-1]], list(prompt[asked[-1] + 1 :])
    if not isinstance(last.get("content"), str):
        return None
    return _cut(last["content"], lambda text: of([*lead, {**last, "content": text}, *rest]), fits)


def _cut(text: str, of: Callable[[str], Row], fits: Callable[[Row], bool]) -> Row | None:
    """The row of the longest end of a text that fits, from a word on; None: no word does."""
    starts = [i for i in range(1, len(text)) if text[i - 1].isspace() and not text[i].isspace()]
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if fits(of(text[starts[middle] :])):
            high = middle
        else:
            low = middle + 1
    return of(text[starts[low] :]) if low < len(starts) else None


def _like(rows: Sequence[Row], kept: list[Row], places: Sequence[int]) -> Rows:
    """The kept rows with the source and lines of all; pairs of rankings weigh anew what is left of them."""
    source = getattr(rows, "source", "rows")
    numbers = rows.lines if isinstance(rows, Rows) else None
    lines = [numbers[i] for i in places] if numbers is not None else None
    if any(WEIGHT in row for row in kept):
        kept = weighted(kept)
    if not isinstance(rows, Preferences):
        return Rows(kept, source, lines)
    pairs = Preferences(kept, source, lines)
    pairs.left_out = rows.left_out
    return pairs
