"""Find figures in running text and read them as `figures` reads one that stands alone: `$2B` is two billion there too.

What has digits and is no figure (`Q1`, `12.03.2020`, a footnote's `(1)`) is a mark: a name to be met letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from .figures import CURRENCIES, EXACT, JOINT, MEASURES, NUMBER, SCALES, SIGN_WORD, Figure, Unit, figure
from .presentation import MAX_CHARS, plain

Amount = tuple[Decimal, Unit]
"""A figure's value with its scale applied, and its unit: count where none is said."""


@dataclass(frozen=True, slots=True)
class Found:
    """A figure in a text."""

    start: int
    shown: str
    figure: Figure

    @property
    def amount(self) -> Amount:
        """Currency, shares, days and ratios count as numbers without a unit."""
        unit = self.figure.unit
        return self.figure.value, unit if unit in ("percent", "bps") else "count"

    def same(self, other: Found) -> bool:
        """Whether both are the same amount, of the same currency if both name one."""
        one, two = self.figure.currency, other.figure.currency
        return self.amount == other.amount and (one.endswith(two) or two.endswith(one))


def _any_of(spellings: Iterable[str]) -> str:
    return "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))


_TIGHT = frozenset(("b", "k", "p", "x"))
"""Letters that mean a scale or a unit only where they touch the figure."""
_SCALE = rf"{JOINT}(?:{_any_of(SCALES.keys() - _TIGHT)})(?!\w)|\s?[bk](?!\w)|p(?!\w)"
_UNIT = rf"{JOINT}(?:{_any_of({*MEASURES, *CURRENCIES} - _TIGHT - {'us', 'au'})})(?!\w)|x(?!\w)"
_LOOSE = re.compile(r"\s[bk]\Z", re.IGNORECASE)
"""A scale of one letter that does not touch its figure needs a currency before that: `$5 b`."""
_RUN = re.compile(r"[0-9]+(?:[.,][0-9]+)*|(?<![0-9])\.[0-9]+")
_BEFORE = re.compile(
    r"(?<!\w)(?:\(\s?)?(?:(?<![^\s(])[-+]|(?:negative|minus)\s)?"
    rf"(?:(?:{_any_of(CURRENCIES)})\s?(?:[-(]\s?)?)?\Z",
    re.IGNORECASE | re.ASCII,
)
_AFTER = re.compile(rf"(?:\s?\))?(?:{_SCALE})?(?:{_UNIT})?(?:\s?\))?(?!\w)", re.IGNORECASE | re.ASCII)
_FIRST = re.compile(rf"(?:\s?\))?(?:{_SCALE})?(?!\w)", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(NUMBER)
_NOTE = re.compile(r"\([0-9]{1,2}\)")
_YEAR = re.compile(r"\((?:19|20)[0-9]{2}\)")
_MARK = re.compile(r"[\w(][\w.,/&'()-]*")
_LONGEST_BEFORE = 20
_TAKEN_OFF = re.compile(
    r"(?:[\d)%]|\b(?!(?:was|were|is|are|be|been|at|of|to|from|by|and|or|a|with|reached|between)\b)\w+)\s+\Z"
)
"""Before a minus in words that takes off: `revenue minus 5`, but not `growth of minus 5`."""


def amounts(text: str) -> list[Amount]:
    """The figures in running text, in order; currency, shares and days count as numbers without a unit.

    >>> amounts("Revenue fell 4.5% to $1.2 million in 2019.")
    [(Decimal('4.5'), 'percent'), (Decimal('1200000'), 'count'), (Decimal('2019'), 'count')]
    """
    return [found.amount for found in read(text)[0]]


def figure_spans(text: str) -> list[tuple[int, str]]:
    """(where it starts, how it is written) of the figures in running text."""
    return [(found.start, text[found.start : found.start + len(found.shown)]) for found in read(text)[0]]


@lru_cache(maxsize=4096)  # the parts of a reward read the same text, and so do all completions of a group
def read(text: str) -> tuple[Sequence[Found], Sequence[str]]:
    """The figures in running text, in order; and the marks."""
    text = plain(text[:MAX_CHARS])
    figures: list[Found] = []
    marks: list[str] = []
    end = 0
    for run in _RUN.finditer(text):
        if run.start() < end:
            continue
        found = _found(text, run, aside=_last_before(text, run.start()) == end > 0)
        if found is not None:
            figures.append(found)
            end = found.start + len(found.shown)
        else:
            mark, end = _mark(text, run)
            marks.append(mark)
    return tuple(figures), tuple(marks)


def _found(text: str, run: re.Match[str], *, aside: bool) -> Found | None:
    """The longest figure around the digits of `run`; in an aside after another figure parentheses are no minus."""
    if not _NUMBER.fullmatch(run[0]):
        return None
    for start in _starts(text, run.start()):
        for end in _ends(text, run.end()):
            shown = text[start:end]
            if _NOTE.fullmatch(shown):
                return None
            if shown.startswith("(") and (aside or _YEAR.fullmatch(shown)):
                continue
            if (read_as := figure(shown, footnotes=False)) is not None:
                if _LOOSE.search(shown) and not read_as.currency:
                    continue
                return Found(start, shown, read_as)
    return None


def _last_before(text: str, place: int) -> int:
    """Where the text before a figure ends, without its own marks."""
    for _ in range(_LONGEST_BEFORE):
        if place > 0 and text[place - 1] in " ($":
            place -= 1
    return place


def _starts(text: str, start: int) -> Iterator[int]:
    """Where a figure whose digits start here may start, the earliest first."""
    before = _BEFORE.search(text, max(0, start - _LONGEST_BEFORE), start)
    if before is not None:
        first, sign = before.start(), SIGN_WORD.search(before[0])
        if sign and sign[0][0] in "mM" and _TAKEN_OFF.search(text, max(0, first - 24), first):
            first += sign.end()
        yield first
        if before[0].startswith("("):
            yield before.start() + 1
    if start == 0 or not (text[start - 1].isalnum() or text[start - 1] == "_"):
        yield start


def _ends(text: str, end: int) -> Iterator[int]:
    """Where a figure whose digits end here may end, the latest first."""
    places = {match.end() for pattern in (_AFTER, _FIRST) if (match := pattern.match(text, end))}
    places |= {place - 1 for place in places if place > end and text[place - 1] == ")"}
    if end == len(text) or not (text[end].isalnum() or text[end] == "_"):
        places.add(end)
    yield from sorted(places, reverse=True)


def _mark(text: str, run: re.Match[str]) -> tuple[str, int]:
    start = run.start()
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] in "_.,/&'(-"):
        start -= 1
    found = _MARK.search(text, start)
    if found is None or found.end() < run.end():
        return run[0], run.end()
    return found[0].strip(".,'-/&").casefold(), found.end()


