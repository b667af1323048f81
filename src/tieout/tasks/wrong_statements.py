"""Make a statement wrong in one place: another figure, scale or name, denied, or a direction turned.

Each function gives every text that it can make, in order; none where the text holds nothing to change. What would say
the same in other words is left out: `gain or loss` is not turned into `loss or gain`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ..rewards.text.figures import NUMBER
from ..rewards.text.sentences import STOPWORDS

FIGURE = re.compile(
    r"(?:(?<![\w.,/-])|(?<=USD)|(?<=RMB)|(?<=EUR)|(?<=GBP)|(?<=CHF)|(?<=JPY))(?P<sign>[-−]?)(?P<open>\(?)"
    rf"(?P<number>{NUMBER})(?P<close>\)?)(?!(?!(?:bn|mn|tn|[mbkx])\b)[\w/]|[.,][0-9]|\"\s*:)",
    re.IGNORECASE,
)
SCALES = ("thousand", "million", "billion")
SCALE = re.compile(rf"\b(?:{'|'.join(SCALES)})\b", re.IGNORECASE)
SPELLED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SPELLED = re.compile(rf"\b(?:{'|'.join(SPELLED)})\b(?!-)", re.IGNORECASE)
_NO_STATEMENT = re.compile(
    r"\[[0-9, ]+\]|\([0-9]{1,2}\)(?=\s+[A-Z])|(?:^[ \t]*|(?<=[.:;] ))[0-9]{1,3}[.)](?=\s)", re.MULTILINE
)
"""Citations, footnotes, and numbers of a list's items."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z])|\n+")

_NEGATABLE = re.compile(
    r"\b(?:(?P<other>cannot|can['’]t|won['’]t)\b|(?P<doing>did|does|do|has|have|had)(?: not\b|n['’]t\b)|"
    r"(?P<helps>is|are|was|were|will|would|can|could|should|must|may)(?:(?P<negation> not\b|n['’]t\b)|\b(?!['’-])))"
    r"(?! (?:only|no|never|none|nothing)\b)"
)


def _forms(*stems: str) -> dict[str, str]:
    """Both directions of `rise/fall` pairs."""
    pairs = [stem.partition("/") for stem in stems]
    return {**{b: a for a, _, b in pairs}, **{a: b for a, _, b in pairs}}


OPPOSITE: Mapping[str, str] = {
    "decline": "increase", "declines": "increases", "declined": "increased", "declining": "increasing",
    "dropped": "climbed", "drop": "rise", "drops": "rises", "reduction": "increase", "reduced": "increased",
    "loss": "gain", "losses": "gains", "greater": "smaller", "fewer": "more", "deterioration": "improvement",
    "deteriorated": "improved", "unfavourable": "favourable",
    **_forms(
        "true/false", "increased/decreased", "increase/decrease", "increases/decreases",
        "increasing/decreasing", "rise/fall", "rises/falls", "rose/fell", "risen/fallen", "rising/falling",
        "grow/shrink", "grows/shrinks", "grew/shrank", "grown/shrunk", "growing/shrinking", "growth/decline",
        "climbed/dropped", "gained/lost", "higher/lower", "highest/lowest", "larger/smaller", "largest/smallest",
        "more/less", "profit/loss", "profits/losses", "gain/loss", "gains/losses", "improved/worsened",
        "improvement/deterioration", "strengthened/weakened", "stronger/weaker", "expanded/contracted",
        "favorable/unfavorable", "favourable/unfavourable", "positive/negative", "surplus/deficit",
        "inflow/outflow", "inflows/outflows", "widened/narrowed", "doubled/halved", "beat/missed", "tightened/loosened",
        "accelerated/decelerated", "upgraded/downgraded", "outperformed/underperformed", "appreciated/depreciated",
        "rallied/slumped", "better/worse", "strong/weak", "before/after", "maximum/minimum",
    ),
}  # fmt: skip
"""Word -> its opposite."""
_TURNED = re.compile(
    rf"\b(?:{'|'.join(OPPOSITE)}|(?:up|down|above|below|over|under)(?= (?:by |from )?[$€£¥]?[0-9])|"
    r"(?:(?<=was )|(?<=were )|(?<=is )|(?<=are ))(?:up|down)|"
    r"(?:(?<![^.!?>\n] )(?<![\w,])(?:yes|no)(?=[,.!;:]|\s*$)))\b(?!-)",
    re.IGNORECASE,
)
_ELSEWHERE = _forms("up/down", "above/below", "over/under", "yes/no")
"""Opposites next to a figure, and at the start of a sentence."""

_CAPITAL = r"[A-Z](?:[\w&-]|['’](?!s\b))*"
NAME = re.compile(rf"(?<=[\w,;:)] )(?:(?=[A-Z&-]*[a-z]){_CAPITAL}(?: {_CAPITAL})*|[A-Z]{{2,5}}\b)")
"""Inside a sentence: at its start any word has a capital."""
_FIRST = re.compile(rf"(?:^|(?<=[.!?>] )|(?<=[\n>]))(?P<name>{_CAPITAL}(?: {_CAPITAL})*)")
"""At its start: a name if it is one elsewhere, or of several words."""
MADE_UP = "Zorblax"
_GENERIC = frozenset(
    ("company", "group", "corporation", "trust", "parent", "issuer", "registrant", "note", "table", "we", "i")
)


