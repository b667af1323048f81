"""Exact match of what a completion says after its thinking with the row's `answer`, in any presentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..scoring.outcomes import ranged
from ..text.figures import written
from ..text.structured import normalise_space
from ..text.thinking import after_thinking


@ranged(0, 1)
def exact(completions: Sequence[str], answer: Sequence[Any], **_: Any) -> list[float | None]:
    """[K] 1.0 where the completion is the answer, else 0.0; None where the row has no answer.

    Runs of white space count as one space, and none at either end; curly quotes and long dashes as straight ones and
    hyphens. Nothing else is forgiven. Thinking that never ended has no answer.

    >>> exact(["  Net\\n income ", "net income"], answer=["Net income", "Net income"])
    [1.0, 0.0]
    """
    return [
        None if a is None else float(_same(after_thinking(c), after_thinking(written(a))))
        for c, a in zip(completions, answer, strict=True)
    ]


def _same(said: str | None, answer: str | None) -> bool:
    return said is not None and answer is not None and normalise_space(said) == normalise_space(answer)
