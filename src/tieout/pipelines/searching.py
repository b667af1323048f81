"""The search for a prompt in a recipe: its first prompt, its rows, and what is refused before any work."""

from __future__ import annotations

from ..errors import InputError
from ..prompt_search.candidates import Candidate, seed_candidate
from ..prompt_search.reflective import check_installed
from ..prompt_search.splits import Splits, split_rows
from ..rows.checks import with_prompts
from ..tasks import Task
from .alternatives import OptimizePrompt
from .recipe import Recipe


def splits_of(task: Task, stage: OptimizePrompt, accept: str) -> tuple[Candidate, Splits]:
    """The prompt to begin with, and training rows to try prompts on and to choose by; evaluate stages measure.

    InputError: too few of them, or one side gives rows of the other away and `accept` is no reason.
    """
    train = list(with_prompts(task.rows("train")))
    measured = with_prompts([*task.rows("test"), *task.rows("ood")])
    first = seed_candidate(stage.system, [*train, *measured])
    limits = (stage.train_rows, stage.validation_rows, 0)
    return first, split_rows(train, [], first.prefix, limits, stage.compared_on, accept)


def check_search(recipe: Recipe, stage: OptimizePrompt, task: Task) -> None:
    """InputError: rows, budget or reflection model will not do, or the task is no single answer."""
    try:
        if task.environment is not None:
            raise InputError(
                f"task {task.name!r} is an environment of several turns; a prompt is searched for one"
            )
        if stage.by == "gepa":
            check_installed()
        _, splits = splits_of(task, stage, recipe.accept_leakage)
        stage.budget_for(len(splits.validation))
    except InputError as error:
        raise InputError(f"stage {stage.name!r}: {error}") from error
