"""Exact match with the row's `answer`, after white space is normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..scoring.outcomes import ranged


@ranged(0, 1)
def exact(completions: Sequence[str], answer: Sequence[Any], **_: Any) -> list[float | None]:
    """[K] 1.0 where the completion is the answer, else 0.0; None where the row has no answer.

    Runs of white space count as one space, and none at either end. Nothing else is forgiven.

    >>> exact(["  Net\\n income ", "net income"], answer=["Net income", "Net income"])
    [1.0, 0.0]
    """
    return [
        None if a is None else float(_normalised(c) == _normalised(str(a)))
        for c, a in zip(completions, answer, strict=True)
    ]


def _normalised(text: str) -> str:
    return " ".join(text.split())
