"""Checks of a recipe's stages against the rows of the task: whatever would otherwise fail after an hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..chat.long_rows import Fitting
from ..chat.template import Chat
from ..config.attribute import load_attribute, same_function
from ..errors import InputError
from ..evidence.evaluate import check_cases
from ..evidence.gate import check_kept
from ..learner.models.loading import context_of, load_chat
from ..methods import Distill
from ..rewards import load_reward
from ..rewards.library.judge import judges_of
from ..tasks import Task
from ..tasks.files import check_columns
from ..tasks.splits import calibration_rows
from ..training.guards import check_gold
from ..training.reward_models import check_models
from ..training.teachers import check_teachers
from ..types import Row
from .alternatives import OptimizePrompt
from .challengers import check_challengers
from .kinds import Calibrate, Check, Demonstrations, Evaluate, Gate, Pairs, Refresh, Train
from .links import BASE
from .named_rows import part_of
from .recipe import Recipe
from .remote import check_remote
from .searching import check_search
from .training_rows import check_training, uses_general


def check_stages(
    recipe: Recipe,
    task: Task,
    controls: Task | None,
    fitting: Fitting,
    again: Callable[[Evaluate], Sequence[Row]],
    folder: Path,
) -> dict[str, Sequence[Row]]:
    """Refuse what could not run to its end. Returns the rows of stages that name a file of their own.

    Args:
        recipe: with its links written out.
        task: whose rows are trained and measured on.
        controls: the task of the negative controls.
        fitting: of rows into the model's context.
        again: what an evaluate stage asks in other words.
        folder: of the run.
    """
    if not task.rows("train"):
        raise InputError(f"task {task.name!r} has no training rows")
    if not task.rows("test"):
        raise InputError(f"task {task.name!r} has no test rows: nothing could be shown at the end")
    if task.scorer is None:
        raise InputError(f"task {task.name!r} has neither a reward nor an environment to evaluate with")
    if task.reward is not None:
        check_columns(task.reward, task.rows("train"))
        check_models(task.reward, override=recipe.guards.reward_model_override, policy=recipe.model)
    longest, given, reworded = (
        longest_sample(recipe, task),
        dict[str, Sequence[Row]](),
        dict[str, Sequence[Row]](),
    )
    prompted, trained = dict[str, Sequence[Row]](), {BASE, *(stage.name for stage in recipe.stages)}
    for stage in recipe.stages:
        if isinstance(stage, Train):
            rows = check_training(task, stage, fitting)
            if rows is not None and isinstance(stage.method, Distill):
                known = stage.method.taught_by(lambda name: recipe.model if name in trained else name)
                check_teachers(known.needs, recipe.model, rows)
            if stage.method.needs.rewarded:
                check_gold(stage.options.guards, rows or task.rows("train"), task.metrics)
            if rows is not None and part_of(stage.options.data) is None:
                given[stage.name] = rows
        else:
            _needs_reward(stage, task)
        if isinstance(stage, Gate):
            check_kept(stage.policy, task.primary)
        if isinstance(stage, Gate) and (unknown := [name for name in stage.kept if name not in task.metrics]):
            raise InputError(
                f"stage {stage.name!r} keeps {', '.join(unknown)}, which task {task.name!r} does not measure; "
                f"its metrics: {', '.join(task.metrics) or 'none'}"
            )
        if isinstance(stage, Evaluate):
            for split, limit in (("test", stage.max_test), ("ood", stage.max_ood)):
                check_cases(task, task.rows(split)[: limit or None], split)
            more = reworded[f"{stage.name}.consistency"] = again(stage)
            prompted |= check_challengers(recipe, stage, task, controls, more)
        if isinstance(stage, Calibrate):
            _check_calibrated(stage, recipe, task)
        if isinstance(stage, Refresh):
            _check_refresh(stage, task)
        if isinstance(stage, OptimizePrompt):
            check_search(recipe, stage, task)
        if isinstance(stage, Pairs):
            if task.gold is None and {"base", "flawed"} & set(stage.sources):
                raise InputError(
                    f"stage {stage.name!r}: task {task.name!r} has no gold completions to choose; use 'sampled' "
                    "or 'file'"
                )
            if stage.flaws:
                load_attribute(stage.flaws)
            if stage.judge:
                _check_judge(stage, recipe, task)
    check_remote(recipe, task, folder)
    if task.rows("general") and not any(isinstance(s, Train) and uses_general(s) for s in recipe.stages):
        raise InputError("general rows are given, and no stage trains on them: sft, dpo, cpo and orpo do")
    splits = {split: task.rows(split) for split in ("train", "test", "general")}
    check_model(recipe.model, {**splits, **given, **reworded}, longest)
    check_model(recipe.model, prompted, task.max_new_tokens)
    return given


def longest_sample(recipe: Recipe, task: Task) -> int:
    """The most tokens that are sampled after a prompt."""
    trained = [s for s in recipe.stages if isinstance(s, Train)]
    return max(task.max_new_tokens, *(s.method.needs.max_new_tokens for s in trained), 0)


def _check_judge(stage: Pairs, recipe: Recipe, task: Task) -> None:
    """InputError: the judge asks for a column that rows lack, is of the policy's family, or is its own backstop."""
    judge = load_reward(stage.judge)
    check_columns(judge, task.rows("train"))
    check_models(judge, override=recipe.guards.reward_model_override, policy=recipe.model)
    if stage.backstop not in ("", *task.metrics):
        raise InputError(
            f"stage {stage.name!r}: backstop is {stage.backstop!r}, which is none of the metrics of task "
            f"{task.name!r}: {', '.join(task.metrics) or 'it has none'}"
        )
    backstop = stage.backstop or task.primary
    checked = task.metrics[backstop] if backstop else task.reward
    if same_function(judge, checked) or stage.judge == recipe.reward or (checked and judges_of(checked)):
        raise InputError(
            f"stage {stage.name!r}: judge {stage.judge!r} has no program as its backstop: the task's "
            f"{'metric ' + repr(backstop) if backstop else 'reward'} is a judge, too, or the same. Name a reward that "
            "is a program, or use 'sampled'"
        )


