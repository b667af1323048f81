"""Repetition within a text or a list of tokens."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from .presentation import MAX_CHARS

_LOOP = re.compile(r"(.{1,50}?)\1{3,}")
MIN_BYTES, MIN_DIGIT_BYTES = 12, 64
"""UTF-8 bytes that a loop must span: a Chinese character says as much as a syllable. Loops of digits need more, since
1/3 is 0.3333333333333333 and a vector may be all zeros."""


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


def looped_share(text: str) -> float:
    """Share of the text that its longest loop repeats: up to 50 characters, four times or more in a row.

    White space counts as one space and case is ignored. Only the longest loop counts, so that a table with dots from
    each label to its figure is none.

    >>> looped_share("." * 24), round(looped_share("no no no no no no"), 2), looped_share("1,111,111")
    (0.9583333333333334, 0.71, 0.0)
    """
    flat = " ".join(text[:MAX_CHARS].casefold().split())
    longest = max((len(m[0]) - len(m[1]) for m in _LOOP.finditer(flat) if _counts(m[0], m[1])), default=0)
    return longest / len(flat) if flat else 0.0


def _counts(loop: str, unit: str) -> bool:
    figures = any(c.isdigit() for c in unit) and not any(c.isalpha() for c in unit)
    return len(loop.encode("utf-8", "surrogatepass")) >= (MIN_DIGIT_BYTES if figures else MIN_BYTES)
