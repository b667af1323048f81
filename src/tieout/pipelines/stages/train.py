"""Stage `train`: one method, on the rows it needs, from the policy that a stage before it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ...errors import InputError
from ...learner.memory import apart, peak_bytes, reset_peak
from ...learner.models.loading import device_of
from ...learner.parallel.processes import join
from ...methods import Distill
from ...rows import data_hash
from ...training.fit import fit
from ...training.spec import TrainSpec
from ...types import Row
from ...vetting.preferences.report import PAIRED, report
from ..kinds import Train
from ..links import BASE
from ..planned import note_measured, plan_again
from ..run import Run
from ..training_rows import known_rows, training_task
from .pairs import leakage_of


def train(run: Run, stage: Train) -> None:
    """Train, or what is left of it; on every rank."""
    rows = known_rows(run.task, stage, run.fitting)
    refuse_other_rows(run, stage, rows)
    task = training_task(run.task, stage, run.folder.path, run.fitting, rows)
    digest = data_hash(task.rows("train"))
    if left_out := getattr(task.rows("train"), "said", ""):
        run.console.print(f"  {stage.name}: {left_out}", markup=False, highlight=False)
    spec, given = spec_of(run, stage), stage.options.data
    if stage.method.needs.rows in PAIRED and given not in {s.name for s in run.recipe.stages}:
        rows = task.rows("train")
        join().first(
            lambda: report(
                run.folder, f"{stage.name}-pairs", rows, run.held_rows(), run.console, **leakage_of(run)
            )
        )
    device = torch.device(device_of(spec.placement.device))
    with apart(device):
        reset_peak(device)

        def told(step: int, steps: int) -> None:
            plan_again(run.folder, stage.name, step, steps, peak_bytes(device), run.console)

        fit(run.folder, stage.name, spec, task, run.console, digest, run.bases, told)
    if run.folder.leads:
        note_measured(run.folder, stage.name, peak_bytes(device))


def refuse_other_rows(run: Run, stage: Train, rows: Sequence[Row] | None) -> None:
    """InputError: the stage's own file has changed since the run began, when it was checked, also for leakage."""
    was = run.hashes.get(f"stages.{stage.name}")
    if was is not None and was != data_hash(rows or []):
        raise InputError(
            f"stage {stage.name!r}: the rows of {stage.options.data} are not those that the run began with; restore "
            "the file, or begin in another --out"
        )


def spec_of(run: Run, stage: Train) -> TrainSpec:
    """The specification of a stage, once the stages that it builds on are done."""
    start, options, method = run.start_of(stage), stage.options, stage.method
    folder = method.needs.reward_model
    if folder in {earlier.name for earlier in run.recipe.stages}:
        changed: Any = {"reward_model": str(run.adapter(folder))}
        method = replace(method, **changed)
    if isinstance(method, Distill):
        made: Any = {earlier.name: str(run.adapter(earlier.name)) for earlier in run.recipe.stages}
        method = method.taught_by(lambda name: {BASE: run.recipe.model, **made}.get(name, name))
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
        run.recipe.engine,
    )
