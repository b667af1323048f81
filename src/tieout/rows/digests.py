"""Digests of single rows, kept by a run, so that two runs can say which rows were added, removed or changed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage.jsonl import as_json, read_jsonl, write_jsonl
from ..types import Row

FILE = "row_digests.jsonl.gz"
"""In a run folder: a line per set of rows, `name` and `rows`, each the digest of its question and of all of it."""


@dataclass(frozen=True)
class RowChanges:
    """How one set of rows differs from another one."""

    added: int
    removed: int
    changed: int
    """Rows of the same question (`id`, else prompt) that say something else."""
    same: int

    @property
    def in_words(self) -> str:
        """Counts; where there are none, only the order differs."""
        if not (self.added or self.removed or self.changed):
            return f"the same {self.same} rows in another order"
        return (
            f"{self.added} rows added, {self.removed} removed, {self.changed} changed, {self.same} the same"
        )


def digests_of(rows: Iterable[Row]) -> list[str]:
    """`question:row` of every row, 64 bits each."""
    return [f"{_digest(_question(row))}:{_digest(row)}" for row in rows]


def keep(path: Path, sets: Mapping[str, Sequence[Row]]) -> None:
    """Write the digests of each set of rows that has any."""
    write_jsonl(path, [{"name": name, "rows": digests_of(rows)} for name, rows in sets.items() if rows])


def read(path: Path) -> dict[str, list[str]]:
    """Name of a set -> digests of its rows; none where none were kept."""
    return {line["name"]: line["rows"] for _, line in read_jsonl(path)} if path.exists() else {}


def compare(was: Sequence[str], now: Sequence[str]) -> RowChanges:
    """Rows of `now` compared with those of `was`, by digest; two rows of one question count twice."""
    old, new = Counter(was), Counter(now)
    same = (old & new).total()
    gone, come = old - new, new - old
    questions = [Counter[str](), Counter[str]()]
    for rows, counts in zip((gone, come), questions, strict=True):
        for row, count in rows.items():
            counts[row.partition(":")[0]] += count
    changed = (questions[0] & questions[1]).total()
    return RowChanges(come.total() - changed, gone.total() - changed, changed, same)


def _question(row: Row) -> Any:
    """What makes a row the same one although it says something else."""
    if row.get("id") is not None:
        return {"id": row["id"]}
    if row.get("prompt"):
        return row["prompt"]
    messages = row.get("messages")
    return messages[:-1] if isinstance(messages, list) and len(messages) > 1 else row


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=as_json)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
