"""The job of a decoding backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ... import SamplingParams
from .drafts import Drafts
from .kept import Kept
from .sampling import Request

Ended = Callable[[int], None]
"""Called with the number of completions that have just ended."""


@dataclass(frozen=True)
class DecodeJob:
    """Completions to be sampled."""

    prompts: Sequence[list[int]]
    requests: Sequence[list[Request]]
    """[prompt][completion], as many for each prompt."""
    params: SamplingParams
    stop_tokens: Sequence[int]
    max_rows: int
    """Completions decoded at the same time."""
    cache_bytes: float = float("inf")
    ended: Ended = lambda count: None
    """Called as completions end."""
    drafts: Drafts | None = None
    """Of the backends that can; None: without."""
    kept: Kept | None = None
    """Keys and values of the turn before, for the backends that can; None: every prompt is computed."""
