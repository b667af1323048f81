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


def main(arguments: Sequence[str]) -> None:
    """Parse, read, print."""
    options = parse(Options, "show", arguments)
    if not (options.run / "run.json").exists():
        raise InputError(f"{options.run} is no run folder: it has no run.json")
    from ..evidence.report import how_to_evaluate
    from ..pipelines.show import show, stages

    console = Console()
    stages(options.run, console)
    if (options.run / "evidence" / "report.json").exists():
        show(options.run, console)
    else:
        console.print(f"next: {how_to_evaluate(options.run)}", markup=False, highlight=False, soft_wrap=True)
