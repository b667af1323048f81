"""Execute the stages of a run in their order. Finished ones are not redone, interrupted ones resume."""

from __future__ import annotations

from typing import Any

from ...learner.parallel.processes import join
from ..kinds import Calibrate, Check, Evaluate, Gate, Pairs, Refresh, Ship, Stage, Train
from ..run import Run
from ..show import show
from .calibration import calibrate_sampled
from .check import check
from .evaluate import evaluate
from .gate import gate
from .pairs import pairs
from .refresh import refresh
from .ship import ship
from .train import train

ALONE: dict[type[Any], Any] = {
    Check: check,
    Calibrate: calibrate_sampled,
    Pairs: pairs,
    Evaluate: evaluate,
    Gate: gate,
    Ship: ship,
}
"""Kinds that the first of several processes works on, while the others wait."""


def execute(run: Run) -> str:
    """Run every stage, or what is left of it; returns the verdict, empty without a gate."""
    verdict = ""
    for stage in run.recipe.stages:
        verdict = work(run, stage) or verdict
    if verdict:
        join().first(lambda: show(run.folder.path, run.console))
    return verdict


def work(run: Run, stage: Stage) -> str:
    """Run one stage; a gate returns its verdict."""
    if isinstance(stage, Train | Refresh):  # every process trains
        train(run, stage) if isinstance(stage, Train) else refresh(run, stage)
        return ""
    function = ALONE[type(stage)]
    return join().first(lambda: function(run, stage)) or ""
