"""A stand-in for the people who say which note they prefer: a hidden rubric with noise. No person said any of it.

What the reader likes is not the house style to the letter: it weighs the rules as readers do, does not care with what
a sentence begins, and overlooks every other changed figure. `hasty` in addition likes what is longer, as judges do.
Each opinion is fixed by the text, so that a run repeats itself.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..rewards.text.sentences import words
from .style_rules import RULES, Point, read, unchanged

WEIGHTS: Mapping[str, float] = {"active": 0.2, "plain": 0.25, "unit": 0.2, "period": 0.2, "short": 0.15}
"""What a rule is worth to the reader, of 1."""
NOISE = 0.15
"""Standard deviation of an opinion, on the scale of the weights."""
LONGER = 0.03
"""What `hasty` adds for each word."""


def reader(completions: Sequence[str], points: Sequence[Sequence[Point]], **_: Any) -> list[float | None]:
    """[K] opinions of the notes; only those of one prompt compare. About 0 to 1."""
    return [_opinion(note, given, 0.0) for note, given in zip(completions, points, strict=True)]


def hasty(completions: Sequence[str], points: Sequence[Sequence[Point]], **_: Any) -> list[float | None]:
    """[K] opinions of the same reader who likes what is longer."""
    return [_opinion(note, given, LONGER) for note, given in zip(completions, points, strict=True)]


def _opinion(note: str, points: Sequence[Point], longer: float) -> float:
    found, _ = read(note, points)
    rng = random.Random(f"reader/{note}")
    total = 0.0
    for said, point in zip(found, points, strict=True):
        if said is not None and (unchanged(said, point) or rng.random() < 0.5):
            total += sum(weight * RULES[rule](said, point) for rule, weight in WEIGHTS.items())
    return total / len(points) + longer * len(words(note)) + rng.gauss(0.0, NOISE)
