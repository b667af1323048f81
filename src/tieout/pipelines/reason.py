"""SFT -> GRPO -> evaluate -> gate -> ship."""

from __future__ import annotations

from .calibrated import calibrated
from .conclude import conclude
from .run import Run


def reason(run: Run) -> str:
    """Run the pipeline, or what is left of it; returns the verdict."""
    calibrated(run)
    sft = run.train("sft", run.recipe.sft, start=None)
    grpo = run.train("grpo", run.recipe.grpo, start=sft)
    return conclude(run, {"base": None, "sft": sft, "grpo": grpo}, candidate="grpo", baseline="sft")
