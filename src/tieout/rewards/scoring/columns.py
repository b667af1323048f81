"""Columns of a row that a reward is given in addition to the prompt: where its gold would have to come from."""

from __future__ import annotations

from collections.abc import Iterable

from ...types import Reward
from ..library.judge import Judge
from ..library.reward_model import ModelReward
from .combine import Combined
from .outcomes import parameters

TEXTS = ("completions", "prompts", "completion_ids", "completion_turns")


def columns_read(reward: Reward, columns: Iterable[str]) -> list[str] | None:
    """The columns that a reward names or shows, sorted; None: it names none and takes
    whatever the rows have, so it may read any.

    >>> def brief(completions, prompts): ...
    >>> def exact(completions, answer): ...
    >>> def either(completions, **columns): ...
    >>> [columns_read(reward, ["prompt", "answer"]) for reward in (brief, exact, either)]
    [[], ['answer'], None]
    """
    there = set(columns) - {"prompt"}
    if isinstance(reward, Combined):
        parts = [columns_read(part, there) for part in reward.parts.values()]
        return None if None in parts else sorted({name for part in parts for name in part or ()})
    if isinstance(reward, ModelReward):
        return []
    if isinstance(reward, Judge):
        return sorted(reward.shows)
    asked = parameters(reward)
    named = sorted(there & {one.name for one in asked} - set(TEXTS))
    rest = any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in asked)
    return named or (None if rest else [])
