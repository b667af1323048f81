"""A sampler whose prompts get something before them: a system prompt, examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..types import Prompt
from . import SamplingParams

if TYPE_CHECKING:
    from ..chat.template import Chat


class ChatSampler(Protocol):
    """A text sampler that knows its template."""

    @property
    def context(self) -> int: ...
    @property
    def chat(self) -> Chat: ...
    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]: ...


class Prompted:
    """A Sampler that asks another one after `before` has changed each prompt. Cases keep the prompt of their row."""

    def __init__(self, sampler: ChatSampler, before: Callable[[Prompt], Prompt]) -> None:
        self.sampler, self.before = sampler, before
        self.chat, self.context = sampler.chat, sampler.context

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt."""
        return self.sampler.complete([self.before(prompt) for prompt in prompts], params)
