"""The run that was approved before this one: what changed since, kept in the evidence without saying where it lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.plain import fingerprint
from ..errors import InputError
from ..storage.atomic import write_json
from ..storage.jsonl import content_sha256, read_json
from .diff import diff
from .reward_checks import differences
from .verify import files_differ, read_current

FILE = "approved.json"
"""In the evidence folder of the run that was compared."""


def check_approved(approved: Path, run: Path) -> None:
    """InputError: a folder is no run with a report, its evidence was changed, or it is the run itself."""
    report = approved / "evidence" / "report.json"
    if not report.is_file():
        raise InputError(
            f"approved is {str(approved)!r}: expected the folder of a run that was judged, with evidence/report.json"
        )
    if approved.resolve() == run.resolve():
        raise InputError(
            f"approved is {str(approved)!r}, which is this run; name the one that was approved before"
        )
    if problems := files_differ(read_current(report), report):
        raise InputError(f"approved is {str(approved)!r}, which is not as its report was made: {problems[0]}")


def keep_approved(run: Path, approved: Path) -> None:
    """Compare a judged run with the approved one, and keep what changed in its evidence. InputError: one is no run."""
    write_json(run / "evidence" / FILE, _compare(run, approved))


def approved_differs(run: Path, approved: Path) -> list[str]:
    """Compare the two again: a line for each thing that was kept of it and is not so. InputError: one is no run."""
    kept: dict[str, Any] = read_json(run / "evidence" / FILE)
    if kept["report"] != (found := content_sha256(approved / "evidence" / "report.json")):
        return [f"{FILE}: compared with the report {kept['report']}, and that of {approved} is {found}"]
    return differences(FILE, kept, _compare(run, approved))


def _compare(run: Path, approved: Path) -> dict[str, Any]:
    check_approved(approved, run)
    found, place = diff(approved, run), approved / "evidence" / "report.json"
    report, own = read_current(place), read_current(run / "evidence" / "report.json")
    names = {str(approved): "the approved run", str(run): "this run"}
    return {
        "report": content_sha256(place),
        "candidate": report["settings"]["candidate"],
        "verdict": report["verdict"]["verdict"],
        "compared": _known(own),
        "due": bool(found.reasons),
        "said": found.verdict.replace("the second run", "this run"),
        "reasons": found.reasons,
        "parts": dict(Counter(change.part for change in found.changes)),
        "changes": [change.what for change in found.changes],
        "notes": [_without(note, names) for note in found.notes],
    }


def approved_in(evidence: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """What was kept, and as `current` whether this report is the one that was compared; empty: nothing was declared."""
    if not (evidence / FILE).exists():
        return {}
    found: dict[str, Any] = read_json(evidence / FILE)
    return {**found, "current": found["compared"] == _known(report)}


def _known(report: Mapping[str, Any]) -> str:
    """Of a report, what its figures and its verdict come from."""
    return fingerprint({key: report[key] for key in ("settings", "files", "verdict")})


def _without(said: str, names: Mapping[str, str]) -> str:
    for place, name in sorted(names.items(), key=lambda one: -len(one[0])):
        said = said.replace(place, name)
    return said
