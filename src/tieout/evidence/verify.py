"""Recompute a report from the files next to it, and list what disagrees."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.jsonl import content_sha256, read_json, stored
from . import stats
from .report import FILES, FORMAT, FORMER, arguments_of, from_folder, how_to_evaluate
from .reward_checks import changed, differences

PARTS = ("format", "settings", "models", "comparisons", "verdict", "files")
"""What a report is held to."""


def report_at(path: Path) -> Path:
    """The report of a run folder or of an evidence folder, or the file itself. InputError: there is none."""
    for found in (path / "evidence" / "report.json", path / "report.json", path):
        if found.is_file():
            return found
    if (path / "run.json").exists():
        raise InputError(f"{path} has no report to verify: {how_to_evaluate(path)}")
    raise InputError(
        f"{path} is no report and has none: expected a run folder with evidence/report.json, a folder with "
        "report.json, or such a file"
    )


def run_of(report: Path) -> Path:
    """The run folder of a report: around its folder `evidence`, or else the folder that it lies in."""
    return report.parent.parent if report.parent.name == "evidence" else report.parent


def verify(path: Path) -> list[str]:
    """Recompute a report from the files next to it: a line for each thing that differs; none: it ties out."""
    report = read_report(path)
    if _other_format(report):
        return figures_differ(report, path)
    return [*files_differ(report, path), *figures_differ(report, path)]


def read_report(path: Path) -> dict[str, Any]:
    """The report in a file. InputError: it is none."""
    report = read_json(path)
    missing = [part for part in PARTS if not isinstance(report, dict) or part not in report]
    if missing:
        raise InputError(f"{path} is not a report: it has no {', '.join(missing)}")
    return dict(report)


def read_current(path: Path) -> dict[str, Any]:
    """The report in a file. InputError: it is none, or one that another version wrote."""
    report = read_report(path)
    if problem := _other_format(report):
        raise InputError(f"{path}: {problem}")
    return report


def read_run(folder: Path, report: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """run.json of a folder, empty where there is none, and its report, once there is one. InputError: it has neither,
    or the report is of another version."""
    run = folder / "run.json"
    if not run.exists() and not report.exists():
        raise InputError(f"{folder} is no run folder: it has neither run.json nor evidence/report.json")
    return read_json(run) if run.exists() else {}, read_current(report) if report.exists() else None


def _other_format(report: Mapping[str, Any]) -> str:
    """What is wrong with the format of a report; empty if it can be read."""
    if report["format"] in (FORMAT, FORMER):
        return ""
    return (
        f"format: the report is in format {report['format']!r}, this version writes {FORMAT}; `tieout gate` builds it "
        "again from its cases"
    )


def files_differ(report: Mapping[str, Any], path: Path) -> list[str]:
    """A line for each file that is not the one that the report was made from."""
    problems = []
    for name in FILES:
        file, digest = stored(path.parent / name), report["files"].get(name)
        if digest is None:
            problems += [f"{name}: not there when the report was made"] if file.exists() else []
        elif not file.exists():
            problems.append(f"{name}: missing; the report was made from it")
        elif (found := _digest(file)) != digest:
            problems.append(f"{name}: changed since the report (SHA-256 {found}, was {digest})")
    problems += changed(report, run_of(path))
    if "cases.jsonl" not in report["files"]:
        problems.append("files: the report names no cases.jsonl")
    return problems


def _digest(file: Path) -> str:
    try:
        return content_sha256(file)
    except InputError as error:  # it is compressed, and not whole
        return f"none: {error}"


def figures_differ(report: Mapping[str, Any], path: Path) -> list[str]:
    """A line for each figure, and all else that a report says, that its cases do not give."""
    if problem := _other_format(report):
        return [problem]
    if not stored(path.parent / "cases.jsonl").exists():
        return ["cases.jsonl: not there, so that nothing can be computed again"]
    try:
        with stats.former(report["format"] == FORMER):
            again = from_folder(path.parent, arguments_of(report))
    except InputError as error:
        return [f"nothing can be computed again: {error}"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"settings: not those of a report ({type(error).__name__}: {error})"]
    problems = []
    for part in PARTS[1:-1]:
        problems += differences(part, report[part], again[part])
    problems += differences("rule", report.get("rule", {}), again["rule"])
    for part in ("usage", "consistency", "pass_at_k", "choice"):
        problems += differences(part, report.get(part, {}), again.get(part, {}))
    return problems


def sample_size(asked: str, count: int) -> int:
    """Cases to sample of `count`: a number of them, or a share such as `5%`, rounded up.

    >>> sample_size("5%", 90), sample_size("20", 90), sample_size("20", 7)
    (5, 20, 7)
    """
    share = asked.strip().endswith("%")
    try:
        number = float(asked.strip().removesuffix("%")) if share else int(asked)
    except ValueError:
        number = 0
    if not 0 < number <= (100 if share else number):
        raise InputError(
            f"--fresh is {asked!r}; expected a share of the cases, such as 5%, or a number of them, such as 20"
        )
    return min(count, ceil(count * number / 100 - 1e-9) if share else int(number))
