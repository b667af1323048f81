"""A sampler whose prompts get something before them: a system prompt, examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..types import Prompt
from . import Sampler, SamplingParams

if TYPE_CHECKING:
    from ..chat.template import Chat


class Prompted:
    """A Sampler that asks another one after `before` has changed each prompt. Cases keep the prompt of their row."""

    chat: Chat
    context: int
    """Where the sampler has them: one of text alone, such as an API's, has neither."""

    def __init__(self, sampler: Sampler, before: Callable[[Prompt], Prompt]) -> None:
        self.sampler, self.before = sampler, before
        knows: Any = sampler
        if hasattr(sampler, "chat") and hasattr(sampler, "context"):
            self.chat, self.context = knows.chat, knows.context

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt."""
        return self.sampler.complete([self.before(prompt) for prompt in prompts], params)
