"""tieout demo [align|reason] [--out DIR]"""

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
    """Train the embedded model on finance statements, and show what it gained. Minutes on two CPU cores."""

    pipeline: Annotated[Literal["align", "reason"], tyro.conf.Positional] = "align"
    """align: SFT, preferences, DPO. reason: SFT, GRPO."""
    out: Path | None = None
    """Run folder; left out: runs/demo, or runs/demo-reason."""
    seed: int = 0
    """Another seed gives another adapter, other samples and another order of the data."""


def main(arguments: Sequence[str]) -> None:
    """Parse, then run."""
    options = parse(Options, "demo", arguments)
    torch.set_num_threads(min(4, torch.get_num_threads()))  # matrices this narrow gain nothing from more
    default = Path("runs") / ("demo" if options.pipeline == "align" else "demo-reason")
    run_recipe(RECIPES / f"{options.pipeline}.yaml", options.out or default, {"seed": options.seed})
