"""A reward to start from: how many words an answer shares with a good one.

That says little: no program knows whether an answer in words is good. Have people grade what two models say
(`tieout label RUN`), or a judge that was calibrated against people (docs/judges.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any


def right(completions: Sequence[str], completion: Sequence[Any], **_: Any) -> list[float]:
    """[K] harmonic mean of the shares of words that are in both: 1 for the row's completion, 0 for none in common."""
    return [_overlap(said, str(gold)) for said, gold in zip(completions, completion, strict=True)]


right.__reward_range__ = (0.0, 1.0)  # type: ignore[attr-defined]


def _overlap(said: str, gold: str) -> float:
    a, b = (Counter(re.findall(r"\w+", text.lower())) for text in (said, gold))
    return 2 * (a & b).total() / max(1, a.total() + b.total())
