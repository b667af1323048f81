"""tieout tasks: list the tasks of the library; tieout tasks NAME: a real row, the options, what it asks and scores."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from .options import parse, task_options

SPLITS = ("train", "calibration", "test", "ood")


@dataclass(frozen=True)
class Options:
    """List the tasks of the library with a line each, or show one with a real row."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A task's name, or FILE.py:attribute; left out: list all."""
    task_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the task: `--task-option path=rows.json`. May be given several times."""


def main(arguments: Sequence[str]) -> None:
    """Parse, list or show."""
    options = parse(Options, "tasks", arguments)
    if options.name:
        show(options.name, task_options(options.name, options.task_option))
        return
    from ..tasks import TASKS

    table = Table()
    for heading in ("task", "what", "options"):
        table.add_column(heading)
    for name in sorted(TASKS):
        table.add_row(name, first_line(name).replace("[", r"\["), ", ".join(options_of(name)))
    Console().print(table)


def first_line(name: str) -> str:
    """What a task of the library is, in one line."""
    return (_module(name).__doc__ or "").partition("\n")[0]


def options_of(name: str) -> dict[str, str]:
    """Option -> its type and default, of a task of the library; empty for one without."""
    from ..tasks import TASKS, Task

    made = getattr(_module(name), TASKS[name].partition(":")[2])
    if isinstance(made, Task):
        return {}
    return {
        key: str(one).partition(":")[2].strip() for key, one in inspect.signature(made).parameters.items()
    }


def show(name: str, given: dict[str, Any]) -> None:
    """Print a task: what its file says, options, sizes of the splits, and the first training row."""
    from ..tasks import TASKS, load_task
    from ..tasks.splits import rows_or_none

    said = Console()
    known = options_of(name) if name in TASKS else {}
    if name in TASKS:
        said.print(
            (_module(name).__doc__ or "").strip() + "\n", markup=False, highlight=False, soft_wrap=True
        )
    for key, kind in known.items():
        said.print(f"--task-option {key}=...  {kind}", markup=False, highlight=False, soft_wrap=True)
    missing = [key for key, kind in known.items() if "=" not in kind and key not in given]
    if missing:
        said.print(
            f"\nA row is shown with {' '.join(f'--task-option {key}=...' for key in missing)}", markup=False
        )
        return
    task = load_task(name, given)
    rows = {split: rows_or_none(task, split) for split in SPLITS}
    sizes = ", ".join(f"{split} {len(own)}" for split, own in rows.items() if own)
    said.print(f"\nrows: {sizes}; scored by {task.primary or task.scorer}", markup=False, highlight=False)
    split, own = next(((split, own) for split, own in rows.items() if own), ("", []))
    if own:
        said.print(f"\nthe first row of {split}:", highlight=False)
        print(json.dumps(own[0], indent=2, ensure_ascii=False, default=str))


def _module(name: str) -> Any:
    from ..tasks import TASKS

    return import_module(TASKS[name].partition(":")[0])