# --- numbers in words ---------------------------------------------------------------------------------------

_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_SMALL = {word: n for n, word in enumerate(_WORDS.split(), 1)}
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * n for n, word in enumerate(_ROUND.split(), 2)}
_TIMES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
NUMBER_WORDS = frozenset({*_SMALL, *_TENS, *_TIMES})
_SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<ones>{'|'.join(list(_SMALL)[:9])}))?|(?P<small>{_any_of(_SMALL)}))\b"
    rf"(?P<times>(?:[- ](?:{'|'.join(_TIMES)})\b)*)(?P<unit>\s(?:percent|per cent|basis points?)\b)?",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def spelled(text: str) -> Sequence[Found]:
    """The numbers that are written in words; `one` alone is none.

    >>> [str(found.figure.value) for found in spelled("One of the two grew by twenty-five percent to three million.")]
    ['2', '25', '3000000']
    """
    found = []
    for match in _SPELLED.finditer(plain(text[:MAX_CHARS])):
        if match["small"] and match["small"].casefold() == "one" and not match["times"]:
            continue
        said = {name: (part or "").casefold() for name, part in match.groupdict().items()}
        sum_of_parts = _TENS.get(said["tens"], 0) + _SMALL.get(said["ones"], 0) + _SMALL.get(said["small"], 0)
        power = sum(_TIMES[word] for word in re.split(r"[- ]", said["times"]) if word)
        value = figure(f"{sum_of_parts} {said['unit'].strip()}")
        if value is not None:
            scaled = value.value.scaleb(power, EXACT)
            found.append(Found(match.start(), match[0], replace(value, value=Decimal(f"{scaled:f}"))))
    return tuple(found)
