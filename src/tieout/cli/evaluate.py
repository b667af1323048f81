"""tieout eval --model MODEL --task TASK"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import InputError
from .options import parse
from .quiet import quiet


@dataclass(frozen=True)
class Options:
    """Score a model on a task or a file, with 95% intervals; several models are compared pairwise, on the same rows."""

    model: tuple[str, ...] = ("tieout-base",)
    """Hub ids, folders of models or adapters, or tieout-base."""
    task: str | None = None
    """A task's name, or FILE.py:attribute."""
    data: Path | None = None
    """Instead of a task: rows with prompt and the columns that the reward asks for."""
    reward: str = "exact"
    """With data: a reward's name, or FILE.py:function."""
    split: str = "test"
    """Of the task."""
    max_rows: int = 0
    """0 takes all."""
    max_new_tokens: int = 0
    """0 takes the task's."""
    reward_workers: int = 2
    """Processes that call the reward under a deadline; 0 calls it in this one, where nothing can stop it."""
    reward_seconds: float = 10.0
    """A reward that takes longer for one completion has failed."""
    out: Path | None = None
    """Write every case with every model's completion and score here, as JSONL."""


def main(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print the table."""
    options = parse(Options, "eval", arguments)
    if (options.task is None) == (options.data is None):
        raise InputError("give either --task NAME or --data FILE")
    quiet()
    from ..evidence.evaluate import PROGRAMMATIC, evaluate, write_cases
    from ..evidence.figures import model_figures, pair_figures
    from ..evidence.gains import gain
    from ..evidence.lines import lines_of
    from ..learner import load
    from ..rewards import load_reward
    from ..rows import check_rows, read_rows
    from ..samplers import SamplingParams
    from ..samplers.local.sampler import LocalSampler
    from ..tasks import Task, load_task
    from ..training.build import under_deadline
    from ..training.progress import bar

    if options.task:
        task = load_task(options.task)
    else:
        given = check_rows(read_rows(options.data or ""), "prompt", str(options.data))
        task = Task(str(options.data), lambda split: given, load_reward(options.reward))
    if task.scorer is None:
        raise InputError(f"task {task.name!r} has neither a reward nor an environment to score with")
    rows = list(task.rows(options.split))[: options.max_rows or None]
    if not rows:
        raise InputError(f"task {task.name!r} has no rows in split {options.split!r}")
    console, cases = Console(), {}
    rewards = [r for r in (task.reward, *task.metrics.values(), *task.parts.values()) if r is not None]
    workers = under_deadline(rewards, options.reward_workers, options.reward_seconds, console)
    for name in options.model:
        model = load(name)
        sampler = LocalSampler(model)
        params = SamplingParams(options.max_new_tokens or task.max_new_tokens, temperature=0.0)
        with bar(console, name, len(rows)) as shown:
            cases[name] = evaluate(
                task,
                rows,
                sampler,
                params,
                slice=options.split,
                batch_size=sampler.batch_size,
                workers=workers,
                progress=lambda done, total: shown.at(done),
            )
    models = {name: {PROGRAMMATIC: model_figures(cases, [], name, PROGRAMMATIC, 0)} for name in cases}
    numbers = [line for line in lines_of(models, task.primary, options.split) if line.track == PROGRAMMATIC]
    table = Table(title=f"{task.name}, {options.split}: mean and 95% interval", title_justify="left")
    table.add_column("")
    for name, tracks in models.items():
        table.add_column(f"{name}, n {tracks[PROGRAMMATIC]['n']}", justify="right")
    for line in numbers:
        table.add_row(line.label, *(_interval(line.of(tracks)) for tracks in models.values()))
    console.print(table)
    for i, one in enumerate(options.model):
        for other in options.model[i + 1 :]:
            pair = pair_figures(cases, [], other, one, PROGRAMMATIC, 0)
            said = f"{other} minus {one}, paired, n={pair['n']}: {gain(pair, task.primary)}"
            console.print(said, markup=False, highlight=False)
    if options.out:
        write_cases(options.out, cases)
        console.print(f"cases: {options.out}", highlight=False)
    judged_by = numbers[0]
    print(json.dumps({name: judged_by.of(tracks)["mean"] for name, tracks in models.items()}))
    for name, own in cases.items():
        if all(case.score is None for case in own):
            reason = next(
                (case.errors["score"] for case in own if "score" in case.errors), "the reward abstained"
            )
            raise InputError(f"no completion of {name} has a score: {reason}")


def _interval(figure: Mapping[str, Any]) -> str:
    """A mean with its interval, or `-` if nothing was scored."""
    if not figure["n"]:
        return "-"
    return escape(f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
