"""Repetition within a text or a list of tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def repeated_share(items: Sequence[Hashable], size: int) -> float:
    """Share of the runs of `size` items that came before; 0 where there is no run. The items of a text are characters.

    >>> repeated_share("abcabc", 3), repeated_share([1, 2, 3, 4], 2)
    (0.25, 0.0)
    """
    starts = range(len(items) - size + 1)
    if isinstance(items, str):
        distinct = len({items[start : start + size] for start in starts})
    else:
        distinct = len({tuple(items[start : start + size]) for start in starts})
    return (len(starts) - distinct) / len(starts) if starts else 0.0
