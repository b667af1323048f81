"""A reward to start from: is the figure that the model wrote the right one? Change it to fit your task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

FIGURE = re.compile(r"\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?)\.?\s*")
"""A figure and nothing else: words next to it may say that it is wrong."""


def right(completions: Sequence[str], completion: Sequence[Any], **_: Any) -> list[float]:
    """[K] 1 for the figure of the row's completion, else 0."""
    wanted = map(_figure, completion)
    return [
        float(right is not None and _figure(said) == right)
        for said, right in zip(completions, wanted, strict=True)
    ]


right.__reward_range__ = (0.0, 1.0)  # type: ignore[attr-defined]


def _figure(text: Any) -> float | None:
    """The figure; None where there is not exactly one."""
    found = FIGURE.fullmatch(str(text))
    return float(found[1].replace(",", "")) if found else None
