"""How far every stage of a run is, by the files in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage.jsonl import read_json, read_log
from .stored import name_of


def states(folder: Path, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(stage, state) in the order of the recipe; of a run without one, what its folders say."""
    recipe = record.get("identity", {}).get("stages", [])
    if recipe:
        return [(name_of(stage), _state(folder, stage, name_of(stage))) for stage in recipe]
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    return [(path.name, state) for path in folders if (state := _trained(path))]


def _state(folder: Path, stage: Mapping[str, Any], name: str) -> str:
    if "check" in stage:
        done = [path.parent.name for path in sorted((folder / name).glob("*/done.json"))]
        return f"done: {', '.join(done)}" if done else "to do"
    if "refresh" in stage:
        labelled = "waits for labels" if (folder / name / "labels").exists() else "to do"
        return _trained(folder / name / "reward_model") or labelled
    if "evaluate" in stage:
        models = stage["evaluate"]["models"]
        return (
            f"{sum((folder / name / f'{model}.json').exists() for model in models)} of {len(models)} models"
        )
    if "gate" in stage:
        report = folder / "evidence" / "report.json"
        return f"verdict: {read_json(report)['verdict']['verdict']}" if report.exists() else "to do"
    if "ship" in stage:
        there = [state for state in ("shipped", "candidate") if (folder / state).exists()]
        return there[0] if there else "to do"
    return _trained(folder / name) or "to do"


def _trained(path: Path) -> str:
    """State of a stage that makes a policy or pairs; empty if it has not begun."""
    if (path / "done.json").exists():
        return "done"
    steps = read_log(path / "metrics.jsonl")
    return f"{len(steps)} steps so far" if steps else ""
