"""Execute the stages of a run in their order. Finished ones are not redone, interrupted ones resume."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch

from ...evidence.scoring import source_digest
from ...learner.memory import apart, peak_bytes, reset_peak
from ...learner.models.loading import device_of
from ...learner.parallel.processes import join
from ...review.attempts import PAGE_ALONE
from ...review.document import write_page
from ...storage import manifest
from ...storage.machine import environment
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
)
from ..planned import note_sampled
from ..run import Run
from ..show import show
from .calibration import calibrate_sampled
from .check import check
from .demonstrations import demonstrations
from .evaluate import evaluate
from .gate import gate
from .optimize_prompt import optimize_prompt
from .pairs import pairs
from .refresh import refresh
from .ship import ship
from .train import train

ALONE: dict[type[Any], Any] = {
    Check: check,
    Calibrate: calibrate_sampled,
    Demonstrations: demonstrations,
    Pairs: pairs,
    OptimizePrompt: optimize_prompt,
    Evaluate: evaluate,
    Gate: gate,
    Ship: ship,
}
"""Kinds that the first of several processes works on, while the others wait."""
SAMPLE = (Calibrate, Demonstrations, Pairs, OptimizePrompt)
"""Those of them that sample, all at once."""


def execute(run: Run) -> str:
    """Run every stage, or what is left of it; returns the verdict, empty without a gate."""
    verdict = ""
    _on_record(run, "start", about(run))
    for stage in run.recipe.stages:
        try:
            verdict = work(run, stage) or verdict
        except Exception as error:
            if run.folder.leads:
                _failed(run, stage, error)
            raise
        _on_record(run, stage.name)
    if verdict:
        join().first(lambda: show(run.folder.path, run.console))
    return verdict


def _on_record(run: Run, step: str, said: Mapping[str, Any] | None = None) -> None:
    """Add what a step wrote to the manifest."""
    join().first(lambda: manifest.append(run.folder.path, step, said))


def _failed(run: Run, stage: Stage, error: Exception) -> None:
    """Put a failed stage on record and on the page, which would otherwise be of an earlier attempt."""
    manifest.append(run.folder.path, stage.name, {"failed": f"{type(error).__name__}: {error}"})
    try:
        write_page(run.folder.path)
        manifest.append(run.folder.path, PAGE_ALONE)
    except Exception as second:  # the stage's own error is the one to show
        said = f"the page was not written: {type(second).__name__}: {second}"
        run.console.print(said, markup=False, highlight=False)


def about(run: Run) -> dict[str, Any]:
    """What decides the numbers of an attempt: data, configuration, code, reward, environment."""
    task = run.task
    functions = {"reward": task.reward, **task.metrics, **task.parts}
    return {
        "command": sys.argv,
        "data": run.hashes,
        "configuration": run.recipe.plain(),
        "code": manifest.code(),
        "sources": {name: file for name, function in functions.items() if (file := source_digest(function))},
        "environment": environment(),
    }


def work(run: Run, stage: Stage) -> str:
    """Run one stage; a gate returns its verdict."""
    join().first(lambda: run.refuse_changes(stage))
    if isinstance(stage, Train | Refresh):  # every process trains
        train(run, stage) if isinstance(stage, Train) else refresh(run, stage)
        return ""
    function = _noted if isinstance(stage, SAMPLE) else ALONE[type(stage)]
    return join().first(lambda: function(run, stage)) or ""


def _noted(run: Run, stage: Stage) -> None:
    """Run a stage that samples, and add to the plan what it took, rewards included, unless it was done before."""
    device = torch.device(device_of(run.recipe.placement.device))
    done, started = (run.folder.path / stage.name / "done.json").exists(), perf_counter()
    with apart(device):
        reset_peak(device)
        ALONE[type(stage)](run, stage)
        if not done:
            note_sampled(run.folder, stage.name, perf_counter() - started, peak_bytes(device))
