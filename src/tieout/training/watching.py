"""The monitors of a run, by what its method needs: the same on the command line, in recipes and in `tieout.trl`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from ..learner import Learner
from ..methods import Method
from ..samplers.local.sampler import LocalSampler
from ..samplers.staleness import StalenessCheck
from ..source import Source
from ..types import Reward
from . import alarms
from .alarms import Adjustments
from .alarms.memory import Monitor
from .audits import FOLDER, auditing
from .guards import Guards, gold_of, said_first, valid_of, watch, watch_given
from .monitors import DEFAULT, kl_to_reference, stop_on_divergence, stop_on_mismatch
from .recalibration import primary_of, recalibration
from .reward_models import watch_models


def _warn(step: int, reason: str) -> None:
    warnings.warn(f"alarm at step {step}: {reason}", stacklevel=2)


def monitors_of(
    method: Method,
    learner: Learner,
    source: Source,
    steps: int,
    *,
    guards: Guards | None = None,
    gold: Reward | None = None,
    folder: Path | None = None,
    adjustments: Adjustments | None = None,
    say: Callable[[int, str], None] = _warn,
) -> list[Monitor]:
    """What a run measures, and the alarms on it.

    Args:
        method: decides by its needs what is watched.
        learner: of the policy.
        source: of its groups.
        steps: of the whole run.
        guards: the limits; the defaults if None.
        gold: of `gold_of`, where workers have loaded it; None: it is looked for.
        folder: for audit sheets, where a judge scores; None writes none.
        adjustments: what alarms may turn, the same that `train` is given.
        say: told of every alarm: the step and the reason.
    """
    guards, adjustments = guards or Guards(), adjustments or Adjustments()
    valid = valid_of(guards, source.task)
    monitors: list[Monitor] = [*DEFAULT, stop_on_divergence(last=steps, say=say)]
    if source.sampler is None:
        return monitors + watch_given(guards, learner, source, method, steps, say)
    if isinstance(source.sampler, StalenessCheck | LocalSampler):
        monitors.append(source.sampler.monitor)
    monitors += [stop_on_mismatch(), *(watch_models(source.task.reward) if method.needs.rewarded else [])]
    if learner.model.has_reference:
        monitors.append(kl_to_reference(learner))
    scored = method.needs.rewarded
    gold = gold or (gold_of(guards, source.task) if scored else None)
    monitors += watch(guards, gold, source.workers, adjustments, say, valid)
    if guards.act == "off" or not scored:
        return monitors
    if guards.calibration_steps and primary_of(source.task) is not None:
        detector = recalibration(method, learner, source, guards.calibration_steps)
        monitors.append(alarms.alarm(detector, said_first(guards, say)))
    audit = auditing(source.task.reward, folder / FOLDER, guards.audit_steps) if folder else None
    return [*monitors, audit] if audit else monitors
