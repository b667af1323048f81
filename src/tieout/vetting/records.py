"""What a calibration leaves in a folder, from which its figures can be computed again.

| file | holds |
|---|---|
| calibration.json | figures, verdict, reasons |
| calibration.png | reliability and scores |
| rows.jsonl | what was scored; `tieout calibrate scores` reads it where people labelled it |
| labels.jsonl | the same of rows that people labelled, where another truth is in rows.jsonl |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config.fields import from_plain
from ..errors import InputError
from ..evidence import stats
from ..evidence.reward_checks import differences
from ..storage.atomic import write_json
from ..storage.jsonl import read_json, read_jsonl, write_jsonl
from . import calibrate, truth
from .calibrate import Calibration, CalibrationPolicy
from .truth import SAMPLED, TruthCalibration

REPORT, ROWS, LABELS = "calibration.json", "rows.jsonl", "labels.jsonl"


def plain(found: Calibration | TruthCalibration) -> dict[str, Any]:
    """Everything but the rows, as JSON has it."""
    return {key: value for key, value in asdict(found).items() if key != "rows"}


def keep(
    folder: Path, found: Calibration | TruthCalibration, labelled: Calibration | None = None
) -> dict[str, Any]:
    """Write the files of a calibration; returns calibration.json.

    Args:
        folder: is made if it is not there.
        found: the calibration.
        labelled: the same reward against human labels, with the drift of the samples; the worse verdict counts.
    """
    from .calibration_plot import plot, plot_truth

    report = plain(found) if labelled is None else _both(plain(found), plain(labelled))
    write_json(folder / REPORT, report)
    write_jsonl(folder / ROWS, found.rows)
    if labelled is not None:
        write_jsonl(folder / LABELS, labelled.rows)
    if isinstance(found, Calibration):
        plot(found, folder / "calibration.png")
    else:
        plot_truth(found, folder / "calibration.png")
    return report


def _both(report: Mapping[str, Any], labelled: Mapping[str, Any]) -> dict[str, Any]:
    order = ("pass", "hold", "fail")
    worse = max((report["verdict"], labelled["verdict"]), key=order.index)
    reasons = [*report["reasons"], *labelled["reasons"]]
    return {**report, "verdict": worse, "reasons": reasons, "labels": labelled}


def recompute(path: Path) -> list[str]:
    """A line per figure of a calibration.json that its rows do not give; none where its rows are not there."""
    report, rows = read_json(path), path.with_name(ROWS)
    if not rows.exists() or "policy" not in report:
        return []
    found = _differ(report, path)
    if found:
        with stats.former():  # it may be of the time of format 5
            found = min(found, _differ(report, path), key=len)
    return found


def _differ(report: dict[str, Any], path: Path) -> list[str]:
    try:
        again = _again(report, _rows(path.with_name(ROWS)), path.with_name(LABELS))
    except (InputError, AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"{path}: nothing can be computed again ({type(error).__name__}: {error})"]
    # The samples that drifted from labels are elsewhere, unless they were calibrated on too.
    left_out = ("drift", "verdict", "reasons") if report.get("drift") else ()
    known = {key: value for key, value in report.items() if key in again and key not in left_out}
    again = {key: value for key, value in again.items() if key not in left_out}
    return differences(str(path), known, json.loads(json.dumps(again)))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def _again(report: Mapping[str, Any], rows: Sequence[dict[str, Any]], labels: Path) -> dict[str, Any]:
    policy = from_plain(CalibrationPolicy, report["policy"], "policy")
    if "primary" not in report:
        return plain(calibrate.summarise(report["reward"], rows, policy, (), report["judge_model"]))
    found = plain(truth.summarise(report["reward"], report["primary"], rows, policy))
    if "labels" not in report:
        return found
    fresh = [row["score"] for row in rows if row["kind"] == SAMPLED and row["score"] is not None]
    said = report["labels"]
    people = calibrate.summarise(said["reward"], _rows(labels), policy, fresh, said["judge_model"])
    return _both(found, plain(people))
