"""A stage's time is planned again from its first steps, and progress without a terminal says how long is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tieout.pipelines.planned import AGAIN, plan_again, planned_of
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import append_jsonl
from tieout.storage.runfolder import RunFolder
from tieout.training.progress import bar

GIB = 2**30


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A run whose stage `grpo` was planned to take 300 s, and has done five steps: the first one took longest."""
    one = {"name": "grpo", "at_most": False, "steps": 20, "seconds": 300.0, "memory": 2 * GIB}
    write_json(tmp_path / "plan.json", {"stages": [one]})
    steps = [
        {"step": i + 1, "collect_seconds": 1.0, "update_seconds": 9.0 if i == 0 else 1.0}
        for i in range(AGAIN)
    ]
    append_jsonl(tmp_path / "grpo" / "metrics.jsonl", steps)
    return tmp_path


def test_time_is_planned_again_once_from_the_first_steps(planned: Path) -> None:
    console = Console(record=True, width=160, force_terminal=False)
    with RunFolder(planned) as folder:
        for step in (4, 5, 5, 6):
            plan_again(folder, "grpo", step, 20, 3 * GIB, console)
        plan_again(folder, "dpo", 5, 20, 3 * GIB, console)  # was not planned
    (said,) = console.export_text().splitlines()
    assert (
        said.strip()
        == "grpo: time 5 min planned, 48 s after 5 steps; memory 2.00 GiB planned, 3.00 GiB so far"
    )
    plan: dict[str, Any] = json.loads((planned / "plan.json").read_text())
    plan["stages"][0]["measured"] = {"memory": 3 * GIB, "seconds": 50.0, "steps": 20}
    write_json(planned / "plan.json", plan)
    assert "time 5 min planned, 48 s after 5 steps, 50 s measured" in planned_of(planned)[0]


def test_a_short_stage_keeps_its_plan(planned: Path) -> None:
    with RunFolder(planned) as folder:
        plan_again(folder, "grpo", 5, 9, None, Console(quiet=True))
    assert "again" not in json.loads((planned / "plan.json").read_text())["stages"][0]


def test_progress_without_a_terminal_says_how_long_is_left() -> None:
    clock = [0.0]
    console = Console(record=True, width=160, force_terminal=False, get_time=lambda: clock[0])
    with bar(console, "sft", 13) as shown:
        shown.at(3)  # resumed
        for step in range(4, 14):
            clock[0] += 60.0
            shown.at(step, {"loss": 0.5})
    said = [line.split() for line in console.export_text().splitlines()]
    assert said[1] == ["sft:", "5/13", "0:08:00", "left", "loss", "0.500"]
    assert said[-1] == ["sft:", "13/13", "loss", "0.500"]
