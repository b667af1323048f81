"""tieout demo [align|reason|rlhf|feedback|style|summaries|wordle|code|filings|derive|rag] [--out DIR]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from .options import parse
from .run import run_recipe

RECIPES = Path(__file__).parent.parent / "pipelines" / "recipes"


@dataclass(frozen=True)
class Options:
    """Train a small model on statements, notes, calls, passages, games or code, and show what it gained, on a CPU."""

    recipe: Annotated[
        Literal[
            "align",
            "reason",
            "rlhf",
            "feedback",
            "style",
            "summaries",
            "wordle",
            "code",
            "filings",
            "derive",
            "rag",
        ],
        tyro.conf.Positional,
    ] = "align"
    """align: SFT, preferences, DPO. reason: SFT, GRPO. rlhf: SFT, reward model, PPO. feedback: SFT, KTO.
    style, of notes: DPO next to reward model, PPO, refresh, PPO, from the same preferences.
    summaries, of calls: SFT, GRPO with a reward that has a hole, GRPO with the whole reward.
    wordle: SFT, GRPO by turns, with a model whose tokens are letters.
    code, scored by tests: SFT on few programs, rejection sampling, GRPO on specifications that have none.
    filings, in the print of the SEC: the same, from few statements read and many with figures to check.
    derive, of measures: the same, with <think> and <answer>, and a program that does the arithmetic.
    rag, questions over passages: the same, of a pretrained model, which is in a package of its own."""
    out: Path | None = None
    """Run folder; left out: runs/demo, or runs/demo-NAME."""
    seed: int = 0
    """Another seed gives another adapter, other samples and another order of the data."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, in place of a value of the recipe; see `tieout run --help`."""
    dry_run: bool = False
    """Print the plan (stages, rows, steps, what is done already), and stop."""


def main(arguments: Sequence[str]) -> None:
    """Parse, then run."""
    options = parse(Options, "demo", arguments)
    torch.set_num_threads(min(4, torch.get_num_threads()))  # matrices this narrow gain nothing from more
    default = Path("runs") / ("demo" if options.recipe == "align" else f"demo-{options.recipe}")
    recipe = RECIPES / f"{options.recipe}.yaml"
    run_recipe(recipe, options.out or default, {"seed": options.seed}, options.set, options.dry_run)
