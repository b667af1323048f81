"""A run: a recipe, a folder, and the stages that pipelines are made of. Everything is checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from rich.console import Console

from ..errors import InputError
from ..learner.models.loading import context_of, load_chat
from ..methods import Method
from ..rewards.processes.workers import Workers
from ..rewards.scoring.runner import check_reward
from ..rows import data_hash
from ..storage.runfolder import RunFolder
from ..tasks import Task, load_task
from ..tasks.files import controls_task, files_task
from ..training.build import under_deadline
from ..training.fit import fit
from ..training.spec import Placement, TrainSpec
from ..types import Row
from .recipe import Recipe


class Run:
    """One run of one recipe in one folder."""

    def __init__(self, recipe: Recipe, folder: RunFolder, console: Console) -> None:
        """Read and check all data, then write run.json. Raises ValueError for whatever is wrong."""
        self.recipe, self.folder, self.console = recipe, folder, console
        self.task = self._task()
        self.controls = self._controls()
        self.pairs = list(self.task.rows("pairs")) if recipe.data.pairs else []
        self._check()
        names = ["train", "test", "ood"]
        self.hashes = {name: data_hash(self.task.rows(name)) for name in names}
        self.hashes["pairs"] = data_hash(self.pairs)
        self.hashes["controls"] = data_hash(self.controls.rows("test")) if self.controls else ""
        folder.record(recipe, self.hashes)

    def train(self, name: str, method: Method, start: Path | None, rows: Sequence[Row] | None = None) -> Path:
        """Train one method in a stage of its own; `rows` replace the task's training rows."""
        recipe = self.recipe
        task = self.task if rows is None else with_train_rows(self.task, rows)
        digest = self.hashes["train"] if rows is None else data_hash(rows)
        what = TrainSpec(
            method,
            recipe.model,
            start,
            recipe.adapter,
            recipe.learner,
            recipe.schedule,
            recipe.seed,
            recipe.guards,
            placement=Placement(
                recipe.device, recipe.vllm, recipe.reward_workers, recipe.reward_seconds, recipe.save_steps
            ),
        )
        return fit(self.folder, name, what, task, self.console, digest)

    @cached_property
    def workers(self) -> Workers | None:
        """Where the rewards of samples and evaluations run, under a deadline."""
        controls = [self.controls.reward] if self.controls else []
        rewards = [self.task.reward, *self.task.metrics.values(), *controls]
        count, seconds = self.recipe.reward_workers, self.recipe.reward_seconds
        return under_deadline([r for r in rewards if r is not None], count, seconds, self.console)

    def with_gold(self, row: Row) -> Row | None:
        """The row with gold as its completion: the data's own, else the task's, else the answer; None: it has none."""
        if row.get("completion") is not None:
            return row
        if self.task.gold is not None:
            return {**row, "completion": self.task.gold(row)}
        return None if row.get("answer") is None else {**row, "completion": str(row["answer"])}

    def _task(self) -> Task:
        recipe = self.recipe
        if recipe.task:
            if recipe.data.train or recipe.data.test:
                raise InputError(
                    f"task {recipe.task!r} brings its own rows: leave out data.train and data.test"
                )
            task = load_task(recipe.task, recipe.task_options)
            if recipe.data.pairs:
                pairs = files_task(recipe.data, recipe.reward).rows("pairs")
                task = _with_pairs(task, pairs)
        else:
            task = files_task(recipe.data, recipe.reward, recipe.max_new_tokens or 256)
        task = replace(task, max_new_tokens=recipe.max_new_tokens or task.max_new_tokens)
        train = list(task.rows("train"))
        return with_train_rows(task, train[: recipe.max_train] if recipe.max_train else train)

    def _controls(self) -> Task | None:
        if self.recipe.data.controls:
            return controls_task(self.recipe.data.controls)
        return load_task(self.recipe.controls) if self.recipe.controls else None

    def _check(self) -> None:
        """What would otherwise fail after an hour."""
        recipe, task = self.recipe, self.task
        if recipe.adapter.method == "qlora":
            raise InputError(
                "adapter.method is 'qlora': pipelines evaluate, merge and ship over the base in full precision, which "
                "is another model than the one trained over 4 bits. Use 'lora' here, or `tieout train` with "
                "--adapter.method qlora"
            )
        if not task.rows("train"):
            raise InputError(f"task {task.name!r} has no training rows")
        if not task.rows("test"):
            raise InputError(f"task {task.name!r} has no test rows: nothing could be shown at the end")
        if task.scorer is None:
            raise InputError(f"task {task.name!r} has neither a reward nor an environment to evaluate with")
        if task.reward is not None:
            check_reward(task.reward, list(task.rows("train")[0]))
        elif recipe.pipeline == "align" or recipe.calibration.data:
            what = "pairs are" if recipe.pipeline == "align" else "calibration is"
            raise InputError(f"task {task.name!r} has an environment and no reward, which {what} made with")
        if recipe.pipeline == "align":
            sources = recipe.preferences.sources
            if not sources:
                raise InputError("preferences.sources is empty; give sampled, flawed or file")
            if "file" in sources and not self.pairs:
                raise InputError("preferences.sources names 'file': give the pairs as data.pairs")
            if "flawed" in sources and (task.corrupt is None or task.gold is None):
                raise InputError(f"task {task.name!r} makes no flawed completions; use 'sampled' or 'file'")
        check_model(recipe.model, {s: task.rows(s) for s in ("train", "test")}, task.max_new_tokens)


def check_model(name: str, splits: Mapping[str, Sequence[Row]], max_new_tokens: int) -> None:
    """Refuse a tokenizer or template that cannot be trained with, and rows longer than the model's context."""
    try:
        chat, context = load_chat(name), context_of(name)
    except OSError as error:
        raise InputError(
            f"model {name!r} is neither a folder nor a hub id that is reachable or cached: {error}"
        ) from error
    for split, rows in splits.items():
        chat.check(rows)
        chat.check_lengths(rows, context, max_new_tokens, split)


def with_train_rows(task: Task, rows: Sequence[Row]) -> Task:
    """The same task with other training rows."""
    return replace(task, rows=lambda split: rows if split == "train" else task.rows(split))


def _with_pairs(task: Task, pairs: Sequence[Row]) -> Task:
    return replace(task, rows=lambda split: pairs if split == "pairs" else task.rows(split))
