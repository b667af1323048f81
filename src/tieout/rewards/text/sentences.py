"""Parse running text without a model: sentences, content words, figures, negation, copying."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache

from .figures import MEASURES, SCALES, Unit, figure

MAX_CHARS = 100_000
"""Longer texts are read up to here, so that no completion can make a reward slow."""

_SENTENCE = re.compile(r"(?<=[.!?])(?:[\"')\]]*(?:\[[0-9, ]+\])*)\s+(?=[^a-z\[])|\n+")
_WORD = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")
_MEASURE = "|".join(
    re.escape(m) for m in sorted([*SCALES, *MEASURES], key=len, reverse=True) if len(m) > 1 or m == "%"
)
_FIGURE = re.compile(
    rf"""
    (?<![\w.,])
    (?: [$€£¥]? \( [$€£¥]? [0-9][0-9,]*[.,]?[0-9]*%? \) (?=[^\w]|$)      # $(9.8), (1,234), (5%)
      | [-−]? (?: [$€£¥] \s? -? )? [0-9][0-9,]*(?:\.[0-9]+)? (?![\w.]*[0-9]) )
    (?: \s? (?:{_MEASURE}) (?![\w%]) )?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_NOTE = re.compile(r"\(\d{1,2}\)")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|neither|without|cannot|\w+n['’]t|anything\s+but|far\s+from|except|hardly|false|wrong|"
    r"untrue|incorrect|den(?:y|ies|ied))\b",
    re.IGNORECASE,
)
_STOPWORDS = (
    "a an and are as at be been but by did do does for from had has have how i if in into is it its of on or our "
    "that the their there these they this those to was we were what when where which who will with would you your "
    "than then so such also about all any can could may more most much"
)
STOPWORDS = frozenset(_STOPWORDS.split())
_UP = "rose rise rises rising risen increase increases increased grew grow grows grown growth gained higher up above"
_DOWN = "fell fall falls falling fallen decrease decreases decreased decline declines declined dropped lower down below"
_DIRECTIONS = {"up": frozenset(_UP.split()), "down": frozenset(_DOWN.split())}
_ELSEWHERE = STOPWORDS | SCALES.keys() | MEASURES.keys() | _DIRECTIONS["up"] | _DIRECTIONS["down"]
_UNKNOWN = re.compile(
    r"\b(?:i\s+(?:do\s+not|don['’]t)\s+know|(?:the\s+)?(?:context|passages?|documents?|sources?|text)\s+"
    r"(?:do(?:es)?\s+not|doesn['’]t|don['’]t)\s+(?:say|state|tell|contain|mention|give|provide)|"
    r"(?:cannot|can['’]t)\s+(?:be\s+)?(?:answer|determine|tell|say)\w*|"
    r"not\s+(?:stated|given|mentioned|available|provided)\s+in\s+the)\b",
    re.IGNORECASE,
)
Amount = tuple[Decimal, Unit]
"""A figure's value with its scale applied, and its unit: count where none is said."""


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, those without a word or a figure left out."""
    parts = (part.strip() for part in _SENTENCE.split(text[:MAX_CHARS]))
    return [part for part in parts if _WORD.search(part)]


def words(text: str) -> list[str]:
    """The words and numbers, in lower case."""
    return list(_words(text))


@lru_cache(maxsize=256)  # the parts of a reward read the same text, and so do all completions of a group
def _words(text: str) -> tuple[str, ...]:
    found = (word.casefold().replace("’", "'") for word in _WORD.findall(text[:MAX_CHARS]))
    return tuple(word.removesuffix("'s") for word in found)


def content(text: str) -> Counter[str]:
    """Words that carry content, cut to their first six letters, so that `reported` meets `report`.

    No figures and their scales, no denials, and no up and down: those are compared in other ways.

    >>> sorted(content("The company reported losses of 5%"))
    ['compan', 'losses', 'report']
    """
    return Counter(w[:6] for w in words(text) if w not in _ELSEWHERE and not w[0].isdigit())


def amounts(text: str) -> list[Amount]:
    """The figures in running text, in order; currency, shares and days count as numbers without a unit.

    >>> amounts("Revenue fell 4.5% to $1.2 million in 2019.")
    [(Decimal('4.5'), 'percent'), (Decimal('1200000'), 'count'), (Decimal('2019'), 'count')]
    """
    return list(_amounts(text))


@lru_cache(maxsize=256)
def _amounts(text: str) -> tuple[Amount, ...]:
    found: list[Amount] = []
    for _, shown in figure_spans(text):
        read = figure(shown, footnotes=False)
        if read is not None:
            unit: Unit = read.unit if read.unit in ("percent", "bps") else "count"
            found.append((read.value, unit))
    return tuple(found)


def figure_spans(text: str) -> list[tuple[int, str]]:
    """(where it starts, how it is written) of what looks like a figure in running text; `(1)` is a footnote."""
    spans = ((m.start(), m[0].rstrip().rstrip(",.")) for m in _FIGURE.finditer(text[:MAX_CHARS]))
    return [(start, shown) for start, shown in spans if not _NOTE.fullmatch(shown)]


def negations(text: str) -> int:
    """How many words of the text deny something."""
    return len(_NEGATION.findall(text[:MAX_CHARS]))


def opposed(one: str, other: str) -> bool:
    """Whether one text denies what the other says: an odd number of negations, or only up where it says only down.

    >>> opposed("Costs rose.", "Costs did not rise."), opposed("Costs rose.", "Costs fell."), opposed("a", "b")
    (True, True, False)
    """
    if negations(one) % 2 != negations(other) % 2:
        return True
    ways = [{way for way, said in _DIRECTIONS.items() if said & set(words(text))} for text in (one, other)]
    return len(ways[0]) == len(ways[1]) == 1 and ways[0] != ways[1]


def says_unknown(text: str) -> bool:
    """Whether the text says that it does not know, or that its sources do not say."""
    return bool(_UNKNOWN.search(text[:MAX_CHARS]))


def beside_unknown(text: str) -> str:
    """What the text says other than that it does not know."""
    return _UNKNOWN.sub(" ", text[:MAX_CHARS])


def ngrams(items: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` items."""
    return [tuple(items[i : i + size]) for i in range(len(items) - size + 1)]


@lru_cache(maxsize=32)
def _grams(text: str, size: int) -> frozenset[tuple[str, ...]]:
    return frozenset(ngrams(_words(text), size))


def copied(text: str, sources: Iterable[str], size: int = 8) -> float:
    """Share of the text's words that stand in a run of at least `size` words copied from a source: 0 to 1."""
    own = words(text)
    there = [_grams(source, size) for source in sources]
    inside = [False] * len(own)
    for start, gram in enumerate(ngrams(own, size)):
        if any(gram in grams for grams in there):
            inside[start : start + size] = [True] * size
    return sum(inside) / len(own) if own else 0.0
