"""SFT -> preferences -> DPO -> evaluate -> gate -> ship."""

from __future__ import annotations

from ..learner.parallel.processes import join
from .run import Run
from .stages.attack import attacked
from .stages.calibrate import calibrated
from .stages.evaluate import conclude
from .stages.pairs import preferences


def align(run: Run) -> str:
    """Run the pipeline, or what is left of it; returns the verdict."""
    ranks = join()  # what does not train is done by the first of several processes
    ranks.first(lambda: attacked(run))
    ranks.first(lambda: calibrated(run))
    sft = run.train("sft", run.recipe.sft, start=None)
    pairs = ranks.first(lambda: preferences(run, sft))
    dpo = run.train("dpo", run.recipe.dpo, start=sft, rows=pairs)
    models = {"base": None, "sft": sft, "dpo": dpo}
    verdict: str = ranks.first(lambda: conclude(run, models, candidate="dpo", baseline="sft"))
    return verdict
