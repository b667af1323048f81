"""Read the columns of a row for an attack: texts that an answer may be copied from, lists, other ways to write gold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...types import Row
from .gold import same_answer

CHOICES = re.compile(r"choice|option|candidate|distract|wrong|incorrect|negative|label", re.IGNORECASE)
"""Names of columns whose items are not all right."""
MAX_ITEM = 60


def plain(value: Any) -> Any:
    """An array as a list; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def texts_in(value: Any) -> list[str]:
    """The texts of a list, an array or a list of objects; none of another value.

    >>> texts_in(["cash", "debt"]), texts_in([{"name": "cash", "value": 1}]), texts_in("cash")
    (['cash', 'debt'], ['cash'], [])
    """
    value = plain(value)
    if not isinstance(value, list | tuple | set | frozenset):
        return []
    found: list[str] = []
    for item in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
        inside = list(item.values()) if isinstance(item, Mapping) else [item]
        found += [text.strip() for text in inside if isinstance(text, str) and text.strip()]
    return list(dict.fromkeys(found))


def lists_of(row: Row, asked: Sequence[str]) -> dict[str, list[str]]:
    """The columns that the reward asks for and that hold short texts: lists, JSON of one, or text with separators."""
    found = {}
    for name in asked:
        value = row[name]
        items = texts_in(value)
        if isinstance(value, str):
            items = texts_in(_json(value)) or _separated(value)
        if len(items) > 1 and all(len(item) <= MAX_ITEM for item in items):
            found[name] = items
    return found


def accepted_answers(lists: Mapping[str, Iterable[str]], answer: str) -> list[str]:
    """Other ways to write gold, of lists that have it: `["273 million", "273 m"]`; not of a list of choices."""
    return [
        item
        for name, items in lists.items()
        if not CHOICES.search(name) and any(same_answer(item, answer) for item in items)
        for item in items
    ]


def wrong_choices(lists: Mapping[str, Iterable[str]], answer: str) -> list[str]:
    """The other choices of a question with gold among them."""
    return [
        item
        for name, items in lists.items()
        if CHOICES.search(name)
        for item in items
        if not same_answer(item, answer)
    ]


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None


def _separated(text: str) -> list[str]:
    """The items of `cash, debt, equity`: three or more of a few words each."""
    if len(text) > 1000 or re.search(r"[.!?]\s", text):
        return []
    found = ([item.strip() for item in re.split(sign, text)] for sign in (";", r"\|", "\n", r",\s+"))
    parts = next((items for items in found if len(items) >= 3), [])
    return parts if all(0 < len(part.split()) <= 6 for part in parts) else []
