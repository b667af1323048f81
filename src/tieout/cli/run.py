"""tieout run RECIPE.yaml [--out DIR] [--set KEY=VALUE] [--dry-run]"""

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
    """Run a recipe. Repeating the command resumes the run where it stopped; a finished stage is not redone."""

    recipe: Annotated[Path, tyro.conf.Positional]
    """A YAML file; see recipes/ for some."""
    out: Path | None = None
    """Run folder; left out: runs/NAME-OF-RECIPE."""
    seed: int | None = None
    """Instead of the recipe's seed."""
    model: str | None = None
    """Instead of the recipe's model."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, in place of a value of the recipe: model=..., adapter.rank=8, stages.dpo.beta=0.3 (a stage by its name
    or number). May be given several times."""
    dry_run: bool = False
    """Print the plan (stages, rows, steps, what is done already), and stop."""


def main(arguments: Sequence[str]) -> None:
    """Parse, then run."""
    options = parse(Options, "run", arguments)
    overrides = {k: v for k, v in (("seed", options.seed), ("model", options.model)) if v is not None}
    out = options.out or Path("runs") / options.recipe.stem
    run_recipe(options.recipe, out, overrides, options.set, options.dry_run)


def run_recipe(
    recipe: Path,
    out: Path,
    overrides: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    dry_run: bool = False,
) -> str:
    """Run a recipe file in a folder; returns the verdict, empty for one without a gate or for a dry run."""
    from ..pipelines.planning.runs import plan_before
    from ..pipelines.reading import read_recipe
    from ..pipelines.run import Run
    from ..pipelines.stages.execute import execute
    from ..pipelines.stages.plan import print_plan
    from ..storage.machine import launched
    from ..storage.runfolder import RunFolder

    quiet()
    console = Console(quiet=launched()[0] > 0)
    if not console.is_terminal:
        console = Console(width=140, quiet=launched()[0] > 0)  # a log file: tables need not fold
    resolved = read_recipe(recipe, overrides, settings)
    with RunFolder(out, writes=not dry_run) as folder:
        run = Run(resolved, folder, console)
        names = " → ".join(stage.name for stage in resolved.stages)
        console.print(
            f"[bold]{names}[/]  {resolved.model}  {run.task.name}  {out}  {run.precision}", highlight=False
        )
        if dry_run:
            print_plan(run, console)
            return ""
        plan_before(run)
        return execute(run)
