"""Reward models that a policy is trained against: refuse those that failed, watch the drift of the others."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..rewards.library.judge import judges_of
from ..rewards.library.reward_model import ModelReward, models_in
from ..storage.jsonl import read_json, read_jsonl
from ..tasks import Task
from ..types import Group, Reward
from ..vetting.records import REPORT, ROWS
from .alarms.memory import Monitor

DRIFT = "reward_drift"
"""Metric: share of the scores on the policy's samples outside what the reward model gave to its held-out pairs."""
LEAST_SCORES = 20
"""Fewer held-out scores say too little of their range."""


@dataclass(frozen=True)
class Measurement:
    """What is known of a reward model from its held-out pairs."""

    path: Path
    verdict: str
    reasons: str
    scores: list[float]
    """Of both completions of every held-out pair."""


def measurement(folder: Path) -> Measurement | None:
    """What training or `tieout calibrate` left in the model's folder, or next to the `adapter` of a run."""
    places = [folder, folder.parent] if folder.name == "adapter" else [folder]
    for place in places:
        if not (path := place / REPORT).is_file():
            continue
        report, rows = read_json(path), place / ROWS
        pairs = [row for _, row in read_jsonl(rows)] if rows.is_file() else []
        scores = [
            row[key]
            for row in pairs
            for key in ("chosen_score", "rejected_score")
            if row.get(key) is not None
        ]
        if "verdict" not in report:
            raise InputError(f"{path} has no verdict; measure the reward model again, or remove the file")
        return Measurement(path, str(report["verdict"]), "; ".join(report.get("reasons", [])), scores)
    return None


def check_models(reward: Reward | None, folder: str = "", override: str = "", policy: str = "") -> list[str]:
    """Refuse what should not be trained against, before any work; returns what has to be said of the others.

    Args:
        reward: its models are found in it.
        folder: of a reward model that scores in place of the reward.
        override: why one that failed is trained against anyway; a model may bring a reason of its own.
        policy: the model that is trained: judges should not be of its family.

    Raises:
        InputError: one is a model that writes text, its verdict is fail and there is no reason, or a judge is of the
            policy's family.
    """
    for judge in judges_of(reward).values() if reward is not None else ():
        judge.check_policy(policy)
    models = [ModelReward(folder=Path(folder))] if folder else list(models_in(reward))
    return [said for model in models if (said := _examined(model, model.override or override))]


def check_turns(task: Task, reward_model: str) -> None:
    """Refuse a reward model, a folder or a stage, where a game is played: it scores one answer to a prompt.

    Raises:
        InputError: the task has an environment, and a reward model would score in its place.
    """
    if reward_model and task.environment is not None:
        raise InputError(
            f"task {task.name!r} is played in turns, and a reward model ({reward_model}) scores one answer to a "
            "prompt, not a game: leave it out, or write a reward of the turns (`scored_by`, docs/games.md)"
        )


def _examined(model: ModelReward, override: str) -> str:
    model.check()
    if model.folder is None:
        return (
            "nothing is known of the reward model: it lies in no folder in which it could have been measured"
        )
    found = measurement(model.folder)
    name = f"reward model {model.folder}"
    if found is None:
        return (
            f"{name} was never measured: there is no {REPORT} next to it, so nothing is known of its accuracy, and "
            "its drift is not watched. `tieout calibrate` measures it on pairs"
        )
    if found.verdict == "fail" and not override:
        raise InputError(
            f"{name}: its verdict is fail: {found.reasons} ({found.path}). A policy trained against it learns its "
            "mistakes: train it on more or better pairs. Against it anyway: say why, as guards.reward_model_override "
            '(`--guards.reward-model-override "reason"`), or in Python as reward_model(folder, override="reason")'
        )
    if found.verdict == "fail":
        return f"{name}: its verdict is fail: {found.reasons}; trained against anyway: {override}"
    return f"{name}: its verdict is hold: {found.reasons}" if found.verdict == "hold" else ""


def watch_models(reward: Reward | None) -> list[Monitor]:
    """A monitor that adds `reward_drift`, if any model in the reward has held-out scores to compare with."""
    ranges = []
    for model in models_in(reward):
        found = measurement(model.folder) if model.folder else None
        if found is not None and len(found.scores) >= LEAST_SCORES:
            ranges.append((model, percentiles(found.scores)))
    if not ranges:
        return []

    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        shares = [outside(scores, *limits) for model, limits in ranges if (scores := model.take())]
        if shares:
            metrics[DRIFT] = max(shares)

    return [monitor]


def percentiles(scores: Iterable[float]) -> tuple[float, float]:
    """Their 1st and 99th percentile."""
    ordered = sorted(scores)
    cut = len(ordered) // 100
    return ordered[cut], ordered[-1 - cut]


def outside(scores: Sequence[float], low: float, high: float) -> float:
    """The share of scores below or above the range, or no number."""
    return sum(not low <= score <= high for score in scores) / max(1, len(scores))
