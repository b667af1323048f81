"""One call of a reward: K completions of one row, in text and in tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...errors import InputError
from ...types import Completion, Group, Message, Prompt, Row
from ..text.thinking import as_read

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

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.completions):
            raise InputError(
                f"{len(self.completions)} completions, but {len(self.prompts)} prompts: expected one prompt each"
            )

    @classmethod
    def of_texts(
        cls,
        texts: Sequence[str],
        prompts: Sequence[Prompt],
        row: Row,
        encode: Encode | None = None,
        opened: Sequence[str] = (),
    ) -> Call:
        """A call on texts without tokens, after what their prompts opened."""
        said = zip(texts, opened or [""] * len(texts), strict=True)
        return cls([Completion([], [], text=text, opened=tag) for text, tag in said], prompts, row, encode)

    @classmethod
    def of_group(cls, group: Group) -> Call:
        """A call on what was sampled before."""
        return cls(group.completions, [group.row.get("prompt", "")] * len(group.completions), group.row)

    @property
    def texts(self) -> list[str]:
        """[K] what rewards get as `completions`."""
        return [as_read(completion) for completion in self.completions]

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

    @property
    def completion_turns(self) -> list[list[Message]]:
        """[K] the messages of each episode after its prompt; of a single answer, the one that holds it."""
        return [
            list(completion.turns) or [{"role": "assistant", "content": text}]
            for completion, text in zip(self.completions, self.texts, strict=True)
        ]

    def alone(self, index: int) -> Call:
        """The same row with one of its completions."""
        return replace(self, completions=[self.completions[index]], prompts=[self.prompts[index]])

    def instead(self, text: str) -> Call:
        """The same row with another text for a completion."""
        return Call.of_texts([text], [self.prompts[0]], self.row, self.encode)
