"""Find training rows among held-out rows: copies, copies up to case and punctuation, and near-duplicates.

What is compared is the question: the prompt without the system turns, which the rows of a task share. A held-out row is

    exact        if a training row asks it letter for letter;
    normalised   if one asks it up to case, whitespace, punctuation and the forms of Unicode;
    near         if all its lines and sentences, or at least NEAR of its runs of five words, stand in the prompt and
                 completions of one training row.

Rows of one task share instructions, templates, tables and passages, and are different questions all the same. So, for
near-duplicates:

- a run counts only if no third question holds it (questions with the same long or numeric gold count once, or ten
  paraphrases of a row would hide each other), and a row must have runs of its own;
- rows whose golds are known to be different answers are different questions;
- once the lines and sentences that both rows hold verbatim are set aside, the rest of the held-out row must share its
  words with the rest of the training row, and all its figures.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..types import Row
from .locations import location
from .messages import is_talk, prompt_text, text_of, whole_text

RUN = 5
"""Words in a run."""
NEAR = 0.7
"""Share of a held-out row's own runs that one training row must hold. One changed word breaks five of them."""
HOLDERS = 2
"""A run that more questions than these hold is a template or a shared text."""
OWN = (3, 0.2)
"""A row can be a near-duplicate if so many of its runs, and this share of them, are not shared."""
SAME_GOLD = 0.5
"""Golds with less than this share of their figures, or else of their words, in common are different answers."""

Kind = Literal["exact", "normalised", "near"]
KINDS: tuple[Kind, ...] = ("exact", "normalised", "near")

_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Chinese characters: each is a word
_LETTERS = rf"[^\W_{_UNSPACED}]+"
_WORD = re.compile(
    rf"[{_UNSPACED}]|{_LETTERS}(?:[.,'’]{_LETTERS})*"
    r"|[-−+*/^=<>](?=\s*[.\d])|(?<=\d)%"  # a figure's sign, and the operator before it, are no punctuation
)
_BREAK = re.compile(r"\n+|(?<=[.!?])\s+")


def words_of(text: str) -> list[str]:
    """The words of a text, without case, punctuation and the forms of Unicode.

    >>> words_of("What WAS  revenue, in 2023?"), words_of("1,234.5 - 3")
    (['what', 'was', 'revenue', 'in', '2023'], ['1,234.5', '-', '3'])
    """
    return _WORD.findall(_HIDDEN.sub("", unicodedata.normalize("NFKC", text)).casefold())


@dataclass(frozen=True)
class Leak:
    """A held-out row, and a training row that gives it away."""

    kind: Kind
    source: str
    """Of the held-out row, as it was given."""
    held: str
    """The location of the held-out row."""
    train: str
    """The location of the training row."""


def find_leaks(train: Mapping[str, Sequence[Row]], held: Mapping[str, Sequence[Row]]) -> list[Leak]:
    """The held-out rows that training rows give away, in their order, each once and by its closest kind.

    Args:
        train: source -> rows that are trained on.
        held: source -> rows that are measured on.
    """
    asked = [
        _Row(row, name, location(rows, i, name)) for name, rows in held.items() for i, row in enumerate(rows)
    ]
    holders: dict[int, set[str]] = {}
    for question in asked:
        for run in question.text.runs:
            holders.setdefault(run, set()).add(question.holder)
    lines = set[int]().union(*(question.text.lines for question in asked))
    trained = list[_Trained]()
    exact, normalised = dict[str, _Row](), dict[str, _Row]()
    for name, rows in train.items():
        for i, row in enumerate(rows):
            one = _Row(row, name, location(rows, i, name))
            exact.setdefault(one.question, one)
            normalised.setdefault(one.text.key, one)
            for run in one.text.runs & holders.keys():
                if len(holders[run]) <= HOLDERS:
                    holders[run].add(one.holder)
            whole = _Text(f"{one.question}\n{one.answers}")
            trained.append(_Trained(one, whole.runs & holders.keys(), whole.lines & lines))
            one.__dict__.pop("text")  # of 50,000 rows, what no held-out row shares would fill the memory
    near = {**_similar(asked, trained, holders), **_quoted(asked, trained)}
    leaks = []
    for i, question in enumerate(asked):
        known: tuple[tuple[Kind, _Row | None], ...] = (
            ("exact", exact.get(question.question)),
            ("normalised", normalised.get(question.text.key)),
            ("near", near.get(i)),
        )
        if found := next(((kind, other) for kind, other in known if other is not None), None):
            leaks.append(Leak(found[0], question.source, question.place, found[1].place))
    return leaks


def copies(train: Iterable[Row], held: Iterable[Row]) -> int:
    """How many held-out rows ask letter for letter what a training row asks.

    >>> copies([{"prompt": "1+1?"}], [{"prompt": "1+1?"}, {"prompt": "1+2?"}])
    1
    """
    asked = {_Row(row, "", "").question for row in train}
    return sum(_Row(row, "", "").question in asked for row in held)


