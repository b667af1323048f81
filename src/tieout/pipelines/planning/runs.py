"""Plans of whole runs, and when a run makes one."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import InputError
from ...learner.models.loading import parameters_of
from ...learner.models.precision import LARGE
from ...storage.machine import launched
from ..kinds import Train
from ..planned import FILE, Planned, keep, print_planned
from ..run import Run
from .elsewhere import plan_elsewhere
from .measure import measure
from .sampled import asked_of, plan_asked
from .work import Work, work_of

BUDGET = 20.0
"""Seconds that all measurements of a plan may take, loading not counted."""
LONG = 600.0
"""A run that is expected to take longer prints its plan first."""


def plan_run(run: Run, length: int = 0, memory: int | None = None, dtype: str = "auto") -> list[Planned]:
    """Plan what a run has yet to train and to sample, in the order of its stages; with `memory`, for a CUDA device that
    is not here, the train stages alone. What a server trains is left out."""
    stages = [s for s in run.recipe.stages if isinstance(s, Train) and run.recipe.engine == "local"]
    stages = [s for s in stages if not (run.folder.path / s.name / "done.json").exists()]
    works = [work_of(run, stage, length) for stage in stages]
    if memory is not None:
        return [plan_elsewhere(work, dtype, memory) for work in works]
    asked = asked_of(run)
    each = BUDGET / max(1, len(works) + len(asked))
    found = [
        *measure(works, each * len(works), run.bases),
        *plan_asked(run, asked, each * len(asked), length),
    ]
    order = [stage.name for stage in run.recipe.stages]
    return sorted(found, key=lambda one: order.index(one.name.partition(",")[0]))


def measure_alone(work: Work) -> Planned:
    """Plan one training on this machine."""
    return measure([work], BUDGET)[0]


def plan_before(run: Run, plan: Callable[[Run], list[Planned]] = plan_run) -> None:
    """Plan a run whose base is large enough for that to be worth it, keep the plan, and print it if the run is long.

    A run that is resumed keeps its first plan.
    """
    if launched()[1] > 1 or (run.folder.path / FILE).exists() or parameters_of(run.recipe.model) < LARGE:
        return
    try:
        planned = plan(run)
    except (InputError, MemoryError, RuntimeError) as error:
        # The run itself may still fit: its stages share one base.
        run.console.print(f"no plan: {type(error).__name__}: {error}", markup=False, highlight=False)
        return
    keep(run.folder, planned)
    if sum(one.seconds or 0.0 for one in planned) > LONG:
        print_planned(planned, f"this machine, {run.precision}", run.console)
