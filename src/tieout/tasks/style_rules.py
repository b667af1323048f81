"""The house style of the task `style`, rule by rule, and the facts that a note may not change.

A note has a sentence for each point. Of each sentence these rules are checked:

| rule | the sentence |
|---|---|
| `active` | has no form of `be` with a participle |
| `plain` | has no hedge (`rewards.text.hedges`) |
| `subject` | begins with what it is about |
| `unit` | gives the amount with its currency and scale: `$354 million` |
| `period` | names the period |
| `short` | has at most 11 words |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..rewards.scoring.outcomes import ranged
from ..rewards.text.figures import CURRENCIES, MEASURES, SCALES
from ..rewards.text.hedges import hedging
from ..rewards.text.sentences import negations, sentences, words
from ..rewards.text.thinking import answer_text

Point = Mapping[str, Any]
"""`about` (as printed in the notes), `period`, `amount` in millions of dollars, and `change` in percent, signed."""
MOST_WORDS = 11
UP = ("rose", "rise", "grew", "growth", "up", "increased")
DOWN = ("fell", "fall", "declined", "decline", "down", "decreased")
_PERIOD = re.compile(r"\b(?:Q[1-4] )?(?:19|20)\d\d\b")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_PASSIVE = re.compile(r"\b(?:is|are|was|were|be|been|being)\s+(?:\w+ed|seen|made|given|shown|known)\b", re.I)
_WHOLE = re.compile(r"[^.;:!?]+\.")
"""One sentence up to its full stop, without an aside."""
_SIGN = re.compile(r"[-+−]\s?(?=\$?\d)")
_OTHERWISE = re.compile(
    r"[%$€£¥₹]|\b(?:almost|nearly|barely|(?:less|more|other|rather) than|from|outside|before|after|"
    rf"points?|{'|'.join(re.escape(word) for word in (*SCALES, *MEASURES, *CURRENCIES) if word[0].isalpha())})\b",
    re.I,
)
"""Apart from the two figures: another unit, or a word that makes something else of them."""
RULES: Mapping[str, Callable[[str, Point], bool]] = {
    "active": lambda said, point: not _PASSIVE.search(said),
    "plain": lambda said, point: hedging(said) == 0,
    "subject": lambda said, point: said.casefold().startswith(point["about"].casefold()),
    "unit": lambda said, point: f"${point['amount']} million" in said,
    "period": lambda said, point: point["period"] in said,
    "short": lambda said, point: len(words(said)) <= MOST_WORDS,
}


def unchanged(said: str, point: Point) -> bool:
    """Whether a sentence gives amount, change and direction, denies none, and has no other figure, unit or period."""
    if (
        not _WHOLE.fullmatch(said)
        or _SIGN.search(said)
        or negations(said)
        or any(period != point["period"] for period in _PERIOD.findall(said))
    ):
        return False
    figures = sorted(_NUMBER.findall(_PERIOD.sub(" ", said)))
    if figures != sorted((str(point["amount"]), str(abs(point["change"])))):
        return False
    change, amount = rf"\b{abs(point['change'])}%", rf"\$?\b{point['amount']}\b(?: million\b)?"
    if not re.search(change, said) or _OTHERWISE.search(re.sub(rf"{change}|{amount}", " ", said)):
        return False
    spoken = {word.casefold() for word in words(said)}
    right, wrong = (UP, DOWN) if point["change"] > 0 else (DOWN, UP)
    return bool(spoken & set(right)) and not spoken & set(wrong)


def read(note: str, points: Sequence[Point]) -> tuple[list[str | None], int]:
    """For each point the one sentence that is about it, None where there is none or several; the sentences in all."""
    said = sentences(answer_text(note))
    found = list[str | None]()
    for point in points:
        about = [sentence for sentence in said if point["about"].casefold() in sentence.casefold()]
        found.append(about[0] if len(about) == 1 else None)
    return found, len(said)


@ranged(0, 1)
def house_style(
    completions: Sequence[str], points: Sequence[Sequence[Point]], **_: Any
) -> list[float | None]:
    """[K] share of the rules that the sentences with unchanged facts follow; one too many costs as a point."""
    return [_mean(note, given, _followed) for note, given in zip(completions, points, strict=True)]


def facts(completions: Sequence[str], points: Sequence[Sequence[Point]], **_: Any) -> list[float | None]:
    """[K] 1 where each point has one sentence with unchanged facts, in the notes' order, and nothing else is said."""
    scores = list[float | None]()
    for note, given in zip(completions, points, strict=True):
        found, count = read(note, given)
        whole = count == len(given) and all(s and unchanged(s, p) for s, p in zip(found, given, strict=True))
        places = [note.find(sentence or "") for sentence in found]
        scores.append(float(whole and places == sorted(places)))
    return scores


def in_style(completions: Sequence[str], points: Sequence[Sequence[Point]], **_: Any) -> list[float | None]:
    """[K] 1 where the facts are unchanged, and every sentence follows every rule."""
    styles, right = house_style(completions, points), facts(completions, points)
    return [float(style == 1 and fact == 1) for style, fact in zip(styles, right, strict=True)]


def num_words(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] words of each note."""
    return [float(len(words(note))) for note in completions]


def hedges(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] hedges per sentence."""
    return [hedging(note) for note in completions]


def _followed(said: str, point: Point) -> float:
    return sum(rule(said, point) for rule in RULES.values()) / len(RULES) if unchanged(said, point) else 0.0


def _mean(note: str, points: Sequence[Point], of: Callable[[str, Point], float]) -> float:
    found, count = read(note, points)
    scores = [of(s, point) if s else 0.0 for s, point in zip(found, points, strict=True)]
    return sum(scores) / max(len(points), count)
