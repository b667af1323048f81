"""The search for a prompt in a recipe: its first prompt, its rows, and what is refused before any work."""

from __future__ import annotations

from ..errors import InputError
from ..prompt_search.candidates import Candidate, seed_candidate
from ..prompt_search.reflective import check_installed
from ..prompt_search.splits import Splits, split_rows
from ..rows.checks import with_prompts
from ..samplers.prompted import check_not_searched
from ..tasks import Task
from .alternatives import OptimizePrompt
from .recipe import Recipe

ACCEPT = '`accept_leakage: "reason"` in the recipe'


def splits_of(task: Task, stage: OptimizePrompt, accept: str) -> tuple[Candidate, Splits]:
    """The prompt to begin with, and training rows to try prompts on and to choose by; evaluate stages measure.

    InputError: too few of them, or one side gives rows of the other away and `accept` is no reason.
    """
    train = list(with_prompts(task.rows("train")))
    measured = with_prompts([*task.rows("test"), *task.rows("ood")])
    first = seed_candidate(stage.system, [*train, *measured])
    limits = (stage.train_rows, stage.validation_rows, 0)
    return first, split_rows(train, [], first.prefix, limits, stage.compared_on, accept, ACCEPT)


def check_search(recipe: Recipe, stage: OptimizePrompt, task: Task) -> None:
    """InputError: rows, budget or reflection model will not do, the task is no single answer, or rows that are measured
    on chose the prompt to begin with."""
    try:
        if task.environment is not None:
            raise InputError(
                f"task {task.name!r} is an environment of several turns; a prompt is searched for one"
            )
        if stage.by == "gepa":
            check_installed()
        first, splits = splits_of(task, stage, recipe.accept_leakage)
        measured = with_prompts([*task.rows("test"), *task.rows("ood")])
        check_not_searched(first.prefix, measured, recipe.accept_leakage, ACCEPT)
        stage.budget_for(len(splits.validation))
    except InputError as error:
        raise InputError(f"stage {stage.name!r}: {error}") from error
