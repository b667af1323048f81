"""Judgements as values: what a person may answer for each kind, in the order shown and in the order of the source.

| kind | value |
|---|---|
| pairs | `a`, `b`, `tie` or `bad` (both bad) |
| rankings | places, the best first, each a list of the completions that share it: `[[2], [0, 1]]` |
| grades | criterion -> level |
| spans | a list of {start, end, label, text}, in characters of the completion |

`skip` is a value of every kind, and no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from ..errors import InputError
from .items import Item
from .scheme import Scheme

SKIP = "skip"
PAIR = ("a", "b", "tie", "bad")
_SWAPPED = {"a": "b", "b": "a"}


def check_value(value: Any, item: Item, scheme: Scheme, earlier: bool = False) -> Any:
    """The value in one form. InputError: it is no answer to this question.

    `earlier`: it was one when it was given; levels and labels that are not in the scheme now are kept.
    """
    if value == SKIP:
        return SKIP
    if scheme.kind == "pairs":
        if value not in PAIR:
            raise InputError(f"the answer is {value!r}; expected one of {', '.join(PAIR)} or skip")
        return value
    if scheme.kind == "rankings":
        return _ranking(value, item)
    return (_grades if scheme.kind == "grades" else _spans)(value, item, scheme, earlier)


def _ranking(value: Any, item: Item) -> list[list[int]]:
    every = list(range(len(item.completions)))
    try:
        found = sorted(int(one) for place in value for one in place)
    except (TypeError, ValueError):
        found = []
    if found != every or not all(value):
        raise InputError(f"the ranking is {value!r}; expected each of the completions {every} once")
    return [sorted(int(one) for one in place) for place in value]


def _grades(value: Any, item: Item, scheme: Scheme, earlier: bool) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(level, str) for level in value.values()):
        raise InputError(f"the grades are {value!r}; expected criterion -> level")
    if earlier:
        return value
    for criterion in scheme.criteria:
        if value.get(criterion.id) not in criterion.levels:
            raise InputError(
                f"{criterion.name}: {value.get(criterion.id)!r}; expected {', '.join(criterion.levels)}"
            )
    return {criterion.id: value[criterion.id] for criterion in scheme.criteria}


def _spans(value: Any, item: Item, scheme: Scheme, earlier: bool) -> list[dict[str, Any]]:
    text, labels = item.texts[0], scheme.labels or {}
    if not isinstance(value, list):
        raise InputError(f"the spans are {value!r}; expected a list")
    found = []
    for span in value:
        if not isinstance(span, dict) or not all(type(span.get(end)) is int for end in ("start", "end")):
            raise InputError(f"{span!r} is no span; expected start, end and label")
        start, end, label = span["start"], span["end"], span.get("label")
        if not 0 <= start < end <= len(text):
            raise InputError(f"the span {start} to {end} is not in the completion of {len(text)} characters")
        if label not in labels and not (earlier and isinstance(label, str)):
            raise InputError(f"label {label!r}; expected one of {', '.join(labels)}")
        found.append({"start": start, "end": end, "label": label, "text": text[start:end]})
    return sorted(found, key=lambda span: (span["start"], span["end"], span["label"]))


def is_complete(value: Any, scheme: Scheme) -> bool:
    """Whether the value answers what is asked now: a criterion may have come in after it, or a level gone."""
    return (
        scheme.kind != "grades" or value == SKIP or all(value.get(c.id) in c.levels for c in scheme.criteria)
    )


def turned(value: Any, order: Sequence[int], scheme: Scheme, back: bool = False) -> Any:
    """The value in the order of the source, from one in the order shown; `back`: the other way round.

    `order`: which completion is shown first, second, ...
    """
    if scheme.kind == "pairs" and order[0] == 1:
        return _SWAPPED.get(value, value)
    if scheme.kind == "rankings" and isinstance(value, list):
        places = [order.index(i) for i in range(len(order))] if back else list(order)
        try:
            return [[places[int(one)] for one in place] for place in value]
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"the ranking is {value!r}; expected places of {len(order)} completions"
            ) from error
    return value


def decisions(value: Any, scheme: Scheme) -> dict[str, str]:
    """A value taken apart into questions with one answer each, by which two people can be compared.

    Pairs: one. Rankings: one per pair of completions. Grades: one per criterion. Spans: see `marked`.
    """
    if scheme.kind == "pairs":
        return {"": value}
    if scheme.kind == "rankings":
        place = {one: rank for rank, ones in enumerate(value) for one in ones}
        return {
            f"{i},{j}": "tie" if place[i] == place[j] else "a" if place[i] < place[j] else "b"
            for i, j in combinations(sorted(place), 2)
        }
    return dict(value)


def marked(value: Sequence[dict[str, Any]], words: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Which label each word of the completion has; the first one, where it has several."""
    return {
        str(i): next((s["label"] for s in value if s["start"] < end and start < s["end"]), "")
        for i, (start, end) in enumerate(words)
    }
