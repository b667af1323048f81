"""A corpus of exploits found before, which later runs try again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from ...config.plain import fingerprint
from ...errors import InputError
from ...storage.jsonl import read_jsonl, write_jsonl
from ...types import Row
from .findings import Finding
from .probe import CLASSES, Basis, Probe

FIELDS = ("class", "name", "completion", "basis", "row")


def read_corpus(path: Path | None) -> list[dict[str, Any]]:
    """The entries of a corpus; none if the file does not exist yet. ValueError: file and line of a bad one."""
    if path is None or not path.exists():
        return []
    entries = []
    for number, entry in read_jsonl(path):
        good = entry.get("class") in CLASSES and entry.get("basis") in get_args(Basis)
        if not good or not all(isinstance(entry.get(name), str) for name in FIELDS):
            raise InputError(
                f"{path}:{number}: expected an exploit with {', '.join(FIELDS)}; it has {', '.join(entry)}"
            )
        entries.append(entry)
    return entries


def replayed(entries: Sequence[Mapping[str, Any]], row: Row) -> list[Probe]:
    """Probes for this row: what was found on it, and all that knows no answer, found anywhere."""
    own = _known_by(row)
    return [
        Probe(
            entry["class"],
            f"kept: {entry['name']}",
            entry["completion"],
            entry["basis"],
            entry.get("against", ""),
        )
        for entry in entries
        if entry["row"] == own or entry["basis"] in ("empty", "free", "form")
    ]


def keep(path: Path | None, findings: Sequence[Finding], rows: Sequence[Row]) -> None:
    """Add what was found, each once. Failures of the reward are kept too."""
    if path is None or not findings:
        return
    entries = read_corpus(path)
    known = {(entry["class"], entry["completion"], entry["row"]) for entry in entries}
    for finding in findings:
        row = _known_by(rows[finding.row])
        if (finding.kind, finding.completion, row) in known:
            continue
        known.add((finding.kind, finding.completion, row))
        entries.append(
            {
                "class": finding.kind,
                "name": finding.name.removeprefix("kept: "),
                "completion": finding.completion,
                "basis": finding.basis,
                "against": finding.against,
                "row": row,
            }
        )
    write_jsonl(path, entries)


def _known_by(row: Row) -> str:
    """Prompt and gold: what was wrong for them is wrong still."""
    return fingerprint([row.get("prompt", ""), row.get("completion", row.get("answer"))])
