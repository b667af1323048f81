"""Who judges what, in which order, and which completion stands first: decided by HMAC, so by nobody and repeatably.

A share of the items is given to a second person (overlap), and a share comes back to the same person later
(self-repeats, with the completions in an order of its own). Every other item has one owner.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from ..errors import InputError
from .items import Item

Slot = tuple[str, int]
"""An item and the round in which one person judges it: 0, or 1 when it comes back."""


@dataclass(frozen=True)
class Design:
    """How items are shared out."""

    overlap: float = 0.1
    """Share of the items that `raters` people judge."""
    raters: int = 2
    """People who judge each of those items."""
    repeats: float = 0.05
    """Share of the items that the same person judges again."""
    gap: int = 20
    """Judgements between an item and its repetition, at least."""

    def __post_init__(self) -> None:
        for name, least, most in (("overlap", 0, 1), ("repeats", 0, 1), ("raters", 1, inf), ("gap", 0, inf)):
            if not least <= (value := getattr(self, name)) <= most:
                expected = f"a share, {least} to {most}" if most == 1 else f"{least} or more"
                raise InputError(f"--{name} is {value}; expected {expected}")


def number(key: str, *parts: object) -> float:
    """A number in [0, 1) that only the key's owner can foretell."""
    digest = hmac.new(bytes.fromhex(key), "\0".join(map(str, parts)).encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8]) / 2**64


def shown_order(key: str, item: Item, annotator: str, round: int) -> list[int]:
    """[K] which completion stands first, second, ... for this person."""
    places = range(len(item.completions))
    return sorted(places, key=lambda place: number(key, "side", annotator, item.id, round, place))


def queue(key: str, items: Iterable[Item], annotator: str) -> list[Item]:
    """The items in the order of one person."""
    return sorted(items, key=lambda item: (item.group, number(key, "order", annotator, item.id)))


def raters(key: str, design: Design, item: Item) -> int:
    """How many people judge the item."""
    return design.raters if number(key, "overlap", item.id) < design.overlap else 1


def repeats(key: str, design: Design, annotator: str, judged: Sequence[str], again: set[str]) -> list[Slot]:
    """What comes back to this person now, from the items in the order judged; `again`: those that already did."""
    due = judged[: max(0, len(judged) - design.gap)]
    return [
        (item, 1)
        for item in due
        if item not in again and number(key, "repeat", annotator, item) < design.repeats
    ]
