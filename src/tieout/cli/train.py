"""tieout train METHOD --model DIR_OR_ID --data FILE --out DIR"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from ..errors import InputError
from .options import parse
from .quiet import quiet


@dataclasses.dataclass(frozen=True)
class Options:
    """What every method takes; repeating the command resumes it."""

    out: Path
    """Run folder: run.json, metrics, checkpoints, and the adapter."""
    model: str = "tieout-base"
    """Hub id or folder of a causal model, an adapter to go on from, or the embedded tieout-base."""
    data: Path | None = None
    """Rows: prompt and completion (sft), prompt, chosen and rejected (dpo, orpo, cpo, simpo, reward_model), prompt,
    completions and scores (reward_model), prompt, completion and label (kto), prompt and columns (what samples)."""
    held_out: Path | None = None
    """Rows to evaluate on while training, of the same kind as data. A reward model is measured on them at the end, too;
    left out for it: a tenth of the data, which is then not trained on."""
    task: str | None = None
    """Instead of data: a task's name, or FILE.py:attribute."""
    reward: str | None = None
    """For what samples, with data: a reward's name, FILE.py:function, or reward_model:FOLDER."""
    seed: int = 0
    """Of the adapter, the order of the data and the sampling."""


def main(arguments: Sequence[str]) -> None:
    """Parse with the method's own fields as options, then train."""
    from ..methods import METHODS

    names = ", ".join(METHODS)
    if not arguments or arguments[0] not in METHODS:
        asked = arguments[0] if arguments else ""
        if asked in ("-h", "--help"):
            width = max(map(len, METHODS))
            about = (f"  {name:<{width}}  {_about(method)}" for name, method in METHODS.items())
            print("usage: tieout train METHOD ...\n\nmethods:\n" + "\n".join(about))
            print("\n`tieout train METHOD --help` tells the options")
            return
        print(f"tieout train: no method {asked!r}; there are: {names}", file=sys.stderr)
        sys.exit(2)
    name = arguments[0]
    options: Any = parse(options_type(name), f"train {name}", arguments[1:])
    train(name, options)


def _about(method: type) -> str:
    """The first sentence of what a method says of itself."""
    return (method.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")


def options_type(name: str) -> type:
    """The common options, the method's fields and the adapter's, as one dataclass for the parser."""
    from ..learner import AdapterConfig, LearnerConfig
    from ..methods import METHODS
    from ..training.guards import Guards
    from ..training.schedule import Schedule
    from ..training.spec import EvalPolicy, Placement

    method: Any = METHODS[name]
    flat: Any = tyro.conf.OmitArgPrefixes
    return dataclasses.make_dataclass(
        f"Train{name.upper()}",
        [
            ("run", flat[Options]),
            ("placement", flat[Placement], dataclasses.field(default_factory=Placement)),
            ("evaluation", flat[EvalPolicy], dataclasses.field(default_factory=EvalPolicy)),
            ("method", flat[method], dataclasses.field(default_factory=method)),
            ("adapter", AdapterConfig, dataclasses.field(default_factory=AdapterConfig)),
            ("learner", LearnerConfig, dataclasses.field(default_factory=LearnerConfig)),
            ("schedule", Schedule, dataclasses.field(default_factory=Schedule)),
            ("guards", Guards, dataclasses.field(default_factory=Guards)),
        ],
        namespace={"__doc__": (method.__doc__ or "").strip()},
    )


def train(name: str, parsed: Any) -> None:
    """Check everything, then train into the folder."""
    from ..pipelines.run import check_model
    from ..rows import data_hash
    from ..storage.machine import launched
    from ..storage.runfolder import RunFolder
    from ..training.fit import fit
    from ..training.spec import TrainSpec, identity

    quiet()
    console = Console(quiet=launched()[0] > 0)
    options: Options = parsed.run
    task = rows_for(name, options)
    with RunFolder(options.out) as folder:
        parts = {k: v for k, v in vars(parsed).items() if k != "run"}
        spec = TrainSpec(model=options.model, seed=options.seed, **parts)
        digest = data_hash(task.rows("train"))
        check_model(options.model, {"train": task.rows("train")}, parsed.method.needs.max_new_tokens)
        if (
            options.held_out is not None
            and not spec.evaluation.eval_steps
            and spec.method.needs.rows != "ranking"
        ):
            raise InputError("--held-out is evaluated every --eval-steps steps; give both, or neither")
        asked = {"task": options.task, "reward": options.reward}
        folder.record({**identity(spec), **asked}, {"train": digest}, spec.placement)
        adapter = fit(folder, name, spec, task, console, digest)
    console.print(f"adapter: {adapter}", highlight=False)


KINDS = {
    "sft": "demonstration",
    "reward_model": "ranking",
    "kto": "label",
    **dict.fromkeys(("dpo", "orpo", "cpo", "simpo"), "preference"),
}
"""Method -> what its rows are; methods that are not here sample, and need prompts and a reward."""
COLUMNS = {
    "preference": "prompt, chosen and rejected",
    "ranking": "prompt, chosen and rejected, or prompt, completions and scores",
    "label": "prompt, completion and label",
}


def rows_for(name: str, options: Options) -> Any:
    """The task that the options name: a registered one, or the file's rows as the method needs them."""
    from ..rewards import load_reward
    from ..rewards.scoring.runner import check_reward
    from ..rows import check_rows, read_rows
    from ..tasks import Task, load_task
    from ..tasks.files import hold_out

    if (options.data is None) == (options.task is None):
        raise InputError("give either --data FILE or --task NAME")
    if options.task:
        if KINDS.get(name, "prompt") not in ("prompt", "demonstration"):
            raise InputError(
                f"{name} needs rows that tasks do not have: give --data with {COLUMNS[KINDS[name]]}"
            )
        return _with_held_out(load_task(options.task), options, KINDS.get(name, "prompt"))
    assert options.data is not None
    kind: Any = KINDS.get(name, "prompt")
    rows: Sequence[Any] = check_rows(read_rows(options.data), kind, str(options.data))
    if kind == "ranking":
        if options.held_out is not None:
            test: Sequence[Any] = check_rows(read_rows(options.held_out), kind, str(options.held_out))
        else:
            rows, test = hold_out(rows)
        return Task(options.data.name, lambda split: {"train": rows, "test": test}.get(split, []))
    reward = None
    if kind == "prompt":
        if options.reward is None:
            raise InputError(f"{name} needs a reward: give --reward NAME or FILE.py:function")
        reward = load_reward(options.reward)
        check_reward(reward, [c for c in rows[0] if all(c in row for row in rows)])
    task = Task(options.data.name, lambda split: rows if split == "train" else [], reward)
    return _with_held_out(task, options, kind)


def _with_held_out(task: Any, options: Options, kind: Any) -> Any:
    """The task with the rows of --held-out as its split `validation`."""
    from ..rewards.scoring.runner import check_reward
    from ..rows import check_rows, read_rows

    if options.held_out is None:
        return task
    rows = check_rows(read_rows(options.held_out), kind, str(options.held_out))
    if kind == "prompt" and task.reward is not None:
        check_reward(task.reward, [c for c in rows[0] if all(c in row for row in rows)])
    return dataclasses.replace(task, rows=lambda split: rows if split == "validation" else task.rows(split))
