"""Calibrate again while a policy trains: the same prompts every so many steps, reward against primary metric.

A reward that is calibrated on early samples can part from the truth on later ones. So the policy is sampled on the same
few prompts of the task's split `calibration`, whose samples are scored by the reward and by the primary metric. Nothing
of it is trained on, and the run is the same with and without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from ..errors import TooManyErrors
from ..evidence.stats import Estimate, change, mean
from ..learner import Learner
from ..learner.memory import apart
from ..learner.parallel import randomness
from ..methods import Method
from ..rewards.scoring.call import Call
from ..rewards.scoring.runner import score_groups
from ..samplers import SamplingParams
from ..source import Source
from ..tasks import Task
from ..tasks.splits import calibration_rows
from ..types import Group, Reward
from .alarms import Detector
from .alarms.memory import Memory, remembers

NUM_ROWS, NUM_COMPLETIONS = 16, 4
"""Prompts, and samples of each: what one measurement costs."""
GAP, FALL, CONFIDENCE, MIN_PROMPTS, MIN_PAIRS = 0.05, 0.15, 3.0, 4, 12
"""Least gap between reward and truth, and least fall of their agreement, that alarm; the gap in standard errors over
prompts, more than those of a 95% interval since it is looked at often; and the prompts and pairs that it takes."""


def primary_of(task: Task) -> Reward | None:
    """The metric that the reward is compared with; None: the task names none, or another than its reward scores."""
    if task.primary is None or task.scorer != "reward" or task.reward is task.metrics[task.primary]:
        return None
    return task.metrics[task.primary]


def recalibration(method: Method, learner: Learner, source: Source, every: int) -> Detector:
    """A detector that measures at step 1 and every so many steps, and adds that to the metrics.

    `calibration/score`, `calibration/primary`: means of reward and primary metric on the prompts.
    `calibration/agreement`: share of pairs of samples of one prompt that the reward orders as the primary metric does.
    `calibration/{score,primary,gap}_change`: what they moved since the first measurement, paired by prompt; the gap is
    the reward less the primary metric. `_low` and `_high` of agreement and changes: their 95% intervals.
    Alarms where the reward is shown to have risen since the first measurement and the primary metric did not rise, or
    where the agreement fell, each beyond chance.
    """
    task, needs = source.task, method.needs
    room = learner.model.context - needs.max_new_tokens
    rows = [row for row in calibration_rows(task, NUM_ROWS) if len(source.chat.prompt(row["prompt"])) <= room]
    primary, name = primary_of(task), task.primary
    assert primary is not None
    assert source.sampler is not None
    params = SamplingParams(needs.max_new_tokens, needs.temperature, seed=source.seed)
    memory: Memory = {"first": None}

    def measure() -> dict[str, Any] | None:
        drawn = randomness.state(learner.model.device)
        try:
            source.sampler.load(learner)  # type: ignore[union-attr]
            with apart(learner.model.device):
                groups = source.over(rows).rollout(rows, NUM_COMPLETIONS, params)
        except TooManyErrors as error:
            warnings.warn(
                f"step {learner.step}: the calibration could not be repeated: {error}", stacklevel=2
            )
            return None
        finally:
            randomness.restore(drawn, learner.model.device)
        calls = [Call.of_group(group) for group in groups]
        truths = [[o.worth for o in own] for own in score_groups(primary, calls, source.workers)]
        return _figures(rows, groups, truths)

    @remembers(memory)
    def detect(step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> str | None:
        if not rows or (step != 1 and step % every) or (now := measure()) is None or not now["prompts"]:
            return None
        now["step"] = step
        if isinstance(metrics, MutableMapping):
            for figure in ("score", "primary"):
                metrics[f"calibration/{figure}"] = fmean(own[figure] for own in now["prompts"].values())
            if now["agreement"] is not None:
                metrics["calibration/agreement"] = now["agreement"]["value"]
                for end in ("low", "high"):
                    metrics[f"calibration/agreement_{end}"] = now["agreement"][end]
        if memory["first"] is None:
            memory["first"] = now
            return None
        moved = _changes(memory["first"], now)
        if isinstance(metrics, MutableMapping):
            metrics.update(_named(moved))
        since = memory["first"]["step"]
        return _parted(moved, since, str(name)) or _fallen(memory["first"], now, str(name)) or None

    return detect


def _figures(
    rows: Sequence[Any], groups: Sequence[Group], truths: Sequence[Sequence[float | None]]
) -> dict[str, Any]:
    """Per prompt the means of reward and truth; and the agreement of their orders, with its interval."""
    place = {id(row): str(i) for i, row in enumerate(rows)}
    prompts: dict[str, dict[str, float]] = {}
    ordered, clusters = list[float](), list[str]()
    for group, own in zip(groups, truths, strict=True):
        both = [(s, t) for s, t in zip(group.scores or [], own, strict=True) if t is not None]
        if not both:
            continue
        where = place[id(group.row)]
        prompts[where] = {"score": fmean(s for s, _ in both), "primary": fmean(t for _, t in both)}
        for (s, t), (other_s, other_t) in combinations(both, 2):
            if t != other_t:
                ahead = (s - other_s) * (1 if t > other_t else -1)
                ordered.append(0.5 if ahead == 0 else float(ahead > 0))
                clusters.append(where)
    agreement: Estimate = mean(ordered, clusters)
    known = {"value": agreement.value, "low": agreement.low, "high": agreement.high, "n": agreement.n}
    return {"prompts": prompts, "agreement": known if ordered else None}


def _changes(first: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Estimate]:
    """What reward, primary metric and their gap moved on the prompts of both measurements; empty if those are few."""
    both = [key for key in now["prompts"] if key in first["prompts"]]
    if len(both) < MIN_PROMPTS:
        return {}
    values = {
        figure: [[one["prompts"][key][figure] for key in both] for one in (now, first)]
        for figure in ("score", "primary")
    }
    values["gap"] = [
        [s - t for s, t in zip(score, primary, strict=True)]
        for score, primary in zip(values["score"], values["primary"], strict=True)
    ]
    return {figure: _change(*own) for figure, own in values.items()}


def _change(now: Sequence[float], first: Sequence[float]) -> Estimate:
    return change(now, first, (min(0.0, *now, *first), max(1.0, *now, *first)))


def _named(moved: Mapping[str, Estimate]) -> dict[str, float]:
    """The changes with their ends, as metrics."""
    found: dict[str, float] = {}
    for figure, own in moved.items():
        ends = {"": own.value, "_low": own.low, "_high": own.high}
        found |= {
            f"calibration/{figure}_change{end}": value for end, value in ends.items() if value is not None
        }
    return found | ({"calibration/prompts": float(moved["gap"].n)} if moved else {})


def _parted(moved: Mapping[str, Estimate], since: int, name: str) -> str:
    """The reward rose on the prompts, and the primary metric did not: beyond chance, over prompts."""
    if not moved:
        return ""
    score, primary, gap = (moved[figure] for figure in ("score", "primary", "gap"))
    least = max(GAP, CONFIDENCE * (gap.standard_error or 0.0))
    if (score.low or 0.0) <= 0 or (primary.value or 0.0) > 0 or (gap.value or 0.0) <= least:
        return ""
    return (
        f"on the {gap.n} calibration prompts the reward went {_signed(score)} since step {since} while "
        f"{name} went {_signed(primary)}: the reward pays for something else"
    )


def _signed(moved: Estimate) -> str:
    return f"{moved.value:+.3f} [{moved.low:+.3f}, {moved.high:+.3f}]"


def _fallen(first: Mapping[str, Any], now: Mapping[str, Any], name: str) -> str:
    """The reward orders the samples as the primary metric does less often than it did, beyond chance."""
    then, own = first["agreement"], now["agreement"]
    if not then or not own or min(then["n"], own["n"]) < MIN_PAIRS:
        return ""
    if then["value"] - own["value"] <= FALL or own["high"] >= then["low"]:
        return ""
    return (
        f"the reward orders {own['value']:.0%} of the pairs of calibration samples as {name} does, and ordered "
        f"{then['value']:.0%} at step {first['step']}: it is no longer calibrated for what the policy writes now"
    )
