"""tieout run RECIPE.yaml [--out DIR]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from .options import parse
from .quiet import quiet


@dataclass(frozen=True)
class Options:
    """Run a recipe. Repeating the command goes on where the run stopped; a finished stage is not redone."""

    recipe: Annotated[Path, tyro.conf.Positional]
    """A YAML file; see recipes/ for some."""
    out: Path | None = None
    """Run folder; left out: runs/NAME-OF-RECIPE."""
    seed: int | None = None
    """Instead of the recipe's seed."""
    model: str | None = None
    """Instead of the recipe's model."""


def main(arguments: Sequence[str]) -> None:
    """Parse, then run."""
    options = parse(Options, "run", arguments)
    overrides = {k: v for k, v in (("seed", options.seed), ("model", options.model)) if v is not None}
    run_recipe(options.recipe, options.out or Path("runs") / options.recipe.stem, overrides)


def run_recipe(recipe: Path, out: Path, overrides: Mapping[str, Any] | None = None) -> str:
    """Run a recipe file in a folder; returns the verdict."""
    from ..pipelines.align import align
    from ..pipelines.reason import reason
    from ..pipelines.recipe import read_recipe
    from ..pipelines.run import Run
    from ..storage.machine import launched
    from ..storage.runfolder import RunFolder

    quiet()
    console = Console(quiet=launched()[0] > 0)
    if not console.is_terminal:
        console = Console(width=140, quiet=launched()[0] > 0)  # a log file: tables need not fold
    resolved = read_recipe(recipe, overrides)
    with RunFolder(out) as folder:
        run = Run(resolved, folder, console)
        console.print(f"[bold]{resolved.pipeline}[/]  {resolved.model}  {run.task.name}  ->  {out}")
        return {"align": align, "reason": reason}[resolved.pipeline](run)
