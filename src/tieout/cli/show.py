"""tieout show RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..errors import InputError
from .options import parse


@dataclass(frozen=True)
class Options:
    """Show a run: its stages, the table, the verdict, and the next command."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder."""
    cases: int = 0
    """Also print so many of the candidate's worst cases, episodes turn by turn; of a run without a report, what was
    sampled last, the best and the worst of a prompt."""


def main(arguments: Sequence[str]) -> None:
    """Parse, read, print."""
    options = parse(Options, "show", arguments)
    if options.cases < 0:
        raise InputError(f"--cases is {options.cases}; expected 0 or more")
    if not (options.run / "run.json").exists():
        raise InputError(f"{options.run} is no run folder: it has no run.json")
    from ..evidence.report import how_to_evaluate
    from ..pipelines.show import show, stages
    from ..pipelines.show_cases import print_cases

    console = Console()
    stages(options.run, console)
    if (options.run / "evidence" / "report.json").exists():
        show(options.run, console)
    else:
        console.print(f"next: {how_to_evaluate(options.run)}", markup=False, highlight=False, soft_wrap=True)
    if options.cases:
        print_cases(options.run, options.cases, console)
