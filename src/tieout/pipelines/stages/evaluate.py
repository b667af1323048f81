"""Stage `evaluate`: every model's cases on the same held-out rows and controls."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ...evidence.evaluate import CONTROLS, PROGRAMMATIC, Case, by_prompt, read_cases, write_cases
from ...learner import Model
from ...learner.memory import peak_bytes, reset_peak
from ...learner.models.loading import device_of
from ...samplers.api.opening import is_api
from ...storage.identity import as_stored
from ...storage.jsonl import read_json, set_aside
from ...training.progress import Bar, bars
from ..kinds import Evaluate, Stage
from ..planned import note_sampled
from ..run import Run
from .challengers import ask, identity_of, policy_of, sampler_of
from .consistency import FILE, cases_again, inputs_again


def evaluate(run: Run, stage: Evaluate) -> None:
    """Evaluate every model of the stage that is not done: one file each, so that an interrupted stage resumes."""
    run.console.print(f"[bold]{stage.name}[/]")
    device = torch.device(device_of(run.recipe.placement.device))
    with bars(run.console) as add:
        for name in stage.evaluated:
            opened = cache(partial(run.open, policy_of(run, stage, name)))
            reset_peak(device)
            cases, done = _kept(run, stage, name, opened, add)
            if not done and not is_api(policy_of(run, stage, name).base):
                took = sum(case.usage.get("seconds", 0.0) for case in cases)
                note_sampled(run.folder, f"{stage.name}, {name}", took, peak_bytes(device))
            scores = [case.score for case in cases if case.track == PROGRAMMATIC and case.score is not None]
            mean = f", mean score {fmean(scores):.3f}" if scores else ""
            run.console.print(f"  {name} {done}{len(cases)} cases{mean}", highlight=False)


Make = Callable[[Run, Evaluate, str, Callable[[], Model], Callable[[str, int], Bar]], list[Case]]


def _kept(
    run: Run, stage: Evaluate, name: str, opened: Callable[[], Model], add: Callable[[str, int], Bar]
) -> tuple[list[Case], str]:
    """The cases of a model, part by part: those that are there, or else made now; and in words if all were there."""
    found, there = list[Case](), True
    for part, inputs, make in _parts(run, stage, name):
        path = _file(run, stage, part)
        if _is_done(run, stage, part, inputs):
            found += read_cases(path, sampled=True)[name]
            continue
        cases, there = make(run, stage, name, opened, add), False
        if path.exists() and read_cases(path) != {name: cases}:
            set_aside(path)  # of an earlier attempt, which stays on record
        write_cases(path, {name: cases})
        run.folder.write_json(f"{stage.name}/{part}.json", {"inputs": inputs})
        found += cases
    return found, "done before, " if there else ""


def _parts(run: Run, stage: Evaluate, name: str) -> list[tuple[str, dict[str, Any], Make]]:
    """(name of its file, what decides it, what makes it) of each part of a model's cases."""
    parts: list[tuple[str, dict[str, Any], Make]] = [(name, _inputs(run, stage, name), cases_of)]
    if stage.consistency.max_rows:
        parts.append((FILE.format(name), inputs_again(run, stage, name), cases_again))
    return parts


def _is_done(run: Run, stage: Evaluate, part: str, inputs: dict[str, Any]) -> bool:
    marker = run.folder.path / stage.name / f"{part}.json"
    return marker.exists() and bool(read_json(marker) == {"inputs": as_stored(inputs)})


def is_done(run: Run, stage: Evaluate, name: str) -> bool:
    """Whether the cases of this model are there, made by the same model from the same rows."""
    return all(_is_done(run, stage, part, inputs) for part, inputs, _ in _parts(run, stage, name))


def evaluated_before(run: Run, stage: Stage) -> Evaluate:
    """The evaluate stage whose cases `stage` reads: the nearest one before it."""
    before = run.recipe.stages[: run.recipe.stages.index(stage)]
    return next(s for s in reversed(before) if isinstance(s, Evaluate))


def read_evaluated(run: Run, stage: Evaluate) -> dict[str, list[Case]]:
    """Model -> its cases. Copies of a prompt share a cluster, whichever version evaluated, and whichever split."""
    return {
        name: by_prompt(
            [
                case
                for part, *_ in _parts(run, stage, name)
                for case in read_cases(_file(run, stage, part), sampled=True)[name]
            ]
        )
        for name in stage.evaluated
    }


def _file(run: Run, stage: Evaluate, part: str) -> Path:
    """Where a part of a model's cases is kept."""
    return run.folder.path / stage.name / f"{part}.jsonl"


def _inputs(run: Run, stage: Evaluate, name: str) -> dict[str, Any]:
    return {
        "model": identity_of(run, stage, name),
        "data": {split: run.hashes[split] for split in ("test", "ood", "controls")},
        "max_test": stage.max_test,
        "max_ood": stage.max_ood,
        "max_new_tokens": run.task.max_new_tokens,
        "metrics": [
            sorted(task.metrics) for task in (run.task, run.controls) if task
        ],  # a release may add one
    }


def cases_of(
    run: Run, stage: Evaluate, name: str, opened: Callable[[], Model], add: Callable[[str, int], Bar]
) -> list[Case]:
    """Greedy completions of a model on the rows of the stage, scored; of a challenger as it is asked."""
    rows = run.asked(stage)
    controls = list(run.controls.rows("test")) if run.controls else []
    cases: list[Case] = []
    shown = add(name, sum(map(len, rows.values())) + len(controls))
    sampler = sampler_of(run, stage, name, opened, shown)
    for split, given in rows.items():
        if given:
            cases += ask(run, stage, name, sampler, run.task, given, track=PROGRAMMATIC, slice=split)
            shown.at(len(cases))
    if run.controls and controls:
        skill = lambda row: str(row.get("skill", "controls"))  # noqa: E731
        cases += ask(run, stage, name, sampler, run.controls, controls, track=CONTROLS, slice=skill)
        shown.at(len(cases))
    return cases
