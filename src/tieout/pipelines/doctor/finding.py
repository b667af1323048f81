"""What one check of a recipe came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One check."""

    check: str
    verdict: Verdict
    said: str
    """What was looked at, and what it is."""
    remedy: str = ""
    """What to do; empty where nothing is wrong."""


def found(check: str, said: str, wrong: bool, remedy: str, verdict: Verdict = "fail") -> Finding:
    """A finding with its remedy if something is wrong, else a pass."""
    return Finding(check, verdict, said, remedy) if wrong else Finding(check, "pass", said)
