"""Checks of settings: learning rates, number of updates, test rows, what a gate and a ship stage ask for, APIs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...learner.models.loading import parameters_of
from ...learner.models.precision import LARGE
from ...review import answers
from ..alternatives import OptimizePrompt
from ..kinds import Check, Evaluate, Gate, Ship, Train
from ..remote import remote_models
from ..run import Run
from ..searching import splits_of
from ..stages.evaluate import evaluated_before
from ..stages.plan import rows_of
from .finding import Finding, found

RATES = {"demonstration": (1e-5, 1e-3)}
"""Kind of rows -> rates that are usual for LoRA: rules of thumb of the field, not measurements of ours."""
OTHER = (1e-7, 5e-4)
"""Of all other methods."""
FULL = 0.1
"""Rates of all weights, as a share of those of LoRA."""
SMALL = 10
"""A base below 30 million parameters takes rates up to so many times as high."""
FEW_STEPS, FEW_ROWS = 10, 100


def settings_findings(run: Run) -> Iterator[Finding]:
    """Of every stage that has something to get wrong."""
    small = parameters_of(run.recipe.model) < LARGE
    for stage in run.recipe.stages:
        if isinstance(stage, Train):
            yield from _trained(run, stage, small)
    yield from _judged(run)
    yield from _searched(run)
    asked = {(model, stage): _calls(run, stage, model) for model, stage, _ in remote_models(run.recipe)}
    most, budget = sum(asked.values()), run.recipe.api.max_calls
    for (model, stage_name), count in asked.items():
        said = f"{model} of stage {stage_name!r}: up to {count:,} completions; max_calls: {budget or 'none'}"
        remedy = f"{most:,} in all: raise api.max_calls, or the run stops there until it is raised"
        yield found("API", said, 0 < budget < most, remedy, "warn")


def _trained(run: Run, stage: Train, small: bool) -> Iterator[Finding]:
    low, high = RATES.get(stage.method.needs.rows, OTHER)
    if stage.options.adapter.method == "full":
        low, high = low * FULL, high * FULL
    high = high * SMALL if small else high
    rate = stage.method.learning_rate
    of = "all weights" if stage.options.adapter.method == "full" else stage.options.adapter.method
    size = ", a small base" if small else ""
    said = f"{stage.name}: {rate:g}; usual for {stage.train} of {of}{size}: {low:g} to {high:g}"
    remedy = f"--set stages.{stage.name}.learning_rate=..., or keep it if your own runs say so"
    yield found("learning rate", said, not low <= rate <= high, remedy, "warn")
    rows, bound = rows_of(run, stage)
    steps = max(1, math.ceil(stage.method.epochs * rows / stage.method.batch_size))
    said = f"{stage.name}: {bound}{steps:,} updates on {bound}{rows:,} rows"
    yield found("updates", said, steps < FEW_STEPS, "more rows or epochs, or a smaller batch_size", "warn")


def _judged(run: Run) -> Iterator[Finding]:
    stages = run.recipe.stages
    if not any(isinstance(stage, Check) for stage in stages):
        said = "no check stage: the run itself will not prove, attack or calibrate the reward"
        yield Finding("check stage", "warn", said, "add `- check: {}` as the first stage")
    for stage in stages:
        if isinstance(stage, Evaluate):
            count = len(run.asked(stage)["test"])
            said = f"{stage.name}: {count} test rows; where half of the answers differ, they show {_shown(count):.2f}"
            yield found("test rows", said, count < FEW_ROWS, "more test rows: intervals will be wide", "warn")
        if isinstance(stage, Gate):
            asked = len(run.asked(evaluated_before(run, stage))["test"])
            if stage.min_cases > asked:
                said = f"{stage.name}: {asked} test rows, and min_cases is {stage.min_cases}"
                yield Finding("gate", "fail", said, "more test rows, or the gate holds whatever is measured")
            controls = "negative_controls" in stage.tracks and run.controls is None
            said = f"{stage.name}: {'no controls' if controls else 'controls, or none are asked for'}"
            yield found(
                "controls", said, controls, "data.controls or controls: without them the gate holds", "warn"
            )
        if isinstance(stage, Ship) and not stage.demonstration:
            missing = answers.lacking(
                stage.review if isinstance(stage.review, answers.Review) else answers.Review()
            )
            said = f"{stage.name}: {len(missing)} answers for a reviewer are missing"
            yield found("ship", said, bool(missing), "ship: {review: REVIEW.yaml}, or {demonstration: true}")


def _searched(run: Run) -> Iterator[Finding]:
    evaluated = [stage for stage in run.recipe.stages if isinstance(stage, Evaluate)]
    used = {one.prompt.stage for stage in evaluated for one in stage.challenged.values()}
    for stage in run.recipe.stages:
        if isinstance(stage, OptimizePrompt):
            unused = stage.name not in used
            said = (
                f"{stage.name}: {'no' if unused else 'a'} challenger is asked with the prompt that it finds"
            )
            remedy = f"`prompt: {{stage: {stage.name}}}` for a challenger, or leave out the stage, which only costs"
            yield found("search", said, unused, remedy, "warn")


def _shown(count: int) -> float:
    """A difference of two shares that so many pairs show four times in five, where half of the pairs differ."""
    return 2.8 * math.sqrt(0.5 / max(1, count))


def _calls(run: Run, name: str, model: str) -> int:
    """How many completions of the model a stage asks for, at most."""
    stage = run.recipe.stage(name)
    if isinstance(stage, Evaluate):
        rows = rows_of(run, stage)[0]
        return sum(rows * max(1, one.best_of_n) for one in stage.challenged.values() if one.model == model)
    if isinstance(stage, OptimizePrompt):
        budget = stage.budget_for(len(splits_of(run.task, stage, run.recipe.accept_leakage)[1].validation))
        return stage.budget * (stage.start == model) + budget.reflections * (stage.reflection == model)
    most = len(run.task.rows("train"))
    return int(min(getattr(stage, "max_prompts", 0) or most, most) * getattr(stage, "num_completions", 1))
