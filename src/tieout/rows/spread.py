"""Pick rows spread over all of the data: a file is often sorted, and its first rows are then of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from ..errors import InputError

T = TypeVar("T")
GOLDEN = 0.6180339887498949


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items in their order, one from each of as many equal stretches; all where there are no more, or
    `count` is 0.

    The places inside the stretches vary, so that rows of two kinds in turn are both picked.

    >>> spread(range(100), 4)
    [0, 40, 55, 96]
    """
    if count < 0:
        raise InputError(f"the number of rows to take is {count}; it must be at least 0, which takes all")
    if not 0 < count < len(items):
        return list(items)
    bounds = [k * len(items) // count for k in range(count + 1)]
    places = (a + int(k * GOLDEN % 1 * (b - a)) for k, (a, b) in enumerate(pairwise(bounds)))
    return [items[place] for place in places]
