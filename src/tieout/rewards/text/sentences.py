"""Parse running text without a model: sentences, content words, negation, copying."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from .amounts import NUMBER_WORDS
from .figures import MEASURES, SCALES
from .opposites import change
from .presentation import MAX_CHARS, plain, unwrapped

_END = re.compile(r"""[.!?]["')\]]*(?:\s*\[[0-9, ]+\])*(?=\s+[^a-z\s\[])|\n+""")
_SHORT = re.compile(
    r"(?:(?<!\w)[a-z](?:\.[a-z])*|\b(?:inc|corp|co|ltd|plc|vs|mr|mrs|ms|dr|st|jr|sr|approx|dept|est))\.\Z",
    re.IGNORECASE,
)
"""What ends in a period and, unless a word that opens sentences follows, ends no sentence: initials, `U.S.`, `Inc.`"""
_NUMBERED = re.compile(
    r"\b(?:nos?|art|sec|fig|vol|pp?|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.\Z", re.IGNORECASE
)
"""And what ends none if a figure follows."""
_BULLET = re.compile(r"^[ \t]*(?:[-*+•▪●◦]|[0-9]{1,2}\.)[ \t]+", re.MULTILINE)
_WORD = re.compile(r"[^\W_]+(?:['.,&-][^\W_]+)*")
_PREFIXES = "non pre post un re co anti sub ex inter intra multi semi over under"
_PREFIX = frozenset(_PREFIXES.split())
"""What stays with its word where a hyphen stands between: `non-GAAP` is no `GAAP`."""
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
_ELSEWHERE = STOPWORDS | SCALES.keys() | MEASURES.keys() | NUMBER_WORDS
_INITIALS = re.compile(r"[a-z](?:\.[a-z])+")
_UNKNOWN = re.compile(
    r"\b(?:i\s+(?:do\s+not|don['’]t)\s+know|(?:the\s+)?(?:context|passages?|documents?|sources?|text)\s+"
    r"(?:do(?:es)?\s+not|doesn['’]t|don['’]t)\s+(?:say|state|tell|contain|mention|give|provide)|"
    r"(?:cannot|can['’]t)\s+(?:be\s+)?(?:answer|determine|tell|say)\w*|"
    r"not\s+(?:stated|given|mentioned|available|provided)\s+in\s+the)\b",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without bullets; those without a word or a figure left out.

    >>> sentences("1. The U.S. Treasury paid.[1] It owes Acme Inc. $5 million. [2] In the U.S. The end.")
    ['The U.S. Treasury paid.[1]', 'It owes Acme Inc. $5 million. [2]', 'In the U.S.', 'The end.']
    """
    return list(_sentences(text))


@lru_cache(maxsize=256)
def _sentences(text: str) -> tuple[str, ...]:
    text = unbulleted(unwrapped(text[:MAX_CHARS]))
    parts, start = [], 0
    for end in _END.finditer(text):
        if not _inside(text, end):
            parts.append(text[start : end.end()].strip())
            start = end.end()
    parts.append(text[start:].strip())
    return tuple(part for part in parts if _WORD.search(part))


def unbulleted(text: str) -> str:
    """The text without the bullets and numbers of lists at the start of its lines."""
    return _BULLET.sub("", text)


def _inside(text: str, end: re.Match[str]) -> bool:
    """Whether the period found stands in an abbreviation inside a sentence."""
    if end[0] != ".":
        return False
    before, after = text[max(0, end.end() - 12) : end.end()], text[end.end() : end.end() + 24].lstrip()
    if _NUMBERED.search(before):
        return after[:1].isdigit()
    opener = _WORD.match(after)
    return bool(_SHORT.search(before)) and not (opener and opener[0].casefold() in STOPWORDS)


def words(text: str) -> list[str]:
    """The words and numbers, in lower case."""
    return list(_words(text))


@lru_cache(maxsize=256)  # the parts of a reward read the same text, and so do all completions of a group
def _words(text: str) -> tuple[str, ...]:
    found = (word.casefold() for word in _WORD.findall(plain(text[:MAX_CHARS])))
    return tuple(word.removesuffix("'s") for word in found)


def terms(text: str) -> Iterator[str]:
    """The words, with compounds apart: `cost-plus` is two; `non-GAAP` is one, and so is `U.S.`, which is `US`."""
    for word in words(text):
        parts = word.split("-")
        while len(parts) > 1 and parts[0] in _PREFIX:
            parts[:2] = [parts[0] + parts[1]]
        for part in parts:
            yield part.replace(".", "") if _INITIALS.fullmatch(part) else part


def content(text: str) -> Counter[str]:
    """Words that carry content, cut to their first six letters, so that `reported` meets `report`.

    No figures and their scales, no denials, and no up and down: those are compared in other ways.

    >>> sorted(content("The company reported losses of 5% in the U.S."))
    ['compan', 'report', 'us']
    """
    return Counter(_content(text))


@lru_cache(maxsize=4096)
def _content(text: str) -> tuple[str, ...]:
    return tuple(
        w[:6] for w in terms(text) if w not in _ELSEWHERE and not w[0].isdigit() and change(w) is None
    )


def negations(text: str) -> int:
    """How many words of the text deny something."""
    return len(_NEGATION.findall(text[:MAX_CHARS]))


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
