"""How an evaluate stage asks: a model as it is, with a prompt before each row, or for the best of several samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ...evidence.evaluate import Case
from ...evidence.evaluate import evaluate as evaluate_model
from ...evidence.pool import calls_of, scored
from ...learner import Model
from ...rewards.processes.workers import Workers
from ...rows.checks import with_prompts
from ...samplers import SamplingParams
from ...samplers.api import APISampler
from ...samplers.api.opening import is_api
from ...samplers.best_of_n import BestOfN, Scores
from ...samplers.local.sampler import LocalSampler
from ...samplers.prompted import Prompted
from ...tasks import Task
from ...training.build import under_deadline
from ...training.progress import Bar
from ...types import Answer, Row
from ..alternatives import BasePrompt
from ..challengers import Selector, before_of, known_of, selector_of
from ..kinds import Evaluate
from ..policy import Policy
from ..run import Run

Asked = LocalSampler | APISampler


def policy_of(run: Run, stage: Evaluate, name: str) -> Policy:
    """The model that answers under this name."""
    return run.policy(stage.challenged[name].model if name in stage.challenged else name)


def is_made(run: Run, stage: Evaluate, name: str) -> bool:
    """Whether the model of this name is there to be asked: trained, and its prompt found."""
    trained, own = policy_of(run, stage, name).trained, stage.challenged.get(name)
    return (trained is None or trained.exists()) and (own is None or is_found(run, own.prompt))


def is_found(run: Run, prompt: BasePrompt) -> bool:
    """Whether a prompt is there: none that a stage has yet to find."""
    return not prompt.stage or (run.folder.path / prompt.stage / "done.json").exists()


def identity_of(run: Run, stage: Evaluate, name: str) -> dict[str, Any]:
    """Of a model; of a challenger also how it is made."""
    own = policy_of(run, stage, name).identity
    if name not in stage.challenged:
        return own
    selector = _selector(run, stage) if stage.challenged[name].best_of_n else None
    return {**own, **known_of(stage, name, run.task, selector, run.recipe.seed, run.folder.path)}


def sampler_of(run: Run, stage: Evaluate, name: str, opened: Callable[[], Model], shown: Bar) -> Asked:
    """Of the model that answers. Where a row takes several completions, in an episode or best of N, it shows none."""
    own = stage.challenged.get(name)
    told = None if run.task.environment or (own and own.best_of_n) else shown.advance
    if own and is_api(own.model):
        return run.remote(own.model, told)
    return LocalSampler(opened(), progress=told, drafts=run.recipe.placement.drafts)


def ask(
    run: Run,
    stage: Evaluate,
    name: str,
    sampler: Asked,
    task: Task,
    rows: Sequence[Row],
    params: SamplingParams | None = None,
    **options: Any,
) -> list[Case]:
    """The cases of these rows, asked all at once under this name: greedily, or as `params` say."""
    params = params or SamplingParams(task.max_new_tokens, temperature=0.0, seed=run.recipe.seed)
    own = stage.challenged.get(name)
    with _choosing(run, stage, name, sampler, task, rows) as best:
        asked: Any = best or sampler
        if own is not None and own.prompt.given:
            asked = Prompted(asked, before_of(run.task, own.prompt, stage.name, run.folder.path))
        cases = evaluate_model(
            task, rows, asked, params, workers=run.workers, batch_size=len(rows), **options
        )
    if best is None:
        return cases
    return [replace(case, draw=draw) for case, draw in zip(cases, best.draws, strict=True)]


@contextmanager
def _choosing(
    run: Run, stage: Evaluate, name: str, sampler: Asked, task: Task, rows: Sequence[Row]
) -> Iterator[BestOfN | None]:
    """What chooses among several samples of a row; None for a model that answers once."""
    own = stage.challenged.get(name)
    if own is None or not own.best_of_n:
        yield None
        return
    selector = _selector(run, stage)
    with _workers(run, selector) as workers:
        yield BestOfN(
            sampler,
            own.best_of_n,
            stage.temperature,
            lambda prompts, sampled: _scored(selector, task, rows, sampled, sampler, workers),
        )


def _selector(run: Run, stage: Evaluate) -> Selector:
    trained = stage.selector in {one.name for one in run.recipe.stages}
    adapter = run.adapter(stage.selector) if trained else None
    return selector_of(run.recipe, stage, run.task, run.controls, adapter)


def _scored(
    selector: Selector,
    task: Task,
    rows: Sequence[Row],
    sampled: Sequence[Sequence[Answer]],
    sampler: Asked,
    workers: Workers | None,
) -> list[tuple[list[str], Scores]]:
    """Of each row its samples as the selector reads them, and what it gives them. It is told the row's own prompt."""
    chat = sampler.chat if isinstance(sampler, LocalSampler) else None
    prompts = [row["prompt"] for row in with_prompts(rows)]
    found = scored(selector.of(task), calls_of(rows, prompts, sampled, chat), workers)
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
