"""Keys and values of conversations, kept from one turn to the next: their earlier turns are computed once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class Kept:
    """What the last call computed, for prompts of the next one that continue it. Weights must not change meanwhile.

    most_bytes: of the last call's and of this one's together.
    """

    def __init__(self, most_bytes: float) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.last: dict[tuple[int, ...], Tensor] = {}
        self.next: dict[tuple[int, ...], Tensor] = {}
        self.lengths: list[int] = []
        self.reused = 0
        """Tokens that were not computed again."""

    def begin(self) -> None:
        """A new call: what the one before it kept can be continued."""
        self.last, self.next, self.bytes = self.next, {}, 0
        self.lengths = sorted({len(tokens) for tokens in self.last}, reverse=True)

    def find(self, prompt: Sequence[int]) -> Tensor | None:
        """Keys and values [L, 2, Hk, P, D] of the longest known beginning of a prompt, never all of it."""
        for length in self.lengths:
            if length < len(prompt) and (state := self.last.get(tuple(prompt[:length]))) is not None:
                self.reused += length
                return state
        return None

    def keep(self, tokens: Sequence[int], state: Tensor) -> None:
        """Keep the keys and values of these tokens, if there is room."""
        if self.bytes + state.nbytes <= self.most_bytes / 2:
            self.next[tuple(tokens)] = state
            self.bytes += state.nbytes
