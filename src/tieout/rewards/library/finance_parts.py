"""The parts of a score of `finance_statements`, each as a function with a reward's signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...types import Reward

ScoreParts = Callable[[str, str, Mapping[str, Any], Sequence[Mapping[str, Any]]], Mapping[str, float]]
"""(completion, statement, total, components) -> the points of each part."""


def parts_of(score_parts: ScoreParts, *names: str) -> Mapping[str, Reward]:
    """Part -> the points that it gave."""
    return {name: partial(_part, score_parts=score_parts, name=name) for name in names}


def _part(
    completions: Sequence[str],
    statement: Sequence[str],
    total: Sequence[Mapping[str, Any]],
    components: Sequence[Sequence[Mapping[str, Any]]],
    *,
    score_parts: ScoreParts,
    name: str,
    **_: Any,
) -> list[float | None]:
    cases = zip(completions, statement, total, components, strict=True)
    return [score_parts(*case)[name] for case in cases]
