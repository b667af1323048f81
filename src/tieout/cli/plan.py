"""tieout plan RECIPE.yaml [--set KEY=VALUE] [--device cuda --memory 24GiB] [--length N]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from .options import parse
from .quiet import quiet
from .run import RecipeOptions, check_first, wide_console


@dataclass(frozen=True)
class Options(RecipeOptions):
    """Plan a recipe: load the model, measure it for about 20 seconds, say what each train stage needs, write nothing.

    Stages that are finished in the run folder are left out.
    """

    device: str | None = None
    """Instead of the recipe's device. cuda with --memory: a device that need not be here."""
    memory: str = ""
    """With --device cuda: its memory, such as 24GiB. The plan is counted from the model's shapes, and time is not
    claimed."""
    length: int = 0
    """Tokens of a sampled completion that the plan assumes; 0: those that the policy writes now, if it is trained
    already and there is time to sample it, else the most that may be sampled."""


def main(arguments: Sequence[str]) -> None:
    """Parse, plan, print."""
    options = parse(Options, "plan", arguments)
    if options.length < 0:
        raise InputError(f"--length is {options.length}; expected a number of tokens, or 0 to measure it")
    check_first(options)
    from ..pipelines.planned import print_planned
    from ..pipelines.planning.elsewhere import memory_of
    from ..pipelines.planning.runs import plan_run
    from ..pipelines.reading import read_recipe
    from ..pipelines.run import Run
    from ..storage.runfolder import RunFolder

    quiet()
    console = wide_console()
    recipe = read_recipe(options.recipe, options.overrides, options.set)
    if recipe.engine != "local":
        if options.memory:
            raise InputError(
                f"--memory counts train stages, and those of this recipe are on {recipe.placement.engine_url}, with "
                "memory of its own: leave it out to plan what is sampled here"
            )
        console.print(
            f"train stages are left out: {recipe.placement.engine_url} computes them, and what a step takes there is "
            "`update_seconds` in metrics.jsonl",
            highlight=False,
        )
    device = options.device or recipe.placement.device
    memory = memory_of(options.memory, device)
    place = replace(recipe.placement, device="cpu" if memory is not None else device)
    with RunFolder(options.folder, writes=False) as folder:
        run = Run(replace(recipe, placement=place), folder, console)
        where = (
            f"a CUDA device of {options.memory}" if memory is not None else f"this machine, {run.precision}"
        )
        print_planned(plan_run(run, options.length, memory, recipe.dtype), where, console)
