"""How an evaluate stage asks a challenger: the base with a prompt before each row, or the best of its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ...evidence.evaluate import Case
from ...evidence.evaluate import evaluate as evaluate_model
from ...evidence.pool import calls_of, scored
from ...learner import Model
from ...rewards.processes.workers import Workers
from ...samplers import Sampler, SamplingParams
from ...samplers.best_of_n import BestOfN, Scores
from ...samplers.local.sampler import LocalSampler
from ...samplers.prompted import Prompted
from ...tasks import Task
from ...training.build import under_deadline
from ...training.progress import Bar
from ...types import Answer, Prompt, Row
from ..challengers import Selector, before_of, known_of, selector_of
from ..kinds import Evaluate
from ..links import BASE
from ..run import Policy, Run


def policy_of(run: Run, stage: Evaluate, name: str) -> Policy:
    """The model that answers under this name: of a challenger, the base."""
    return run.policy(BASE if name in stage.challengers else name)


def identity_of(run: Run, stage: Evaluate, name: str) -> dict[str, Any]:
    """Of a model; of a challenger also how it is made."""
    return {**policy_of(run, stage, name).identity, **_made(run, stage, name)}


def _made(run: Run, stage: Evaluate, name: str) -> dict[str, Any]:
    if name not in stage.challengers:
        return {}
    if _chooses(stage, name):
        return {**known_of(stage, _selector(run, stage)), "seed": run.recipe.seed}
    return before_of(run.task, stage).known


def sampler_of(run: Run, stage: Evaluate, name: str, model: Model, shown: Bar) -> LocalSampler:
    """Of the model that answers. Where a row takes several completions, in an episode or best of N, it shows none."""
    told = None if run.task.environment or name in stage.challengers else shown.advance
    return LocalSampler(model, progress=told, drafts=run.recipe.placement.drafts)


def ask(
    run: Run,
    stage: Evaluate,
    name: str,
    sampler: LocalSampler,
    task: Task,
    rows: Sequence[Row],
    params: SamplingParams | None = None,
    **options: Any,
) -> list[Case]:
    """The cases of these rows, asked all at once under this name: greedily, or as `params` say."""
    params = params or SamplingParams(task.max_new_tokens, temperature=0.0, seed=run.recipe.seed)
    with _asking(run, stage, name, sampler, task, rows) as asked:
        cases = evaluate_model(
            task, rows, asked, params, workers=run.workers, batch_size=len(rows), **options
        )
    if not isinstance(asked, BestOfN):
        return cases
    return [replace(case, draw=draw) for case, draw in zip(cases, asked.draws, strict=True)]


@contextmanager
def _asking(
    run: Run, stage: Evaluate, name: str, sampler: LocalSampler, task: Task, rows: Sequence[Row]
) -> Iterator[Sampler]:
    """What answers these rows under this name."""
    if name not in stage.challengers:
        yield sampler
    elif _chooses(stage, name):
        selector = _selector(run, stage)
        with _workers(run, selector) as workers:
            yield BestOfN(
                sampler,
                stage.best_of_n,
                stage.temperature,
                lambda prompts, sampled: _scored(selector, task, rows, prompts, sampled, sampler, workers),
            )
    else:
        yield Prompted(sampler, before_of(run.task, stage))


def _chooses(stage: Evaluate, name: str) -> bool:
    return bool(stage.best_of_n) and name == stage.challengers[0]


def _selector(run: Run, stage: Evaluate) -> Selector:
    trained = stage.selector in {one.name for one in run.recipe.stages}
    adapter = run.adapter(stage.selector) if trained else None
    return selector_of(run.recipe, stage, run.task, run.controls, adapter)


def _scored(
    selector: Selector,
    task: Task,
    rows: Sequence[Row],
    prompts: Sequence[Prompt],
    sampled: Sequence[Sequence[Answer]],
    sampler: LocalSampler,
    workers: Workers | None,
) -> list[tuple[list[str], Scores]]:
    """Of each row its samples as the selector reads them, and what it gives them."""
    found = scored(selector.of(task), calls_of(rows, prompts, sampled, sampler.chat), workers)
    return [(texts, [outcome.worth for outcome in outcomes]) for texts, outcomes in found]


@contextmanager
def _workers(run: Run, selector: Selector) -> Iterator[Workers | None]:
    """Where the selector runs: the run's own processes, or some for a selector that is no reward of the run."""
    if selector.given is None:
        yield run.workers
        return
    place = run.recipe.placement
    workers = under_deadline([selector.given], place.reward_workers, place.reward_seconds, run.console)
    try:
        yield workers
    finally:
        if workers is not None:
            workers.close()
