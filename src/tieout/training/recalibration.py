"""Calibrate again while a policy trains: the same prompts every so many steps, reward against primary metric.

A reward that is calibrated on early samples can part from the truth on later ones. So the policy is sampled on the same
few prompts of the task's split `calibration`, whose samples are scored by the reward and by the primary metric. Nothing
of it is trained on, and the run is the same with and without it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

from ..errors import TooManyErrors
from ..evidence.stats import Estimate, mean
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
GAP, FALL, CONFIDENCE, MIN_PAIRS = 0.05, 0.15, 3.0, 12
"""Least gap between reward and truth, and least fall of their agreement, that alarm; in standard errors over prompts;
and the pairs that an agreement needs."""


def primary_of(task: Task) -> Reward | None:
    """The metric that the reward is compared with; None: the task names none, or another than its reward scores."""
    if task.primary is None or task.scorer != "reward" or task.reward is task.metrics[task.primary]:
        return None
    return task.metrics[task.primary]


def recalibration(method: Method, learner: Learner, source: Source, every: int) -> Detector:
    """A detector that measures at step 1 and every so many steps, and adds that to the metrics.

    `calibration/score`, `calibration/primary`: means of reward and primary metric on the prompts.
    `calibration/agreement`: share of pairs of samples of one prompt that the reward orders as the primary metric does.
    Alarms where the reward rose since the first measurement and the primary metric did not, or where the agreement
    fell, each beyond chance.
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
        if memory["first"] is None:
            memory["first"] = now
            return None
        return _parted(memory["first"], now, str(name)) or _fallen(memory["first"], now, str(name)) or None

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


def _parted(first: Mapping[str, Any], now: Mapping[str, Any], name: str) -> str:
    """The reward rose on the prompts, and the primary metric did not: beyond chance, over prompts."""
    shared = [key for key in now["prompts"] if key in first["prompts"]]
    if len(shared) < 4:
        return ""
    gains = {
        figure: [now["prompts"][key][figure] - first["prompts"][key][figure] for key in shared]
        for figure in ("score", "primary")
    }
    gaps = [score - primary for score, primary in zip(gains["score"], gains["primary"], strict=True)]
    score, primary, gap = fmean(gains["score"]), fmean(gains["primary"]), fmean(gaps)
    beyond = CONFIDENCE * stdev(gaps) / math.sqrt(len(gaps))
    if score <= 0 or primary > 0 or gap <= max(GAP, beyond):
        return ""
    return (
        f"on the {len(shared)} calibration prompts the reward went {score:+.3f} since step {first['step']} while "
        f"{name} went {primary:+.3f}: the reward pays for something else"
    )


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
