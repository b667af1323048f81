"""Stage `train`: one method, on the rows it needs, from the policy that a stage before it left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...rows import data_hash
from ...training.fit import fit
from ...training.spec import TrainSpec
from ..kinds import Train
from ..run import Run
from ..training_rows import training_task


def train(run: Run, stage: Train) -> None:
    """Train, or what is left of it; on every rank."""
    task = training_task(run.task, stage, run.folder.path)
    digest = data_hash(task.rows("train"))
    if left_out := getattr(task.rows("train"), "said", ""):
        run.console.print(f"  {stage.name}: {left_out}", markup=False, highlight=False)
    fit(run.folder, stage.name, spec_of(run, stage), task, run.console, digest, bases=run.bases)


def spec_of(run: Run, stage: Train) -> TrainSpec:
    """The specification of a stage, once the stages that it builds on are done."""
    start, options, method = run.start_of(stage), stage.options, stage.method
    folder = method.needs.reward_model
    if folder in {earlier.name for earlier in run.recipe.stages}:
        changed: Any = {"reward_model": str(run.adapter(folder))}
        method = replace(method, **changed)
    return TrainSpec(
        method,
        start.base,
        start.trained,
        options.adapter,
        options.learner,
        options.schedule,
        run.recipe.seed if options.seed is None else options.seed,
        run.recipe.dtype,
        options.guards,
        options.evaluation,
        run.recipe.placement,
    )
