"""A reward to start from: 1 for a JSON object whose fields are all right, less than half for one partly right.

Fields of few values are often right by chance: paid in full, another row's answer would be worth most of this one's.
Change it to fit your task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

FENCE = re.compile(r"\s*```(?:json)?\n(.*)\n```\s*", re.DOTALL)


def right(completions: Sequence[str], completion: Sequence[Any], **_: Any) -> list[float]:
    """[K] 1, or half the share of the row's fields that are the same; 0 for what is no JSON or has other fields."""
    shares = (_share(said, gold) for said, gold in zip(completions, completion, strict=True))
    return [share if share == 1.0 else share / 2 for share in shares]


right.__reward_range__ = (0.0, 1.0)  # type: ignore[attr-defined]


def _share(said: str, gold: Any) -> float:
    found, wanted = _fields(said), _fields(str(gold))
    if found is None or wanted is None or not wanted or found.keys() - wanted.keys():
        return 0.0  # a field too many may be a guess
    return sum(key in found and _same(found[key], value) for key, value in wanted.items()) / len(wanted)


def _same(found: Any, wanted: Any) -> bool:
    """Whether the values are the same; true is not 1."""
    return type(found) is type(wanted) and bool(found == wanted)


def _fields(text: str) -> dict[str, Any] | None:
    """The object, in a fence or not; None for anything else, and for a key that is given twice."""
    if fenced := FENCE.fullmatch(text):
        text = fenced[1]
    try:
        pairs = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return None
    if not text.lstrip().startswith("{") or len(dict(pairs)) < len(pairs):
        return None
    found: dict[str, Any] = json.loads(text)
    return found
