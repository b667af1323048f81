"""tieout compare RECIPE.yaml | RUN"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import InputError
from .options import parse
from .run import RecipeOptions, check_first, run_recipe, wide_console


@dataclass(frozen=True)
class Options(RecipeOptions):
    """Compare every model of a recipe on the same held-out rows, in one table, and say which one to take. A recipe is
    run first, as far as it is not done; a run folder is read. In the place of the recipe, the folder will do."""

    price: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """MODEL=PROMPT,ANSWER per million tokens, or MODEL=HOUR/h, for this table. May be given several times."""
    json: bool = False
    """Print the table and the choice as JSON, and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Parse, run what is left, print."""
    options = parse(Options, "compare", arguments)
    console = wide_console()
    folder = options.recipe if options.recipe.is_dir() else options.folder
    if not options.recipe.is_dir():
        _check_gated(options)
        check_first(options)
        run_recipe(options.recipe, folder, options.overrides, options.set)
    report = compared(folder, options.price)
    if options.json:
        print(json.dumps(report["choice"], indent=2))
        return
    print_choice(report, console)


def _check_gated(options: Options) -> None:
    """InputError: the recipe has no report to read the table from."""
    from ..config.yaml_file import read_yaml

    stages = read_yaml(options.recipe).get("stages") or []
    kinds = {key for stage in stages if isinstance(stage, Mapping) for key in stage}
    if missing := [kind for kind in ("evaluate", "gate") if kind not in kinds]:
        raise InputError(
            f"{options.recipe} has no {' and no '.join(missing)} stage, which the table comes from: add "
            "`- evaluate: {}` and `- gate: {}`"
        )


def compared(folder: Path, price: Sequence[str] = ()) -> dict[str, Any]:
    """The report of a run, with its table and choice; worked out again where it has none, or other prices are given."""
    from ..evidence.choice import ChoicePolicy
    from ..evidence.report import arguments_of, evidence_of, from_folder
    from ..evidence.verify import read_current
    from ..samplers.prices import parse_prices

    evidence = evidence_of(folder)
    report = read_current(evidence / "report.json")
    if not price and "choice" in report:
        return report
    given = arguments_of(report)
    given["prices"] = {**given["prices"], **parse_prices(price, list(report["models"]))}
    given["choice"] = given["choice"] or ChoicePolicy()
    return from_folder(evidence, given)


def print_choice(report: Mapping[str, Any], console: Console) -> None:
    """The table, the choice and its reasons."""
    from ..evidence.choice_words import HEADER, table

    choice, settings = report["choice"], report["settings"]
    machine = report["metadata"].get("environment", {}).get("processor", "")
    metric, slice = settings["primary"] or "reward", settings["policy"]["programmatic_slice"] or "all slices"
    shown = Table(
        title=f"{metric} on {slice}, mean and 95% interval; time on {machine}", title_justify="left"
    )
    for i, heading in enumerate(HEADER):
        shown.add_column(heading, justify="left" if i in (0, len(HEADER) - 1) else "right", overflow="fold")
    for row in table(choice):
        shown.add_row(*map(escape, row))
    console.print(shown)
    for row in choice["rows"]:
        if row["made"]:
            console.print(f"{row['model']}: {row['made']}", markup=False, highlight=False, soft_wrap=True)
    first, *others = choice["why"]
    console.print(f"\n{first}", markup=False, highlight=False, soft_wrap=True, style="bold")
    for said in others:
        console.print(f"  {said}", markup=False, highlight=False, soft_wrap=True)