class _Text:
    """A text in the forms that are compared."""

    def __init__(self, text: str) -> None:
        parts = [words_of(part) for part in _BREAK.split(text)]
        words = [word for part in parts for word in part]
        self.key = " ".join(words) or text
        self.lines = {hash(tuple(part)) for part in parts if part}
        longest = max(parts, key=lambda part: len(part))
        self.longest = hash(tuple(longest)) if len(words) >= RUN else None
        self.runs = set(map(hash, zip(*(words[i:] for i in range(RUN)), strict=False)))


@dataclass(eq=False)
class _Row:
    """A row, and what it asks."""

    row: Row
    source: str
    place: str

    @cached_property
    def question(self) -> str:
        """The prompt without system turns; where nothing is left, the other columns."""
        prompt = self.row.get("prompt") or ""
        text = prompt_text(prompt, leave_out=("system",))
        if text.strip():
            return text
        others = {key: value for key, value in self.row.items() if key not in ("prompt", "id")}
        return json.dumps(others, sort_keys=True, default=str, ensure_ascii=False)

    @cached_property
    def text(self) -> _Text:
        """The question in the forms that are compared."""
        return _Text(self.question)

    @cached_property
    def gold(self) -> list[str]:
        """The words of the gold answer; none if it is not known."""
        gold = self.row.get("answer", None if "label" in self.row else self.row.get("completion"))
        return [] if gold is None else words_of(text_of(gold) if is_talk(gold) else str(gold))

    @cached_property
    def holder(self) -> str:
        """Names the question, and its paraphrases where the gold is telling."""
        telling = len(self.gold) > 3 or any(map(_is_figure, self.gold))
        return f"gold: {' '.join(self.gold)}" if telling else self.text.key

    @property
    def answers(self) -> str:
        """All completions of the row."""
        given = [self.row.get(name) or "" for name in ("completion", "chosen", "rejected")]
        return "\n".join(whole_text(x) for x in [*given, *(self.row.get("completions") or ())])


@dataclass(frozen=True, eq=False)
class _Trained:
    """A training row, with the runs and lines of prompt and completions that held-out rows have too."""

    row: _Row
    runs: set[int]
    lines: set[int]


def _quoted(asked: Sequence[_Row], trained: Sequence[_Trained]) -> dict[int, _Row]:
    """Position of a held-out row -> a training row in which each of its lines and sentences stands."""
    places, found = defaultdict[int | None, list[int]](list), dict[int, _Row]()
    for i, question in enumerate(asked):
        places[question.text.longest].append(i)
    for one in trained:
        for i in (i for line in one.lines for i in places.get(line, ())):
            if i not in found and asked[i].text.lines <= one.lines and not _other_gold(asked[i], one.row):
                found[i] = one.row
    return found


def _similar(
    asked: Sequence[_Row], trained: Sequence[_Trained], holders: Mapping[int, set[str]]
) -> dict[int, _Row]:
    """Position of a held-out row -> the training row that holds most of its own runs, if that is NEAR of them."""
    places, counts = defaultdict[int, list[int]](list), [0] * len(asked)
    for i, question in enumerate(asked):
        mine = [run for run in question.text.runs if len(holders[run]) <= HOLDERS]
        if len(mine) >= max(OWN[0], OWN[1] * len(question.text.runs)):
            counts[i] = len(mine)
            for run in mine:
                places[run].append(i)
    best: dict[int, tuple[float, _Row]] = {}
    for one in trained:
        for i, hits in Counter(i for run in one.runs for i in places.get(run, ())).items():
            share = hits / counts[i]
            if share >= NEAR and (i not in best or share > best[i][0]) and _alike(asked[i], one.row):
                best[i] = (share, one.row)
    return {i: row for i, (_, row) in best.items()}


def _other_gold(held: _Row, train: _Row) -> bool:
    """Whether the golds are known to be different answers."""
    return bool(held.gold and train.gold) and _overlap(held.gold, train.gold) < SAME_GOLD


def _alike(held: _Row, train: _Row) -> bool:
    """Whether two rows that share most of their runs ask the same, as far as golds and differing parts show."""
    if _other_gold(held, train):
        return False
    mine, other = _sentences(held.question), _sentences(f"{train.question}\n{train.answers}")
    rest = [word for words in mine - other for word in words]
    others = [word for words in other - mine for word in words]
    if not set(filter(_is_figure, rest)) <= set(others):
        return False
    return (Counter(rest) & Counter(others)).total() >= NEAR * len(rest)


def _sentences(text: str) -> set[tuple[str, ...]]:
    return {tuple(words_of(part)) for part in _BREAK.split(text)}


def _is_figure(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _overlap(one: Iterable[str], other: Iterable[str]) -> float:
    """Share of the shorter's figures, or of its words where not both have figures, that the other text has."""
    a, b = set(one), set(other)
    figures = set(filter(_is_figure, a)), set(filter(_is_figure, b))
    a, b = figures if all(figures) else (a, b)
    return len(a & b) / min(len(a), len(b))
