"""Claims and the passages that support them, decided without a model or by your own judge.

The programmatic answer is strict about what can be checked (figures, names, denials) and lenient about wording. What
it does not catch: a true sentence in wholly other words (called unsupported); two things of one passage confused with
each other (called supported); irony, and whatever needs reasoning over several sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .sentences import amounts, content, opposed, sentences

Supports = Callable[[str, Sequence[str]], bool]
"""(claim, passages) -> whether one of the passages says it. A judge raises where it fails; it never guesses."""

CITATION = re.compile(r"\[([0-9]{1,3}(?:\s*,\s*[0-9]{1,3})*)\]")
MIN_SHARE = 0.6
"""Of a claim's content words, so many must stand in one sentence of the passage."""
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w&'’-]*")


def supports(claim: str, passages: Sequence[str]) -> bool:
    """Whether one sentence of one passage says the claim.

    It must have every figure of the claim in value and unit, every name (a capital inside a sentence), at least
    MIN_SHARE of its content words, and not be opposed to it: a denial, or down for up.

    >>> source = ["Revenue was $1.2 million in 2019. Costs did not rise."]
    >>> [supports(c, source) for c in ("In 2019, revenue was 1,200,000.", "Revenue was $1.3 million.", "Costs rose.")]
    [True, False, False]
    """
    bare = strip_citations(claim)
    wanted, figures = content(bare), amounts(bare)
    if not wanted and not figures:
        return False
    for passage in passages:
        names_there = content(passage)
        if any(name not in names_there for name in content(" ".join(_NAME.findall(bare)))):
            continue
        for said in sentences(passage):
            have, there = content(said), amounts(said)
            share = sum((wanted & have).values()) / max(1, wanted.total())
            if share >= MIN_SHARE and all(f in there for f in figures) and not opposed(bare, said):
                return True
    return False


def claims(text: str) -> list[str]:
    """The sentences of a text that claim something: those with content or a figure, their citations kept."""
    return [s for s in sentences(text) if content(strip_citations(s)) or amounts(strip_citations(s))]


def cited(claim: str) -> list[int]:
    """The numbers cited in it, each once: `[1, 3]` and `[2]` are 1, 3, 2."""
    return list(dict.fromkeys(int(n) for group in CITATION.findall(claim) for n in group.split(",")))


def strip_citations(text: str) -> str:
    """The text without `[1]` marks."""
    return CITATION.sub("", text).strip()
