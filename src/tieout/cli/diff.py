"""tieout diff RUN_A RUN_B"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import InputError, TieoutError
from .options import parse

if TYPE_CHECKING:
    from ..evidence.diff import Diff


@dataclass(frozen=True)
class Options:
    """Compare two runs: data by row, configuration by key, reward and code, models, environment, and every figure,
    paired where both ran on the same cases; and say whether re-validation is due.

    Exit status: 0 nothing differs, 1 something does, 2 they cannot be compared.
    """

    first: Annotated[Path, tyro.conf.Positional]
    """The run folder that was approved, or is older."""
    second: Annotated[Path, tyro.conf.Positional]
    """The run folder to compare with it."""
    json: bool = False
    """Print everything as JSON."""


def main(arguments: Sequence[str]) -> None:
    """Parse, compare, print."""
    options = parse(Options, "diff", arguments)
    from ..evidence.diff import diff

    try:
        if options.first.exists() and options.second.exists() and options.first.samefile(options.second):
            raise InputError(f"{options.first} is given twice; expected two runs, the older one first")
        found = diff(options.first, options.second)
    except (TieoutError, OSError) as error:  # 1 says that they differ
        print(f"tieout diff: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if options.json:
        runs = {"first": str(options.first), "second": str(options.second)}
        print(json.dumps({**runs, **found.plain()}, indent=2, ensure_ascii=False))
    else:
        console = Console()
        show(found, console if console.is_terminal else Console(width=140))
    raise SystemExit(0 if found.equal else 1)


def show(found: Diff, console: Console) -> None:
    """Print changes by part, the table of figures, and whether re-validation is due."""
    part = ""
    for change in found.changes:
        if change.part != part:
            console.print(f"[bold]{change.part}[/]")
        part = change.part
        console.print(f"  {change.what}", markup=False, highlight=False, soft_wrap=True)
    if found.numbers.figures:
        console.print(_table(found))
        cases = found.numbers.cases
        said = f"{cases['same']} cases in common, {cases['first']} only in the first, {cases['second']} in the second"
        changed = ", ".join(f"{name} {count}" for name, count in found.numbers.outputs.items())
        console.print(f"{said}; answered differently: {changed}", markup=False, highlight=False)
    for note in found.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{escape(found.verdict)}[/]", highlight=False)
    for reason in found.reasons:
        console.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)


def _table(found: Diff) -> Table:
    title = (
        "mean and 95% interval of each; the second minus the first, paired, where the interval excludes 0: *"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for heading in ("first", "second", "difference", "n"):
        table.add_column(heading, justify="right")
    before = ""
    for figure in found.numbers.figures:
        where = f"{figure.model}, {figure.place}"
        if where != before:
            table.add_row(f"[bold]{escape(where)}[/]")
        before = where
        paired = figure.paired
        difference = escape(_interval(paired, "difference")) + (" *" if figure.moved else "")
        cells = [escape(_interval(one, "mean")) for one in (figure.was, figure.now)]
        table.add_row(f"  {escape(figure.label)}", *cells, difference, f"{paired['n'] or '-'}")
    return table


def _interval(figure: Mapping[str, Any], key: str) -> str:
    if not figure["n"]:
        return "-"
    sign = "+" if key == "difference" else ""
    return f"{figure[key]:{sign}.3f} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"
