"""Stage `evaluate`: every model's cases on the same held-out rows and controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from ...evidence.evaluate import CONTROLS, PROGRAMMATIC, Case, read_cases, write_cases
from ...evidence.evaluate import evaluate as evaluate_model
from ...learner import Model
from ...samplers.local.sampler import LocalSampler
from ...storage.identity import as_stored
from ...storage.jsonl import read_json, set_aside
from ...training.progress import Bar, bars
from ...types import Row
from ..kinds import Evaluate, Stage
from ..run import Run


def evaluate(run: Run, stage: Evaluate) -> None:
    """Evaluate every model of the stage that is not done: one file each, so that an interrupted stage resumes."""
    run.console.print(f"[bold]{stage.name}[/]")
    with bars(run.console) as add:
        for name in stage.models:
            path, marker = case_file(run, stage, name), _marker(run, stage, name)
            if is_done(run, stage, name):
                cases, done = read_cases(path, sampled=True)[name], "done before, "
            else:
                cases, done = cases_of(run, stage, name, run.open(run.policy(name)), add), ""
                if path.exists() and read_cases(path) != {name: cases}:
                    set_aside(path)  # of an earlier attempt, which stays on record
                write_cases(path, {name: cases})
                run.folder.write_json(
                    str(marker.relative_to(run.folder.path)), {"inputs": _inputs(run, stage, name)}
                )
            scores = [case.score for case in cases if case.track == PROGRAMMATIC and case.score is not None]
            mean = f", mean score {fmean(scores):.3f}" if scores else ""
            run.console.print(f"  {name} {done}{len(cases)} cases{mean}", highlight=False)


def is_done(run: Run, stage: Evaluate, name: str) -> bool:
    """Whether the cases of this model are there, made by the same model from the same rows."""
    marker = _marker(run, stage, name)
    return marker.exists() and bool(read_json(marker) == {"inputs": as_stored(_inputs(run, stage, name))})


def evaluated_before(run: Run, stage: Stage) -> Evaluate:
    """The evaluate stage whose cases `stage` reads: the nearest one before it."""
    before = run.recipe.stages[: run.recipe.stages.index(stage)]
    return next(s for s in reversed(before) if isinstance(s, Evaluate))


def read_evaluated(run: Run, stage: Evaluate) -> dict[str, list[Case]]:
    """Model -> its cases."""
    return {name: read_cases(case_file(run, stage, name), sampled=True)[name] for name in stage.models}


def case_file(run: Run, stage: Evaluate, name: str) -> Path:
    """Where the cases of a model are kept."""
    return run.folder.path / stage.name / f"{name}.jsonl"


def _marker(run: Run, stage: Evaluate, name: str) -> Path:
    return run.folder.path / stage.name / f"{name}.json"


def _inputs(run: Run, stage: Evaluate, name: str) -> dict[str, Any]:
    return {
        "model": run.policy(name).identity,
        "data": {split: run.hashes[split] for split in ("test", "ood", "controls")},
        "max_test": stage.max_test,
        "max_ood": stage.max_ood,
        "max_new_tokens": run.task.max_new_tokens,
    }


def rows_asked(run: Run, stage: Evaluate) -> dict[str, list[Row]]:
    """Slice -> the rows of the task that every model is asked."""
    splits = {"test": stage.max_test, "ood": stage.max_ood}
    return {split: list(run.task.rows(split))[: limit or None] for split, limit in splits.items()}


def cases_of(
    run: Run, stage: Evaluate, name: str, model: Model, add: Callable[[str, int], Bar]
) -> list[Case]:
    """Greedy completions of a model on the rows of the stage, scored."""
    task = run.task
    rows = rows_asked(run, stage)
    controls = list(run.controls.rows("test")) if run.controls else []
    cases: list[Case] = []
    shown = add(name, sum(map(len, rows.values())) + len(controls))
    # An episode takes several completions for a row.
    told = None if task.environment else shown.advance
    sampler = LocalSampler(model, progress=told, drafts=run.recipe.placement.drafts)
    for split, given in rows.items():
        if given:
            cases += evaluate_model(
                task,
                given,
                sampler,
                track=PROGRAMMATIC,
                slice=split,
                workers=run.workers,
                batch_size=len(given),
            )
            shown.at(len(cases))
    if run.controls and controls:
        cases += evaluate_model(
            run.controls,
            controls,
            sampler,
            track=CONTROLS,
            slice=lambda row: str(row.get("skill", "controls")),
            workers=run.workers,
            batch_size=len(controls),
        )
        shown.at(len(cases))
    return cases
