"""Claims and the passages that support them, decided without a model or by your own judge.

The programmatic answer is strict about what can be checked (figures, names, denials) and lenient about wording. What
it does not catch: a true sentence in wholly other words (called unsupported); two things of one passage confused with
each other (called supported); irony, and whatever needs reasoning over several sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache

from .amounts import Found, amounts, read, spelled
from .contradiction import opposed
from .presentation import plain, unwrapped
from .sentences import content, sentences, terms, unbulleted, words

Supports = Callable[[str, Sequence[str]], bool]
"""(claim, passages) -> whether one of the passages says it. A judge raises where it fails; it never guesses."""

CITATION = re.compile(r"\[([0-9]{1,3}(?:\s*,\s*[0-9]{1,3})*)\]")
MIN_SHARE = 0.6
"""Of a claim's content words, so many must stand in one sentence of the passage."""
MAX_WORDS = 400
"""A longer sentence is supported only where it is the passage's own."""
_WORD_AS_IS = re.compile(r"[^\W_]+(?:['.&-][^\W_]+)*")
_AFTER_END = re.compile(r"""[.!?:]["')]?\s+["'(]*\Z|^["'(\s]*\Z""")
_OPENER = re.compile(r"^\W*(?:first|second|third|fourth|fifth)(?:ly)?,", re.IGNORECASE)
_DATES = (
    "one first second third fourth fifth sixth seventh eighth ninth tenth half twice thrice double triple january "
    "february march april june july august september october november december"
)
_FACTS = frozenset(_DATES.split())
"""Words that stand for a number or a date. May is a verb too."""
_BARE = ("count", "currency")
_SCALE_WORDS = {
    power: re.compile(rf"\b{word}s?\b", re.IGNORECASE)
    for power, word in ((3, "thousand"), (6, "million"), (9, "billion"))
}
_MARKS, _OPENING, _CLOSING, _BEFORE, _AFTER = " .,;:!?\"'()[]\n", " \"'([*-", " \"')]*", ".!?\n", ".!?:;,\n"


def supports(claim: str, passages: Sequence[str]) -> bool:
    """Whether one sentence of one passage says the claim.

    It says it if it is the claim, whatever its quotes, dashes and spaces. Or else it must have every figure of the
    claim in value and unit, as many times; what has digits in any other way, ordinals and months as they are written;
    at least MIN_SHARE of its content words; no name or subject in exchange for another; and not contradict it: see
    `contradiction`. Every name (a capital inside a sentence) must be in the passage. A sentence that contradicts the
    claim and is nearer to it decides.

    >>> source = ["Revenue was $1.2 million in 2019. Costs did not rise."]
    >>> [supports(c, source) for c in ("In 2019, revenue was 1,200,000.", "Revenue was $1.3 million.", "Costs rose.")]
    [True, False, False]
    """
    said = strip_citations(claim)
    bare = unbulleted(said)
    if not words(bare):
        return False
    return any(
        _states(passage, said) or _states(unbulleted(passage), bare) or _says(passage, bare)
        for passage in passages
    )


def _states(passage: str, claim: str) -> bool:
    """Whether the claim is a sentence of the passage, or several in a row."""
    whole, wanted = _flat(passage), _flat(claim).strip(_MARKS)
    if not wanted:
        return False
    start = whole.find(wanted)
    while start >= 0:
        before, after = whole[:start].rstrip(_OPENING), whole[start + len(wanted) :].lstrip(_CLOSING)
        if (not before or before[-1] in _BEFORE) and (not after or after[0] in _AFTER):
            return True
        start = whole.find(wanted, start + 1)
    return False


def _says(passage: str, claim: str) -> bool:
    wanted, figures, marks = content(claim), [*read(claim)[0], *spelled(claim)], _exact(claim)
    names_there = set(terms(passage))
    if any(name not in names_there for name in names(claim)):
        return False
    if not (wanted or figures or marks) or len(words(claim)) > MAX_WORDS:
        return False
    # A sentence that denies the claim decides where it is nearer to it than any that says it.
    says, denies = 0.0, 0.0
    for said in sentences(passage):
        share = sum((wanted & content(said)).values()) / wanted.total() if wanted else 1.0
        if share < max(MIN_SHARE, says):
            continue
        if opposed(claim, said):
            denies = max(denies, share)
        elif _has_all(said, figures) and marks <= _exact(said) and not _other_subject(claim, said):
            says = share
    return says > 0 and says >= denies


