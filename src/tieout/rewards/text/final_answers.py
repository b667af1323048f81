r"""Find the one final answer of a completion, and take off what only presents it: bold, boxes, math signs, a unit.

| where it stands | for example |
|---|---|
| the whole completion | `5`, `**5**`, `$5$`, `12 apples` |
| after its only marker | `Answer: 5`, `**Answer:** 5`, `**Answer: 5**`, `#### 5`, `### Answer` and a line `5` |
| inside its only marker, at the end | `<answer>5</answer>`, `\boxed{5}`, `$\boxed{5}$`, `\[\boxed{5}\]` |
| after `answer is`, where there is no marker | `The answer is 5.`, `The final answer is: **5**` |
| two of them around each other | `Answer: \boxed{5}`, `The answer is $\boxed{5}$.` |
| the sentence in tags | `<answer>The answer is 5.</answer>` |

Not read: an answer in the middle of other words (`Revenue was 5 in 2019.`), a last line without a marker, `About 5`,
`5 (five)`, `x = 5`, two answers, and whatever follows the answer.
"""

from __future__ import annotations

import re

from .amounts import NUMBER_WORDS
from .figures import CURRENCIES, MEASURES, SCALES, Figure, figure
from .opposites import SIGNED, ends
from .sentences import STOPWORDS, negations

MAX_CHARS = 400
"""A longer answer is no figure."""

_HEADING = r"(?:\#{1,6}[ ]*|\*\*)(?i:(?:the )?(?:final )?answer):?(?:\*\*)?:?[ ]*\n"
MARKER = re.compile(rf"<answer>|\\boxed\s*\{{|{_HEADING}|####|\b(?i:answer)[*_]{{0,2}}\s*:")
SENTENCE = re.compile(r"\b(?i:answer)[ ]+(?i:is|was|equals)\b[ ]*:?")
_CLOSING = {"<": "</answer>", "\\": "}"}
"""First letter of a marker -> what ends it."""
_PAIRS = (
    *(("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`"), ("$$", "$$"), ("$", "$")),
    *((r"\(", r"\)"), (r"\[", r"\]"), (r"\boxed{", "}"), (r"\text{", "}"), (r"\mathbf{", "}"), ("{", "}")),
)
"""What may stand around an answer and says nothing."""
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\\[,;:! ]|~")
_WORD = re.compile(r"[A-Za-z]{2,}(?:-[A-Za-z]{2,})*")
MAX_WORDS = 4
"""A unit of more words is prose."""
_CHANGING = (
    "dozen dozens score gross grand mil mill bil mrd half halves third thirds quarter "
    "quarters tenth tenths hundredth hundredths thousandth thousandths percentage point points pct pp ppt squared "
    "cubed factorial pi ish odd something or and to but plus minus wrong"
)
_QUANTITIES = frozenset(_CHANGING.split())
"""Words after a figure that would change it, and so are no unit."""
_NO_UNIT = {*_QUANTITIES, *NUMBER_WORDS, *SCALES, *MEASURES, *CURRENCIES, *STOPWORDS} - {
    "a",
    "an",
    "of",
    "in",
}


def final_text(said: str) -> str | None:
    r"""The text of the final answer in what a completion says, without marker and presentation; None if it has none.

    >>> [final_text(said) for said in ("So it is:\n**Answer:** $5 million.", r"Hence $\boxed{12\%}$", "5, or 6")]
    ['$5 million', '12%', '5, or 6']
    """
    # From the first marker to the end: a second marker, or anything else after the answer, makes it none.
    marker = MARKER.search(said) or SENTENCE.search(said)
    before = said[: marker.start()] if marker else ""
    answer = (said[marker.end() :] if marker else said).strip()
    if len(answer) > MAX_CHARS:
        return None
    if marker:
        answer = _unopened(answer, before)
        if closing := _CLOSING.get(marker[0][0]):
            if not answer.endswith(closing):
                return None
            answer = answer.removesuffix(closing)
            if (
                closing == _CLOSING["<"]
                and not MARKER.search(answer)
                and (said_so := SENTENCE.search(answer))
            ):
                answer = answer[said_so.end() :]
    return _bare(answer)


def split_unit(answer: str) -> tuple[Figure, str] | None:
    """The figure that an answer is, and the unit in words after it, if any; None for anything else.

    >>> [split_unit(said) for said in ("5 dozen", "5 more", "5 or 6")], split_unit("12 green apples")[1]
    ([None, None, None], 'green apples')
    """
    if (read := figure(answer, footnotes=False)) is not None:
        return read, ""
    said = answer.split(" ")
    for place in range(len(said) - 1, max(0, len(said) - 1 - MAX_WORDS), -1):
        if not _WORD.fullmatch(said[place]):
            return None
        if (read := figure(" ".join(said[:place]), footnotes=False)) is not None:
            words = [word.casefold() for word in said[place:]]
            changed = words[0] in _NO_UNIT or any(
                word in _QUANTITIES or _cut(word) or negations(word) or ends(word) & SIGNED for word in words
            )
            return None if changed else (read, " ".join(words))
    return None


def _cut(word: str) -> bool:
    """Whether a scale or a measure was cut off: `5 thous`."""
    known = {*SCALES, *MEASURES, "per"}
    return word not in known and any(name.startswith(word) for name in known)


def _unopened(answer: str, before: str) -> str:
    """The answer without what was opened before its marker: `5**` of `**Answer: 5**`."""
    line = before.rpartition("\n")[2]
    changed = True
    while changed:
        changed = False
        answer = answer.strip().removesuffix(".") if not answer.endswith("..") else answer
        for opening, closing in _PAIRS[:9]:
            opened = line.count(opening) % 2 if opening == closing else opening in before[-20:]
            if not opened:
                continue
            for part in (answer.removesuffix(closing), answer.removeprefix(closing)):
                if part != answer and not (opening == "$" and answer.replace(r"\$", "").count("$") > 1):
                    answer, changed, line = part, True, line.replace(opening, "", 1)
                    break
            if changed:
                break
    return answer.strip()


def _bare(answer: str) -> str:
    """The answer without pairs around it, in plain signs."""
    changed = True
    while changed:
        answer, changed = answer.strip().removesuffix(".").strip(), False
        for opening, closing in _PAIRS:
            inside = answer[len(opening) : -len(closing)]
            if answer.startswith(opening) and answer.endswith(closing) and inside and opening not in inside:
                answer, changed = inside, True
    answer = _SPACE.sub(" ", _TEXT.sub(r"\1", answer.replace("{,}", ",").replace(r"\!", "")))
    return answer.replace(r"\%", "%").replace(r"\$", "$").strip().removesuffix(".")
