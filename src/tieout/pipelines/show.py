"""Views of a run: its stages, the report page, the table of models, the verdict, the next command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..evidence.evaluate import CONTROLS, HUMAN, PROGRAMMATIC, read_cases
from ..evidence.page import write_page
from ..shipping.candidate import ShippingError, ship
from ..storage.jsonl import read_json

COLUMNS = (("test", PROGRAMMATIC), ("ood", PROGRAMMATIC), ("human", HUMAN), ("negative controls", CONTROLS))
"""Heading and track; of the programmatic track, the slice of that name."""


def refresh(folder: Path) -> None:
    """(Re)write evidence/report.html from what the run folder holds."""
    evidence = folder / "evidence"
    report = read_json(evidence / "report.json")
    curves = {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*/metrics.jsonl"), key=lambda p: p.stat().st_mtime)
    }
    write_page(
        evidence / "report.html",
        report,
        read_cases(evidence / "cases.jsonl"),
        curves,
        title=f"{' → '.join(trained(report['metadata']['recipe']))}: {folder.name}",
        next_command=next_command(folder, report),
        notes=alarms_of(folder),
    )


def trained(recipe: Mapping[str, Any]) -> list[str]:
    """Names of the train stages of a recipe, as run.json and reports have it."""
    return [stage["name"] for stage in recipe["stages"] if "train" in stage]


def alarms_of(folder: Path, most: int = 10) -> list[str]:
    """What went off while training, a sentence each."""
    found = [
        f"Alarm in {path.parent.name} at step {alarm['step']}: {alarm['reason']}"
        for path in sorted(folder.glob("*/alarms.jsonl"))
        for alarm in map(json.loads, path.read_text("utf-8").splitlines())
    ]
    more = [f"{len(found) - most} further alarms are in alarms.jsonl of the stages"] if found[most:] else []
    return found[:most] + more


def next_command(folder: Path, report: Mapping[str, Any]) -> str:
    """What to type now."""
    if (folder / "shipped").exists():
        return f"tieout show {folder}"
    checks = {
        check["track"]: check["status"] for check in report["verdict"]["checks"] if check["status"] != "info"
    }
    if report["verdict"]["verdict"] == "ship":
        return f"tieout ship {folder}"
    if (
        checks.get("human") == "hold"
        and checks.get(PROGRAMMATIC) == "pass"
        and checks.get(CONTROLS) == "pass"
    ):
        return f"tieout gate {folder} --human {folder}/evidence/human/sheet.jsonl"
    return f'tieout ship {folder} --override "reason"'


def show(folder: Path, console: Console) -> None:
    """Print the table of models and tracks, the comparisons, the verdict, and where the report is."""
    report = read_json(folder / "evidence" / "report.json")
    console.print()
    console.print(
        _table(
            "mean score, 95% interval", ["model"], [([name], own) for name, own in report["models"].items()]
        )
    )
    pairs = [([pair["candidate"], pair["baseline"]], pair["tracks"]) for pair in report["comparisons"]]
    console.print(_table("paired difference, 95% interval", ["candidate", "baseline"], pairs))
    verdict = report["verdict"]
    colour = {"ship": "green", "hold": "yellow", "reject": "red"}[verdict["verdict"]]
    shipped = (folder / "shipped").exists()
    console.print(f"\nverdict: [bold {colour}]{verdict['verdict']}[/]" + ("  (shipped)" if shipped else ""))
    for check in verdict["checks"]:
        console.print(f"  {check['status']:<5} {check['reason']}", highlight=False)
    for note in alarms_of(folder):
        console.print(f"  alarm {note.removeprefix('Alarm ')}", markup=False, highlight=False)
    console.print(f"\nreport: {folder}/evidence/report.html", highlight=False)
    where = "shipped" if shipped else "candidate"
    console.print(f"{where}: {folder}/{where}", highlight=False)
    command = next_command(folder, report)
    if "--human" in command:
        console.print(
            f"next: fill in `preferred` (a, b or tie) in {folder}/evidence/human/sheet.jsonl, then",
            highlight=False,
        )
        console.print(f"  {command}", highlight=False, soft_wrap=True)
    else:
        console.print(f"next: {command}", highlight=False, soft_wrap=True)


def ship_run(folder: Path, override: str | None, console: Console) -> bool:
    """Ship the candidate if the verdict allows it or `override` gives a reason; says what happened."""
    if (folder / "shipped").exists():
        console.print(f"shipped before: {folder}/shipped", highlight=False)
        return True
    try:
        ship(folder / "candidate", folder / "shipped", folder / "evidence", override=override)
    except ShippingError as error:
        report = read_json(folder / "evidence" / "report.json")
        console.print(f"not shipped: {error}", highlight=False)
        console.print(f"next: {next_command(folder, report)}", highlight=False, soft_wrap=True)
        return False
    console.print(f"shipped: {folder}/shipped", highlight=False)
    return True


def stages(folder: Path, console: Console) -> None:
    """Print how far every stage is, in the order of the recipe; of a run without one, what its folders say."""
    recipe = read_json(folder / "run.json")["identity"].get("stages", [])
    states = [(name, _state(folder, stage, name)) for stage in recipe for name in [_name(stage)]]
    if not recipe:
        states = [(path.name, _trained(path)) for path in sorted(folder.iterdir()) if path.is_dir()]
    for name, state in states:
        if state:
            console.print(f"  {name:<16} {state}", highlight=False)


def _name(stage: Mapping[str, Any]) -> str:
    settings = stage if "train" in stage else next(iter(stage.values()))
    return str(settings["name"])


def _state(folder: Path, stage: Mapping[str, Any], name: str) -> str:
    if "check" in stage:
        done = [path.parent.name for path in sorted((folder / name).glob("*/done.json"))]
        return f"done: {', '.join(done)}" if done else "to do"
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
    metrics = path / "metrics.jsonl"
    return f"{len(metrics.read_text('utf-8').splitlines())} steps so far" if metrics.exists() else ""


def _table(title: str, names: list[str], rows: list[tuple[list[str], Mapping[str, Any]]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in names:
        table.add_column(name)
    for heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for labels, tracks in rows:
        cells = [
            tracks[track].get("slices", {}).get(heading) if track == PROGRAMMATIC else tracks[track]
            for heading, track in COLUMNS
        ]
        table.add_row(*labels, *(_figure(cell) for cell in cells))
    return table


def _figure(figure: Mapping[str, Any] | None) -> str:
    if not figure or not figure["n"]:
        return "-"
    low, high = figure["low"], figure["high"]
    if "difference" in figure:
        return f"{figure['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"{figure['mean']:.3f} [{low:.3f}, {high:.3f}]"
