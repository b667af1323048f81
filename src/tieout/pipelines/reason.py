"""SFT -> GRPO -> evaluate -> gate -> ship."""

from __future__ import annotations

from ..learner.parallel.processes import join
from .run import Run
from .stages.attack import attacked
from .stages.calibrate import calibrated
from .stages.evaluate import conclude


def reason(run: Run) -> str:
    """Run the pipeline, or what is left of it; returns the verdict."""
    ranks = join()  # what does not train is done by the first of several processes
    ranks.first(lambda: attacked(run))
    ranks.first(lambda: calibrated(run))
    sft = run.train("sft", run.recipe.sft, start=None)
    grpo = run.train("grpo", run.recipe.grpo, start=sft)
    models = {"base": None, "sft": sft, "grpo": grpo}
    verdict: str = ranks.first(lambda: conclude(run, models, candidate="grpo", baseline="sft"))
    return verdict
