"""What the page is given of an item: texts in the order of one person, with the figures that occur in both marked.

Nothing here says who wrote what, or what a judge thinks. Offsets are those of JavaScript, in UTF-16 units.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import Any

from ..rewards.text.amounts import Found, read
from .journal import Entry
from .scheme import Scheme
from .store import Store
from .values import SKIP, turned


def view(store: Store, annotator: str, item: str, round: int) -> dict[str, Any]:
    """An item with this person's draft, or what they answered."""
    order = store.order(annotator, item, round)
    found = store.items[item]
    texts = [found.texts[place] for place in order]
    slot = annotator, item, round
    draft, said = store.drafts.get(slot), store.judgement(*slot)
    return {
        "item": item,
        "round": round,
        "base": store.revision(*slot),
        "source": {"text": found.source, "figures": _figures(found.source, texts)},
        "texts": [{"text": text, "figures": _figures(text, [found.source])} for text in texts],
        "draft": {"value": draft["value"], "comment": draft["comment"]} if draft else None,
        "answer": {"value": shown_value(store, said, order), "comment": said["comment"]} if said else None,
    }


def shown_value(store: Store, entry: Entry, order: list[int]) -> Any:
    """The value of a judgement or verdict, as somebody with this order sees it."""
    value = entry["value"]
    if store.scheme.kind == "spans" and value != SKIP:
        places = _utf16(store.items[entry["item"]].texts[0])
        return [{**span, "start": places[span["start"]], "end": places[span["end"]]} for span in value]
    return turned(value, order, store.scheme, back=True)


def from_page(store: Store, item: str, value: Any) -> Any:
    """A value of the page with the offsets of Python; anything else is left for the checks to refuse."""
    if store.scheme.kind != "spans" or not isinstance(value, list) or item not in store.items:
        return value
    back = {place: i for i, place in enumerate(_utf16(store.items[item].texts[0]))}
    spans = [one for one in value if isinstance(one, dict)]
    ends = ("start", "end")
    return [{**one, **{end: back[one[end]] for end in ends if one.get(end) in back}} for one in spans]


def scheme_view(scheme: Scheme) -> dict[str, Any]:
    """The question, as the page asks it."""
    criteria = [{"id": one.id, "name": one.name, "levels": [*one.levels.items()]} for one in scheme.criteria]
    return {"kind": scheme.kind, "criteria": criteria, "labels": [*(scheme.labels or {}).items()]}


def _figures(text: str, others: list[str]) -> list[list[Any]]:
    """[start, end, whether it is in one of the others too] of each figure."""
    known = {name for other in others for figure in read(other)[0] for name in _names(figure)}
    places = _utf16(text)
    found = []
    for figure in read(text)[0]:
        end = figure.start + len(figure.shown)
        found.append([places[figure.start], places[end], not known.isdisjoint(_names(figure))])
    return found


def _names(figure: Found) -> set[Decimal]:
    """Its value, and its digits as they are written: tables have `1,204.5` under a heading that says millions."""
    return {abs(figure.figure.value), abs(figure.figure.value.scaleb(-figure.figure.scale))}


def _utf16(text: str) -> list[int]:
    """[len + 1] offset of each character in UTF-16 units."""
    return [0, *accumulate(2 if character > "\uffff" else 1 for character in text)]
