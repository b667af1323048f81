"""What the mixture is made of: conversations, some of whose turns are trained."""

from __future__ import annotations

from dataclasses import dataclass

Content = str | list[int]
"""Text, or token ids drawn at random (which no text would encode to)."""


@dataclass(frozen=True, slots=True)
class Document:
    """A conversation; the assistant's turns are trained, each to its end token."""

    skill: str
    """What it teaches; losses are logged by it."""
    turns: tuple[tuple[str, Content], ...]
    """(role, content)."""

    def text(self) -> str:
        """All textual content, for checks and for the tokenizer."""
        return "\n".join(content for _, content in self.turns if isinstance(content, str))
