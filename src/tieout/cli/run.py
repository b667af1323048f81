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
from .review import with_review


@dataclass(frozen=True)
class RecipeOptions:
    """A recipe, the folder of its run, and values in place of the recipe's."""

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

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.out or Path("runs") / self.recipe.stem

    @property
    def overrides(self) -> dict[str, Any]:
        """Key of the recipe -> what is given in its place, `set` aside."""
        return {k: v for k, v in (("seed", self.seed), ("model", self.model)) if v is not None}


@dataclass(frozen=True)
class Options(RecipeOptions):
    """Run a recipe. Repeating the command resumes the run where it stopped; a finished stage is not redone."""

    dry_run: bool = False
    """Print the plan (stages, rows, steps, what is done already), and stop."""


def main(arguments: Sequence[str]) -> None:
    """Parse, then run."""
    options = parse(Options, "run", arguments)
    check_first(options)
    run_recipe(options.recipe, options.folder, options.overrides, options.set, options.dry_run)


def check_first(options: RecipeOptions) -> None:
    """Refuse what can be told without torch."""
    from ..config.yaml_file import read_yaml
    from ..pipelines.overrides import apply
    from .early import check_recipe

    plain = {**read_yaml(options.recipe), **options.overrides}
    if isinstance(plain.get("stages"), list):
        check_recipe(apply(plain, options.set), str(options.recipe))


def wide_console(quiet: bool = False) -> Console:
    """Where a command prints; in a log file tables need not fold."""
    console = Console(quiet=quiet)
    return console if console.is_terminal else Console(width=140, quiet=quiet)


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
    console = wide_console(quiet=launched()[0] > 0)
    resolved = read_recipe(recipe, overrides, settings)
    if not dry_run and launched()[0] == 0:
        resolved = with_review(resolved, out)
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
