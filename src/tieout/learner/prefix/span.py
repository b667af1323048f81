"""The place of one group in a packed row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """One group in a row: its prompt at [start, start + prompt), then its completions, one after another."""

    start: int
    prompt: int
    completions: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + self.prompt + sum(self.completions)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the group holds."""
        return self.prompt + max(self.completions, default=0)