def _other_subject(claim: str, said: str) -> bool:
    """Whether each starts with a word of content, or has a name, that the other lacks: another company's sales.

    What starts with `the`, `it` or `in` may be about anything; a name may be added or left out, and not exchanged.
    """
    one, other = _first(claim), _first(said)
    if one and other and one not in content(said) and other not in content(claim):
        return True
    own, theirs = (set(names(text)) - _FACTS for text in (claim, said))
    return bool(own - set(terms(said)) and theirs - set(terms(claim)))


def _first(text: str) -> str:
    match = _WORD_AS_IS.search(text)
    return next(iter(content(match[0])), "") if match and match[0][0].isupper() else ""


def _has_all(said: str, figures: Sequence[Found]) -> bool:
    """Whether each figure is there, and as many times."""
    left = [*read(said)[0], *spelled(said)]
    for figure in figures:
        match = next((other for other in left if figure.same(other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


@lru_cache(maxsize=4096)
def _exact(text: str) -> Counter[str]:
    """What is a fact as it is written: marks with digits, `one`, ordinals, months."""
    return Counter([*read(text)[1], *(term for term in terms(_OPENER.sub("", text)) if term in _FACTS)])


def made_up(claim: str, passages: Sequence[str]) -> bool:
    """Whether it has a figure, date or name that no passage has, or fewer than MIN_SHARE of its words are in them.

    A figure with a scale, `$7,709 million`, is also in a passage with 7,709 that names the scale, as tables do. Facts
    of the passages that are put together wrongly, or denied, are not made up: see `supports`.

    >>> source = ["Revenue was $1.2 million in 2019. Costs did not rise."]
    >>> [made_up(c, source) for c in ("Costs of $1.2 million rose.", "Revenue was $1.3 million.", "Nina Holm left.")]
    [False, True, True]
    """
    said = strip_citations(claim)
    there, bare, facts, vocabulary = _facts(tuple(passages))
    for figure in (*read(said)[0], *spelled(said)):
        scale, shown = figure.figure.scale, figure.figure.value.scaleb(-figure.figure.scale)
        if not any(figure.same(other) for other in there) and (scale, shown) not in bare:
            return True
    if not facts.issuperset(_exact(said)) or not vocabulary.issuperset(names(said)):
        return True
    wanted = content(said)
    return sum(count for word, count in wanted.items() if word in vocabulary) < MIN_SHARE * wanted.total()


@lru_cache(maxsize=64)
def _facts(
    passages: tuple[str, ...],
) -> tuple[list[Found], set[tuple[int, Decimal]], set[str], set[str]]:
    """The figures, bare numbers by each scale that their passage names, marks with dates, and words of the passages."""
    there: list[Found] = []
    bare: set[tuple[int, Decimal]] = set()
    facts: set[str] = set()
    vocabulary: set[str] = set()
    for passage in passages:
        figures = [*read(passage)[0], *spelled(passage)]
        scales = [power for power, word in _SCALE_WORDS.items() if word.search(passage)]
        numbers = [one.figure.value for one in figures if one.figure.scale == 0 and one.figure.unit in _BARE]
        bare |= {(scale, number) for scale in scales for number in numbers}
        there += figures
        facts |= _exact(passage).keys()
        vocabulary |= set(terms(passage)) | content(passage).keys()
    return there, bare, facts, vocabulary


def names(claim: str) -> list[str]:
    """The names of a claim: words with a capital, but for its first word."""
    found: list[str] = []
    for match in _WORD_AS_IS.finditer(plain(claim)):
        if match.start() > 0 and match[0][0].isupper() and not _AFTER_END.search(claim, 0, match.start()):
            found += terms(match[0])
    return found


@lru_cache(maxsize=256)
def _flat(text: str) -> str:
    """The text in lower case, with one way to write quotes, dashes and spaces; a line's end is a period."""
    text = unwrapped(plain(strip_citations(text)))
    text = re.sub(r"[ ]*-+[ ]*", "-", re.sub(r"[ ]*\n\s*", "\n", text))
    return re.sub(r" +", " ", text).casefold()


def claims(text: str) -> list[str]:
    """The sentences of a text that claim something: those with content or a figure, their citations kept."""
    return [s for s in sentences(text) if content(strip_citations(s)) or amounts(strip_citations(s))]


def cited(claim: str) -> list[int]:
    """The numbers cited in it, each once: `[1, 3]` and `[2]` are 1, 3, 2."""
    return list(dict.fromkeys(int(n) for group in CITATION.findall(claim) for n in group.split(",")))


def strip_citations(text: str) -> str:
    """The text without `[1]` marks."""
    return CITATION.sub("", text).strip()
