"""Adapt rewards written for another calling convention."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from ...types import Reward


def from_trl(function: Reward) -> Reward:
    """Adapt a reward written for conversations: each completion a list of messages, each prompt too."""

    def given(completions: Sequence[str], columns: dict[str, Any]) -> dict[str, Any]:
        if "prompts" in columns:
            columns["prompts"] = [
                [{"role": "user", "content": p}] if isinstance(p, str) else p for p in columns["prompts"]
            ]
        return {**columns, "completions": [[{"role": "assistant", "content": text}] for text in completions]}

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def adapted_async(completions: Sequence[str], **columns: Any) -> Any:
            return await function(**given(completions, columns))

        return adapted_async

    @functools.wraps(function)  # keeps the signature, by which check_reward judges
    def adapted(completions: Sequence[str], **columns: Any) -> Any:
        return function(**given(completions, columns))

    adapted.__from_trl__ = True  # type: ignore[attr-defined]  # by which workers know to adapt it there too
    return adapted
