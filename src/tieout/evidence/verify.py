"""Recompute a report, and the page that shows it, from the files next to it, and list what disagrees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.jsonl import content_sha256, read_json, stored
from .evaluate import read_cases
from .page import figures_of, render
from .report import FILES, FORMAT, arguments_of, from_folder
from .reward_checks import changed

PARTS = ("format", "settings", "models", "comparisons", "verdict", "files")
"""What a report is held to."""


def report_at(path: Path) -> Path:
    """The report of a run folder or of an evidence folder, or the file itself. InputError: there is none."""
    for found in (path / "evidence" / "report.json", path / "report.json", path):
        if found.is_file():
            return found
    raise InputError(
        f"{path} is no report and has none: expected a run folder with evidence/report.json, a folder with "
        "report.json, or such a file"
    )


def verify(path: Path) -> list[str]:
    """Recompute a report from the files next to it: a line for each thing that differs; none: it ties out."""
    report = read_json(path)
    missing = [part for part in PARTS if not isinstance(report, dict) or part not in report]
    if missing:
        raise InputError(f"{path} is not a report: it has no {', '.join(missing)}")
    if report["format"] != FORMAT:
        return [
            f"format: the report is in format {report['format']!r}, this version writes {FORMAT}; "
            "`tieout gate` builds it again from its cases"
        ]
    problems = []
    for name in FILES:
        file, digest = stored(path.parent / name), report["files"].get(name)
        if digest is None:
            problems += [f"{name}: not there when the report was made"] if file.exists() else []
        elif not file.exists():
            problems.append(f"{name}: missing; the report was made from it")
        elif (found := content_sha256(file)) != digest:
            problems.append(f"{name}: changed since the report (SHA-256 {found}, was {digest})")
    problems += changed(report, path.parent.parent)
    if "cases.jsonl" not in report["files"]:
        problems.append("files: the report names no cases.jsonl")
    if not stored(path.parent / "cases.jsonl").exists():
        return problems
    try:
        again = from_folder(path.parent, arguments_of(report))
    except InputError as error:
        return [*problems, f"nothing can be computed again: {error}"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [*problems, f"settings: not those of a report ({type(error).__name__}: {error})"]
    for part in PARTS[:-1]:
        problems += _differences(part, report[part], again[part])
    return problems


def verify_page(path: Path) -> list[str]:
    """Compare verdict and tables of the `report.html` next to a report, if there is one, with the report."""
    page = path.parent / "report.html"
    if not page.exists():
        return []
    cases = read_cases(stored(path.parent / "cases.jsonl"))
    if figures_of(page.read_text("utf-8")) == figures_of(render(read_json(path), cases)):
        return []
    return [
        "report.html: shows another verdict or other figures than report.json; `tieout gate` writes it again"
    ]


def _differences(where: str, said: Any, found: Any) -> list[str]:
    """A line per number or word that differs between the report and what was computed again."""
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        keys = dict.fromkeys([*said, *found])
        return [
            line for key in keys for line in _differences(f"{where}.{key}", said.get(key), found.get(key))
        ]
    if isinstance(said, list) and isinstance(found, list | tuple) and len(said) == len(found):
        rows = enumerate(zip(said, found, strict=True))
        return [line for i, (a, b) in rows for line in _differences(f"{where}[{i}]", a, b)]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (said, found))
    if said == found or (numbers and abs(said - found) <= 1e-9 * max(1.0, abs(found))):
        return []
    return [f"{where}: the report says {said!r}, the cases give {found!r}"]
