"""The part of stage `evaluate` that asks test rows again: variants of them greedily, the same prompt by sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...evidence.consistency_rows import SAME_PROMPT, Again
from ...evidence.evaluate import CONSISTENCY, Case
from ...learner import Model
from ...rows import data_hash
from ...samplers import SamplingParams
from ...training.progress import Bar
from ..kinds import Evaluate
from ..run import Run
from .challengers import Asked, ask, identity_of, sampler_of

FILE = "{}.consistency"
"""Of a model, next to its other cases: it is made and replaced apart from them."""


def again_of(run: Run, stage: Evaluate) -> dict[str, Any] | None:
    """What the report says of how rows were asked again; None if they were not."""
    own, asked = stage.consistency, len(run.asked(stage)["test"])
    if not own.max_rows:
        return None
    return {"rows": min(own.max_rows, asked), "repeats": own.repeats, "temperature": own.temperature}


def inputs_again(run: Run, stage: Evaluate, name: str) -> dict[str, Any]:
    """What decides these cases."""
    again = run.again(stage)
    return {
        "model": identity_of(run, stage, name),
        "cases": [one.id for one in again],
        "rows": data_hash([one.row for one in again]),
        "temperature": stage.consistency.temperature,
        "seed": run.recipe.seed,
        "max_new_tokens": run.task.max_new_tokens,
        "metrics": sorted(run.task.metrics),
    }


def cases_again(
    run: Run, stage: Evaluate, name: str, opened: Callable[[], Model], add: Callable[[str, int], Bar]
) -> list[Case]:
    """What a model answers when it is asked again, scored."""
    again, task = run.again(stage), run.task
    shown = add(f"{name}, consistency", len(again))
    sampler = sampler_of(run, stage, name, opened, shown)
    greedy = SamplingParams(task.max_new_tokens, temperature=0.0)
    sampled = replace(greedy, temperature=stage.consistency.temperature, seed=run.recipe.seed)
    cases = list[Case]()
    for params, part in (
        (greedy, [one for one in again if one.kind != SAME_PROMPT]),
        (sampled, [one for one in again if one.kind == SAME_PROMPT]),
    ):
        cases += _asked(run, stage, name, part, sampler, params)
        shown.at(len(cases))
    return cases


def _asked(
    run: Run, stage: Evaluate, name: str, part: Sequence[Again], sampler: Asked, params: SamplingParams
) -> list[Case]:
    if not part:
        return []
    kinds = iter([one.kind for one in part])
    found = ask(
        run,
        stage,
        name,
        sampler,
        run.task,
        [one.row for one in part],
        params,
        track=CONSISTENCY,
        slice=lambda row: next(kinds),
        ids=[one.id for one in part],
    )
    return [replace(case, cluster=one.original) for case, one in zip(found, part, strict=True)]
