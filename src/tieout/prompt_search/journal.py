"""Journal of a search: every scored completion and every proposal, a line each. It is cache and resume in one file.

A search repeats itself from its seed: what the journal holds is taken from it, and only what is missing is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.atomic import sync
from ..storage.jsonl import append_jsonl, read_log

FILE = "journal.jsonl"
"""In the folder of a search."""


@dataclass(frozen=True)
class Scored:
    """What a candidate made of one row."""

    candidate: str
    row: str
    """Split and place, such as `train/3`."""
    completion: str
    score: float
    feedback: str
    """What a model that proposes prompts is told of it: no gold, and nothing that a reward says of gold."""


@dataclass
class Journal:
    """What is known already; new lines are on disk before they are used."""

    folder: Path
    _scored: dict[tuple[str, str], Scored] = field(default_factory=dict)
    _proposed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in read_log(self.path):
            try:
                if "proposal" in line:
                    self._proposed[line["proposal"]] = line["text"]
                else:
                    one = Scored(**line)
                    self._scored[one.candidate, one.row] = one
            except (KeyError, TypeError) as error:
                raise InputError(
                    f"{self.path}: a line is none of a search ({error}); name another folder"
                ) from error

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    def scored(self, candidate: str, row: str) -> Scored | None:
        """What a candidate made of a row, if that is known."""
        return self._scored.get((candidate, row))

    def score(self, candidate: str, row: str) -> float:
        """The score of a candidate on a row that it was tried on."""
        return self._scored[candidate, row].score

    def proposed(self, key: str) -> str | None:
        """What the reflection model said when it was asked this, if that is known."""
        return self._proposed.get(key)

    def add(self, found: Iterable[Scored]) -> None:
        """Keep scored completions."""
        found = list(found)
        self._write([asdict(one) for one in found])
        self._scored |= {(one.candidate, one.row): one for one in found}

    def add_proposal(self, key: str, text: str) -> None:
        """Keep what the reflection model said."""
        self._write([{"proposal": key, "text": text}])
        self._proposed[key] = text

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        append_jsonl(self.path, lines)
        sync(self.path)