def _check_calibrated(stage: Calibrate, recipe: Recipe, task: Task) -> None:
    """InputError: there is nothing to calibrate, or it asks for a column that rows lack."""
    models = {s.name for s in recipe.stages if isinstance(s, Train) and s.scores_only}
    rows = calibration_rows(task, stage.max_rows)
    if stage.reward and stage.reward not in models:
        check_columns(load_reward(stage.reward), rows)
    if stage.data and not Path(stage.data).is_file():
        raise InputError(f"stage {stage.name!r}: data is {stage.data!r}, and there is no such file")


def _check_refresh(stage: Refresh, task: Task) -> None:
    """InputError: the judge asks for a column that rows lack, or nothing can be sampled for it."""
    if task.environment is not None:
        raise InputError(f"stage {stage.name!r} samples prompts, and task {task.name!r} is an environment")
    if stage.num_prompts < 1 or stage.num_completions < 2:
        raise InputError(
            f"stage {stage.name!r}: {stage.num_prompts} prompts and {stage.num_completions} completions of each; a "
            "comparison needs at least 1 and 2"
        )
    if stage.judge:
        check_columns(load_reward(stage.judge), task.rows("train"))


def _needs_reward(stage: Any, task: Task) -> None:
    """InputError: answers would be chosen or calibrated with a reward that there is not, or that scores games."""
    sampled = isinstance(stage, Pairs) and set(stage.sources) != {"file"}
    sampled = sampled or isinstance(stage, Demonstrations | OptimizePrompt)
    calibrated = isinstance(stage, Calibrate) and not stage.reward
    if task.games and (sampled or isinstance(stage, Calibrate)):
        raise InputError(
            f"stage {stage.name!r} samples one answer to a prompt, and the reward of task {task.name!r} scores "
            "games of several turns: leave it out; `train: rejection_sampling` plays games, and learns from the best"
        )
    if task.reward is None and (
        sampled or calibrated or (isinstance(stage, Check) and stage.calibration.data)
    ):
        what = "completions are chosen" if sampled else "calibration is"
        raise InputError(f"task {task.name!r} has an environment and no reward, which {what} with")


def check_model(name: str, splits: Mapping[str, Sequence[Row]], max_new_tokens: int) -> None:
    """Refuse a tokenizer or template that cannot be trained with, and rows longer than the model's context."""
    chat, context = chat_of(name)
    for split, rows in splits.items():
        chat.check(rows)
        chat.check_lengths(rows, context, max_new_tokens, split)


def chat_of(name: str) -> tuple[Chat, int]:
    """Tokenizer and template of a model, and its context in tokens. InputError: there is no such model."""
    try:
        return load_chat(name), context_of(name)
    except OSError as error:
        raise InputError(
            f"model {name!r} is neither a folder nor a hub id that is reachable or cached: {error}"
        ) from error
