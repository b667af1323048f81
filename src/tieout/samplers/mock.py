"""Canned completions, for tests and documentation: no model, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..rows.messages import text_of
from ..types import Prompt
from . import SamplingParams


class MockSampler:
    """Answers from a list (in order), a mapping (by the prompt's text) or a function of the prompt.

    >>> MockSampler(["4", "5"]).complete(["2 + 2 =", "2 + 3 ="], SamplingParams())
    ['4', '5']
    """

    def __init__(self, completions: Sequence[str] | Mapping[str, str] | Callable[[Prompt], str]) -> None:
        if isinstance(completions, str):
            raise TypeError(
                f"completions is the string {completions!r}; expected a list, mapping or function"
            )
        self.completions = completions
        self.calls: list[tuple[list[Prompt], SamplingParams]] = []
        """Every call so far: its prompts and parameters."""
        self._next = 0

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One canned completion per prompt; LookupError where there is none."""
        self.calls.append((list(prompts), params))
        return [self._complete(prompt) for prompt in prompts]

    def _complete(self, prompt: Prompt) -> str:
        if callable(self.completions):
            return self.completions(prompt)
        text = last_turn(prompt)
        if isinstance(self.completions, Mapping):
            if text not in self.completions:
                raise LookupError(f"MockSampler has no completion for the prompt {text[:80]!r}")
            return self.completions[text]
        if self._next >= len(self.completions):
            raise LookupError(
                f"MockSampler ran out: it has {len(self.completions)} completions, and prompt number "
                f"{self._next + 1} is {text[:80]!r}"
            )
        self._next += 1
        return self.completions[self._next - 1]


def last_turn(prompt: Prompt) -> str:
    """The prompt's text; of messages, the last one's content."""
    return text_of(prompt)
