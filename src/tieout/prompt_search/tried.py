"""Candidates that were tried on all validation rows, and which of them is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .candidates import Candidate, front


@dataclass(frozen=True)
class Tried:
    """A candidate with its scores."""

    candidate: Candidate
    parent: str
    """Key of the candidate that it was made from; empty: the seed."""
    how: str
    """What was changed."""
    scores: list[float]
    """[validation rows]."""

    @property
    def mean(self) -> float:
        """By which candidates are chosen. Of the best of many it is too high: only the test says what it gains."""
        return fmean(self.scores)


def best_of(tried: Sequence[Tried]) -> Tried:
    """The highest mean over the validation rows; of equal ones the first."""
    return max(tried, key=lambda one: one.mean)


def lines_of(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """A line per candidate, for `candidates.jsonl`; `front`: whether it is on the Pareto front of validation rows."""
    kept = front({one.candidate.key: one.scores for one in tried})
    return [
        {
            "candidate": one.candidate.key,
            "parent": one.parent,
            "how": one.how,
            "mean": one.mean,
            "front": one.candidate.key in kept,
            "scores": one.scores,
            "prompt": one.candidate.prefix.plain,
        }
        for one in tried
    ]