def other_digit(shown: str) -> str:
    """The first digit of a number changed: no tolerance forgives that.

    >>> other_digit("1,234")
    '7,234'
    """
    place = next(i for i, character in enumerate(shown) if character.isdigit())
    other = {"1": "7", "0": "4"}.get(shown[place], str((int(shown[place]) + 4) % 9 + 1))
    return shown[:place] + other + shown[place + 1 :]


def figures_changed(text: str) -> Iterator[str]:
    """One figure, or one number in words, is another; not that of a citation or of an item in a list.

    >>> list(figures_changed("It rose to $5 million [1]."))
    ['It rose to $1 million [1].']
    """
    kept = [match.span() for match in _NO_STATEMENT.finditer(text)]
    for match in FIGURE.finditer(text):
        start, end = match.span("number")
        if not any(a <= start and end <= b for a, b in kept):
            yield text[:start] + other_digit(match["number"]) + text[end:]
    for match in _SPELLED.finditer(text):
        other = SPELLED[(SPELLED.index(match[0].lower()) + 4) % len(SPELLED)]
        yield text[: match.start()] + _cased(other, match[0]) + text[match.end() :]


def scales_exchanged(text: str) -> Iterator[str]:
    """One figure is in millions in place of thousands, or the like."""
    for match in SCALE.finditer(text):
        other = SCALES[(SCALES.index(match[0].lower()) + 1) % len(SCALES)]
        yield text[: match.start()] + _cased(other, match[0]) + text[match.end() :]


def turned(text: str) -> Iterator[str]:
    """One word of direction is its opposite, in sentences that do not have both.

    >>> list(turned("Sales rose as costs did. A gain or loss is shown."))
    ['Sales fell as costs did. A gain or loss is shown.']
    """
    for start, end in _sentences(text):
        there = set(re.findall(r"\w+", text[start:end].lower()))
        for match in _TURNED.finditer(text, start, end):
            word = match[0].lower()
            other = OPPOSITE.get(word) or _ELSEWHERE[word]
            if other not in there and not any(OPPOSITE.get(known) == word for known in there):
                yield text[: match.start()] + _cased(other, match[0]) + text[match.end() :]


def denied(text: str) -> Iterator[str]:
    """One sentence says that it is not so, or no longer that it is not.

    >>> list(denied("Costs were flat. Sales did not rise."))
    ['Costs were not flat. Sales did not rise.', 'Costs were flat. Sales did rise.']
    >>> list(denied("Sales fell in each of three years."))
    ['It is not true that Sales fell in each of three years.']
    """
    for start, end in _sentences(text):
        match = _NEGATABLE.search(text, start, end)
        if match is None:
            if text[start:end].endswith((".", "!")) and len(re.findall(r"\w+", text[start:end])) > 3:
                yield f"{text[:start]}It is not true that {text[start:]}"
            continue
        if match["helps"]:
            said = match["helps"] if match["negation"] else f"{match['helps']} not"
        else:
            said = match["doing"] or ("will" if match["other"].startswith("wo") else "can")
        yield text[: match.start()] + said + text[match.end() :]


def renamed(text: str, others: Sequence[str] = ()) -> Iterator[str]:
    """One name is another: the first of `others` that cannot mean the same, and one that is made up.

    >>> list(renamed("Revenue of Acme rose.", ["Acme Inc.", "Birch"]))
    ['Revenue of Birch rose.', 'Revenue of Zorblax rose.']
    """
    known = {word for name in (*names(text), *others) for word in name.split()}
    first = [match[0] for match in _FIRST.finditer(text)]
    first = [name for name in first if name.split()[0].lower() not in STOPWORDS]
    first = [name for name in first if " " in name or name in known]
    inside = [name for name in names(text) if not any(name in whole for whole in first)]
    for name in dict.fromkeys([*first, *inside]):
        for other in (next((one for one in others if _is_other(name, one, text)), None), MADE_UP):
            if other:
                yield re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", other, text)


def names(text: str) -> list[str]:
    """The names inside the sentences of a text, each once."""
    found = (match[0] for match in NAME.finditer(text))
    return [name for name in dict.fromkeys(found) if name.lower() not in _GENERIC]


def wrong_statements(text: str, others: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """(what was done, the text with it), of every kind."""
    made = (
        ("one figure changed", figures_changed(text)),
        ("another scale", scales_exchanged(text)),
        ("direction turned", turned(text)),
        ("denied", denied(text)),
        ("another name", renamed(text, others)),
    )
    for kind, texts in made:
        for changed in dict.fromkeys(texts):
            yield kind, changed


def _is_other(name: str, other: str, text: str) -> bool:
    """Whether another name means another: no word in common, no initials of it, and not in the text already."""
    words, more = (re.findall(r"\w+", some.lower()) for some in (name, other))
    initials = ["".join(word[0] for word in some) for some in (words, more)]
    shared = any(a.startswith(b) or b.startswith(a) for a in words for b in more)
    short = initials[0] == other.lower() or initials[1] == name.lower()
    return not shared and not short and other not in text and other.lower() not in _GENERIC


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def _cased(word: str, like: str) -> str:
    return (
        word.upper() if like.isupper() and len(like) > 1 else word.capitalize() if like[0].isupper() else word
    )
