"""SFT -> preferences -> DPO -> evaluate -> gate -> ship."""

from __future__ import annotations

from .calibrated import calibrated
from .conclude import conclude
from .preferences import preferences
from .run import Run


def align(run: Run) -> str:
    """Run the pipeline, or what is left of it; returns the verdict."""
    calibrated(run)
    sft = run.train("sft", run.recipe.sft, start=None)
    pairs = preferences(run, sft)
    dpo = run.train("dpo", run.recipe.dpo, start=sft, rows=pairs)
    return conclude(run, {"base": None, "sft": sft, "dpo": dpo}, candidate="dpo", baseline="sft")
