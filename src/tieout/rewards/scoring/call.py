"""One call of a reward: K completions of one row, in text and in tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...errors import InputError
from ...types import Completion, Prompt, Row
from ..text.thinking import begun

Encode = Callable[[str], list[int]]
"""A text's tokens, without special ones."""


@dataclass(frozen=True)
class Call:
    """K completions of one row."""

    completions: Sequence[Completion]
    """Those of `of_texts` have no tokens of their own."""
    prompts: Sequence[Prompt]
    """[K]"""
    row: Row
    encode: Encode | None = None
    """Makes the tokens of texts that were not sampled, if a reward asks for them."""
    opened: str = ""
    """The tag of thinking that the rendered prompt opened: texts that never close it begin with it."""

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.completions):
            raise InputError(
                f"{len(self.completions)} completions, but {len(self.prompts)} prompts: expected one prompt each"
            )

    @classmethod
    def of_texts(
        cls, texts: Sequence[str], prompts: Sequence[Prompt], row: Row, encode: Encode | None = None
    ) -> Call:
        """A call on texts that no sampler gave."""
        return cls([Completion([], [], text=text) for text in texts], prompts, row, encode)

    @property
    def texts(self) -> list[str]:
        """[K] what rewards get as `completions`."""
        return [begun(self.opened, completion.text) for completion in self.completions]

    @property
    def completion_ids(self) -> list[list[int]] | None:
        """[K] the policy's tokens as sampled, or those of `encode`; None: one of the texts has no tokens."""
        ids = []
        for completion in self.completions:
            if completion.tokens or not completion.text:
                ids.append([t for t, own in zip(completion.tokens, completion.mask, strict=True) if own])
            elif self.encode is not None:
                ids.append(self.encode(completion.text))
            else:
                return None
        return ids

    def alone(self, index: int) -> Call:
        """The same row with one of its completions."""
        return replace(self, completions=[self.completions[index]], prompts=[self.prompts[index]])

    def instead(self, text: str) -> Call:
        """The same row with another text for a completion."""
        return Call.of_texts([text], [self.prompts[0]], self.row, self.encode)
