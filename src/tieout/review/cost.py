"""Section Cost: time and memory of each stage, planned against measured, and what an answer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evidence import usage
from .markup import Markup, html, joined, lead, nothing, table
from .stored import Stored


def section(run: Stored) -> Markup:
    """Both tables."""
    return joined([_stages(run), *_answers(run)])


def _stages(run: Stored) -> Markup:
    if not run.stages and not run.plan:
        return nothing("Not yet: no stage has logged a step.")
    if not run.plan:
        said = (
            "Nothing was planned: bases below 30 million parameters are not. Time is of rollouts and updates."
        )
        rows: list[list[Any]] = [
            [name, len(own), duration(seconds_of(own))] for name, own in run.stages.items()
        ]
        return joined([lead(said), table(["Stage", "Steps", "Time"], rows, numbers=(1, 2), kind="costs")])
    planned = {one["name"]: one for one in run.plan}
    rows = [_compared(name, planned.get(name), run) for name in dict.fromkeys([*planned, *run.stages])]
    said = "Steps, time of rollouts and updates, and peak memory of each training, planned and measured."
    columns = ["Stage", "Steps planned", "Steps", "Time planned", "Time", "Memory planned", "Memory"]
    return joined([lead(said), table(columns, rows, numbers=range(1, 7), kind="costs")])


def _compared(name: str, plan: Mapping[str, Any] | None, run: Stored) -> list[Any]:
    """Cells of a stage: steps, time and memory, as planned and as measured."""
    own = run.stages.get(name, [])
    took = [f"{len(own):,}", duration(seconds_of(own))] if own else ["not yet", "not yet"]
    if plan is not None and not plan["steps"]:  # it is sampled, not trained
        took = ["–", duration(plan["measured"]["seconds"]) if "measured" in plan else "not yet"]
    if plan is None:
        return [name, "–", took[0], "–", took[1], "–", "–"]
    bound = "up to " if plan["at_most"] else ""
    measured = gibibytes(plan["measured"]["memory"]) if "measured" in plan else "not yet"
    time = duration(plan["seconds"]) if plan["seconds"] is None else f"{bound}{duration(plan['seconds'])}"
    time += f"; {again_of(plan)}" if "again" in plan else ""
    steps = f"{bound}{plan['steps']:,}" if plan["steps"] else "–"
    return [name, steps, took[0], time, took[1], gibibytes(plan["memory"]), measured]


def again_of(plan: Mapping[str, Any]) -> str:
    """The time of a stage as it was planned again after its first steps, in words."""
    return f"{duration(plan['again']['seconds'])} after {plan['again']['step']} steps"


def seconds_of(steps: Sequence[Mapping[str, Any]]) -> float:
    """What a stage's steps took, rollouts and updates."""
    return sum(step.get("collect_seconds", 0.0) + step.get("update_seconds", 0.0) for step in steps)


def _answers(run: Stored) -> list[Markup]:
    if run.report is None:
        return []
    settings = run.settings
    header, rows = usage.table(run.report.get("usage", {}))
    if not rows:
        return [html("<h3>What an answer takes</h3>"), nothing("The samplers did not count tokens.")]
    slice = settings["policy"]["programmatic_slice"]
    prices = "; ".join(f"{model} {price}" for model, price in settings.get("prices", {}).items())
    said = (
        f"Means per answer on the programmatic track{f', {slice}' if slice else ''}. Prompt and tokens: what "
        f"was read and written, in tokens; longer: written tokens minus those of {settings['baseline']}, "
        "paired. Seconds are of the machine that evaluated; answers of one batch share its time evenly."
    )
    if prices:
        said += f" Prices, per million tokens of prompts and answers or per hour (h): {prices}."
    body = table([name.capitalize() for name in header], rows, numbers=range(1, len(header)), kind="usage")
    return [html("<h3>What an answer takes</h3>"), lead(said), body]


def gibibytes(size: float | None) -> str:
    """A size in words; `unknown` for None."""
    return "unknown" if size is None else f"{size / 2**30:.2f} GiB"


def duration(seconds: float | None) -> str:
    """A time in words; `not claimed` for None."""
    if seconds is None:
        return "not claimed"
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
