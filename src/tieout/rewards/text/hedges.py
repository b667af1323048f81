"""Hedges: words and phrases by which an English text leaves open whether what it says is so."""

from __future__ import annotations

import re

from .presentation import MAX_CHARS
from .sentences import sentences

CUES = (
    # How likely it is. May is a month.
    r"(?-i:may)|might|could|perhaps|maybe|possibly|possible|conceivably|potentially|presumably|supposedly|"
    r"probably|probable|plausibl[ey]|likely|unlikely|arguably|apparently|seemingly|"
    # What the writer only believes.
    r"(?:seem|appear|tend|suggest)(?:s|ed)?|i (?:think|believe|guess|suppose|suspect|assume)|in my (?:opinion|view)|"
    r"(?:not|hardly) (?:entirely |fully |quite )?(?:certain|sure|clear)|uncertain|unclear|"
    r"hard to (?:say|tell)|difficult to (?:say|tell)|cannot be (?:ruled out|sure|certain)|can't be (?:sure|certain)|"
    # Ways out of a claim.
    r"to some (?:extent|degree)|in some (?:sense|cases|ways)|more or less|sort of|kind of|somewhat|it depends|"
    r"some would (?:say|argue)"
)
"""After Hyland's list of hedges in academic writing (Metadiscourse, 2005) and the cues of the CoNLL-2010 task on
uncertainty (https://aclanthology.org/W10-3001), without what states facts in reports: about, approximately, estimate,
generally, indicate, should, would."""

_HEDGE = re.compile(rf"\b(?:{CUES})\b", re.IGNORECASE)


def hedging(text: str) -> float:
    """Hedges per sentence; 0.0 of a text without a sentence.

    >>> hedging("It may possibly be that revenue could have risen, although this might not hold.")
    4.0
    >>> hedging("Revenue rose by 4% in May 2020. Costs may rise."), hedging("42")
    (0.5, 0.0)
    """
    parts = sentences(text)
    return len(_HEDGE.findall(text[:MAX_CHARS])) / len(parts) if parts else 0.0
