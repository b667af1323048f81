"""Candidates of a search: named texts that make the system prompt, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..rows.messages import said_by
from ..samplers.prompted import PromptPrefix, Shot, joined, read_prompt
from ..types import Row

WHOLE = "system"
"""Name of the one part of a system prompt that was not given in parts."""


@dataclass(frozen=True)
class Candidate:
    """A prompt to try."""

    parts: Mapping[str, str]
    """Name -> text; together, with a blank line between them, the system prompt."""
    shots: tuple[Shot, ...] = ()
    shown: tuple[str, ...] = ()
    """Names of the training rows that the shots come from: the candidate is not tried on them."""
    replaces: str = ""
    """See `PromptPrefix`."""
    searched: tuple[str, ...] = ()
    """Rows that chose the prompt that the search began with."""

    @cached_property
    def prefix(self) -> PromptPrefix:
        """What is put before prompts."""
        parts = self.parts if list(self.parts) != [WHOLE] else {}
        return PromptPrefix(joined(self.parts), self.shots, self.replaces, parts, self.searched)

    @cached_property
    def key(self) -> str:
        """Digest of what is put before prompts, 64 bits."""
        return self.prefix.digest[:16]


def seed_candidate(given: str, rows: Sequence[Row]) -> Candidate:
    """The prompt to begin with.

    Args:
        given: a text, a file of it, or a prompt file (`.json`), whose parts are searched apart; empty: the system
            message that all rows share, which is replaced then, or none.
        rows: all that will be asked.

    Raises:
        InputError: a file that is not there or empty.
    """
    if given.endswith(".json"):
        found = read_prompt(given)
        return Candidate(
            dict(found.parts) or {WHOLE: found.system},
            tuple(found.shots),
            replaces=found.replaces,
            searched=tuple(found.searched),
        )
    if given.endswith((".txt", ".md")) or (len(given) < 256 and "\n" not in given and Path(given).is_file()):
        try:
            text = Path(given).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"system {given}: cannot be read: {error}") from error
        if not text:
            raise InputError(f"system {given}: the file is empty")
        return Candidate({WHOLE: text})
    if given:
        return Candidate({WHOLE: given.strip()})
    shared = {_system(row) for row in rows}
    text = shared.pop() if len(shared) == 1 else ""
    return Candidate({WHOLE: text}, replaces=text)


def _system(row: Row) -> str:
    prompt = row["prompt"]
    first = prompt[0] if not isinstance(prompt, str) and prompt else {}
    return said_by(first) if first.get("role") == "system" else ""


def front(scores: Mapping[str, Sequence[float]]) -> set[str]:
    """The Pareto front: keys whose scores no other key's equal or exceed on every row and exceed on one.

    >>> sorted(front({"a": [1, 0], "b": [0, 1], "c": [0, 0.5]}))
    ['a', 'b']
    """

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return {key for key, own in scores.items() if not any(beats(others, own) for others in scores.values())}
