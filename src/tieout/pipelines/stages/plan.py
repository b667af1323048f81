"""The plan of a run: what each stage will do, on how many rows and in how many steps, and what is done already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ...evidence.leakage import in_words
from ...rows import data_hash
from ...storage.runfolder import Stage as Folder
from ...tasks.files import REWARD_MODEL, hold_out
from ...tasks.splits import calibration_rows
from ...training.stage import known_as, rows_held_out
from ..alternatives import OptimizePrompt
from ..kinds import (
    Calibrate,
    Check,
    Demonstrations,
    Evaluate,
    Gate,
    Pairs,
    Refresh,
    Ship,
    Stage,
    Train,
    kind_of,
)
from ..run import Run
from ..searching import splits_of
from ..training_rows import known_rows, training_task
from .challengers import is_made
from .demonstrations import inputs_of as demonstrated_from
from .evaluate import is_done as is_evaluated
from .optimize_prompt import inputs_of as searched_from
from .pairs import inputs_of
from .train import spec_of

MAKERS = (Train, Demonstrations, Pairs, Refresh, OptimizePrompt)
"""Kinds that make what later stages read."""


@dataclass(frozen=True)
class Line:
    """One stage of the plan."""

    name: str
    what: str
    rows: str
    steps: str
    status: str
    """`done`, `started`, or `to do`."""


def print_plan(run: Run, console: Console) -> None:
    """Print the stages of a run with rows, steps and status. Nothing is written or loaded."""
    table = Table(title=f"plan of {run.folder.path}", title_justify="left")
    for heading in ("stage", "what", "rows", "steps", "status"):
        table.add_column(heading)
    for line in plan(run):
        table.add_row(line.name, line.what, line.rows, line.steps, line.status)
    console.print(table)
    console.print(
        f"training rows among held-out rows: {in_words(run.leakage)}", markup=False, highlight=False
    )


def plan(run: Run) -> list[Line]:
    """A line per stage. Where a stage learns from pairs that are not made yet, rows and steps are upper bounds."""
    lines, ready = list[Line](), True
    for stage in run.recipe.stages:
        rows, bound = rows_of(run, stage)
        steps = ""
        if isinstance(stage, Train):
            method = stage.method
            steps = f"{bound}{max(1, math.ceil(method.epochs * rows / method.batch_size))}"
        status = _status(run, stage) if ready else "to do"
        ready = ready and (status == "done" or not isinstance(stage, MAKERS))
        lines.append(Line(stage.name, _what(stage), f"{bound}{rows}" if rows else "", steps, status))
    return lines


def _what(stage: Stage) -> str:
    if isinstance(stage, Train):
        reward = stage.method.needs.reward_model
        scored = f", scored by {reward}" if reward else ""
        teachers = " and ".join(stage.method.needs.teachers.values())
        taught = f", taught by {teachers}" if teachers else ""
        return f"train {stage.train} from {stage.options.start} on {stage.options.data}{scored}{taught}"
    if isinstance(stage, Pairs):
        of = {"sampled": stage.start, "judged": stage.start, "ranked": stage.start, "base": "base"}
        names = " and ".join(name for source, name in of.items() if source in stage.sources)
        sampled = f", {stage.num_completions} completions of {names}" if names else ""
        by = (
            f", judged by {stage.judge}"
            if stage.judge
            else ", ranked by people"
            if "ranked" in stage.sources
            else ""
        )
        return f"pairs: {', '.join(stage.sources)}{sampled}{by}"
    if isinstance(stage, Demonstrations):
        return f"demonstrations: the best of {stage.num_completions} completions of {stage.start}"
    if isinstance(stage, Refresh):
        by = stage.judge or "people"
        return f"refresh {stage.reward_model}: {stage.num_completions} completions of {stage.start}, labelled by {by}"
    if isinstance(stage, OptimizePrompt):
        by = f", proposed by {stage.reflection}" if stage.reflection else ""
        return f"prompt of {stage.start}, {stage.by} search within {stage.budget} completions{by}"
    if isinstance(stage, Calibrate):
        return f"calibrate on {stage.num_completions} completions of {stage.start}"
    if isinstance(stage, Evaluate):
        return f"evaluate {', '.join(stage.evaluated)}"
    if isinstance(stage, Gate):
        return f"gate {stage.candidate} against {stage.baseline}"
    return kind_of(stage)


def rows_of(run: Run, stage: Stage) -> tuple[int, str]:
    """How many rows a stage works on, and `up to ` where that is a bound."""
    task = run.task
    if isinstance(stage, Check):
        return min(len(task.rows("train")), stage.proof.max_rows), ""
    if isinstance(stage, Calibrate):
        return len(calibration_rows(task, stage.max_rows)), ""
    if isinstance(stage, Refresh):
        return min(stage.num_prompts, len(task.rows("train"))), ""
    if isinstance(stage, Demonstrations):
        count = len(task.rows("train"))
        return min(stage.max_prompts or count, count), "up to "
    if isinstance(stage, Pairs):
        count = len(task.rows("train"))
        sampled = min(stage.max_prompts or count, count)
        given = len(task.rows("pairs")) if "file" in stage.sources else 0
        return given + stage.pairs_per_prompt * sampled * len(set(stage.sources) - {"file"}), "up to "
    if isinstance(stage, OptimizePrompt):
        splits = splits_of(task, stage, run.recipe.accept_leakage)[1]
        return len(splits.train) + len(splits.validation), ""
    if isinstance(stage, Evaluate):
        rows = sum(map(len, run.asked(stage).values())) + len(run.again(stage))
        return rows + (len(run.controls.rows("test")) if run.controls else 0), ""
    if not isinstance(stage, Train):
        return 0, ""
    known = known_rows(task, stage, run.fitting)
    if known is not None:
        return len(hold_out(known, REWARD_MODEL)[0]) if stage.method.needs.rows == "ranking" else len(
            known
        ), ""
    made = run.recipe.stage(stage.options.data)
    folder = run.folder.path / made.name
    if (folder / "done.json").exists():
        return len(training_task(task, stage, run.folder.path, run.fitting).rows("train")), ""
    most = rows_of(run, made)[0]
    return most * (2 if stage.method.needs.rows == "label" else 1), "up to "


def _status(run: Run, stage: Stage) -> str:
    """Only asked of a stage whose policies and pairs are there."""
    folder = Folder(run.folder.path / stage.name)
    if isinstance(stage, Evaluate):
        names = [name for name in stage.evaluated if is_made(run, stage, name)]
        done = [is_evaluated(run, stage, name) for name in names]
        return (
            "done" if len(done) == len(stage.evaluated) and all(done) else "started" if any(done) else "to do"
        )
    if isinstance(stage, Gate):
        return "done" if (run.folder.path / "evidence" / "report.json").exists() else "to do"
    if isinstance(stage, Ship):
        there = [name for name in ("shipped", "candidate") if (run.folder.path / name).exists()]
        return "done" if there else "to do"
    if isinstance(stage, Refresh):
        parts = [folder.path / part / "done.json" for part in ("labels", "reward_model")]
        done = [part.exists() for part in parts]
        return "done" if all(done) else "started" if folder.path.exists() else "to do"
    if isinstance(stage, Calibrate):
        return "done" if (folder.path / "done.json").exists() else "to do"
    if isinstance(stage, Check):
        parts = [folder.path / part / "done.json" for part in ("proof", "attack", "calibration")]
        return "done" if any(part.exists() for part in parts) else "to do"
    inputs: Any = None
    if isinstance(stage, Train):
        task = training_task(run.task, stage, run.folder.path, run.fitting)
        spec = spec_of(run, stage)
        held_out = rows_held_out(spec, task, Console(quiet=True))
        inputs = known_as(spec, task, data_hash(task.rows("train")), held_out)
    elif isinstance(stage, Demonstrations):
        inputs = demonstrated_from(run, stage)
    elif isinstance(stage, OptimizePrompt):
        inputs = searched_from(run, stage)
    else:
        inputs = inputs_of(run, stage)
    return "done" if folder.is_done(inputs) else "started" if folder.begun() is not None else "to do"
