"""Examine a recipe: everything that a run would refuse, and what it would not notice, without training or writing."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ...errors import InputError, TieoutError
from ...evidence.leakage import in_words
from ...storage.runfolder import RunFolder
from ...vetting.before_training import examine
from ..challengers import check_searched
from ..kinds import Check, Evaluate
from ..planned import SMALLER, Planned
from ..planning.runs import plan_run
from ..recipe import Recipe
from ..run import Run
from .data import data_findings
from .finding import Finding, found
from .settings import settings_findings
from .text import text_findings

LOOKED = "tieout doctor looks at it itself"


def examine_recipe(recipe: Recipe, plan: bool = True) -> Iterator[Finding]:
    """Every check of a recipe that was read, one after the other; the first failure that stops a run ends it.

    `plan`: load the model and measure what the train stages need.
    """
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        try:
            with RunFolder(Path(place) / "none", writes=False) as folder:
                asked = replace(recipe, accept_leakage=recipe.accept_leakage or LOOKED)
                run = Run(asked, folder, Console(quiet=True))
        except (TieoutError, OSError) as error:
            yield Finding(
                "rows, columns and links", "fail", str(error), "as it says; then `tieout doctor` again"
            )
            return
        sizes = {split: len(run.task.rows(split)) for split in ("train", "test")}
        said = f"{sizes['train']:,} training and {sizes['test']:,} test rows of {run.task.name}"
        yield Finding("rows, columns and links", "pass", f"{said}; {len(recipe.stages)} stages")
        for one in dict.fromkeys(
            str(w.message) for w in warned if "prompts are plain text" in str(w.message)
        ):
            yield Finding("prompts", "warn", one, "as it says")
        yield from data_findings(run.task)
        yield _leaks(run, recipe)
        yield from _searched(run, recipe)
        yield from text_findings(run)
        yield from settings_findings(run)
        yield _reward(run)
        if plan:
            yield from _memory(run)


def _leaks(run: Run, recipe: Recipe) -> Finding:
    leaked = in_words(run.leakage)
    said = f"training rows among held-out rows: {leaked}"
    if recipe.accept_leakage and leaked != "none":
        return Finding("leakage", "warn", said, f"accepted in the recipe: {recipe.accept_leakage}")
    remedy = "take them out of one side; `tieout run --dry-run` names them"
    return found("leakage", said, leaked != "none", remedy)


def _searched(run: Run, recipe: Recipe) -> Iterator[Finding]:
    """Prompts of files that were chosen by rows which the run measures on."""
    for stage in recipe.stages:
        if isinstance(stage, Evaluate):
            for name, one in stage.challenged.items():
                try:
                    check_searched(one.prompt, stage.name, run.task, recipe.accept_leakage)
                except InputError as error:
                    said = f"{stage.name}, {name}: {error}"
                    yield Finding("leakage", "fail", said, "measure on other rows than those of the search")


def _reward(run: Run) -> Finding:
    """Proof and attack, as `tieout train` makes them."""
    if run.task.reward is None:
        return Finding(
            "reward", "warn", "the environment scores: neither proven nor attacked", "test it by hand"
        )
    examined = examine(run.task.reward, run.task.rows("train"), run.task.gold, seed=run.recipe.seed)
    accepted = {
        name for stage in run.recipe.stages if isinstance(stage, Check) for name in stage.attack.accept
    }
    left = [one for one in examined.problems if one.name not in accepted]
    said = f"{examined.reward}: {examined.done}"
    if not examined.problems:
        return Finding("reward", "pass", said)
    shown = "; ".join(one.shown for one in examined.problems)
    if not left:
        return Finding("reward", "warn", f"{examined.reward}: {shown}", "accepted by the check stage")
    names = ", ".join(dict.fromkeys(one.name for one in left))
    remedy = f"mend the reward; or accept it: `check: {{attack: {{accept: [{names}]}}}}`"
    return Finding("reward", "fail", f"{examined.reward}: {shown}", remedy)


def _memory(run: Run) -> Iterator[Finding]:
    """What each train stage needs, as `tieout plan` measures it."""
    if run.recipe.engine != "local":
        yield found("memory", f"not measured: training is on {run.recipe.placement.engine_url}", False, "")
    try:
        planned = plan_run(run)
    except (TieoutError, MemoryError, RuntimeError) as error:
        yield Finding(
            "memory", "fail", f"no plan: {type(error).__name__}: {error}", "a smaller model or batch"
        )
        return
    yield from map(_fits, planned)


def _fits(one: Planned) -> Finding:
    from ...review.cost import duration, gibibytes

    time = (
        "" if one.seconds is None else f"; {'up to ' * (one.at_most or one.longest)}{duration(one.seconds)}"
    )
    said = f"{one.name}: {gibibytes(one.memory)} of {gibibytes(one.available)}{time}"
    largest = max(one.parts.items(), key=lambda part: part[1])[0] if one.parts else ""
    smaller = next(
        (how for name, how in SMALLER.items() if largest.startswith(name)), "smaller micro-batches"
    )
    return found("memory", said, one.fits is not True, smaller, "fail" if one.fits is False else "warn")
