"""Identity of a run: its recipe, and what scores its completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..rewards import load_reward
from ..rewards.scoring.reward_identity import reward_identity
from ..rows import data_hash, read_rows
from ..rows.sources import is_source
from ..storage.identity import Known
from ..tasks import Task
from ..types import Reward
from .kinds import Calibrate, Check, Evaluate, Pairs, Refresh, Stage, Train
from .recipe import Recipe


def run_identity(recipe: Recipe, rewards: Mapping[str, Reward]) -> Known:
    """The recipe's identity with that of every reward, metric and judge: also what their names do not say, such as the
    text of a judge's file. A run of an earlier version, which did not record it, is taken as it is."""
    known = recipe.identity()
    scored: dict[str, Any] = {name: reward_identity(one) for name, one in rewards.items()}
    return Known({**known, "scored_by": scored}, {**known.usual, "scored_by": scored})


def scoring(recipe: Recipe, task: Task, controls: Task | None) -> dict[str, Reward]:
    """Every reward, metric and judge of a run, by where it scores."""
    rewards = dict[str, Reward | None]()
    for own in filter(None, (task, controls)):
        named = {"reward": own.reward, **{f"part {k}": v for k, v in own.parts.items()}, **own.metrics}
        rewards |= {f"{own.name}: {name}": reward for name, reward in named.items()}
    judges = {one.name: one.judge for one in recipe.stages if isinstance(one, Pairs | Refresh) and one.judge}
    rewards |= {f"{stage}: judge": load_reward(judge) for stage, judge in judges.items()}
    stages = {"", *(one.name for one in recipe.stages)}
    for one in recipe.stages:
        given = {
            "calibrated": one.reward if isinstance(one, Calibrate) else "",
            "reward": one.options.reward if isinstance(one, Train) else "",
            "selector": one.selector if isinstance(one, Evaluate) else "",
        }
        rewards |= {
            f"{one.name}: {as_}": load_reward(name) for as_, name in given.items() if name not in stages
        }
    return {name: one for name, one in rewards.items() if one is not None}


def rows_read(recipe: Recipe, stages: Sequence[Stage]) -> dict[str, str]:
    """Source -> hash of the rows that these stages read at their turn, besides those that they are trained on."""
    found = dict[str, str]()
    for stage in stages:
        for source in _sources(recipe, stage):
            if is_source(source):
                found[source] = data_hash(read_rows(source))
    return found


def _sources(recipe: Recipe, stage: Stage) -> list[str]:
    if isinstance(stage, Train):
        return [stage.options.held_out]
    if isinstance(stage, Check):
        return [stage.calibration.data or ""]
    if isinstance(stage, Calibrate):
        return [stage.data or ""]
    if isinstance(stage, Refresh):  # the reward model learns from its first pairs again
        earlier = next((one for one in recipe.stages if one.name == stage.reward_model), None)
        return [earlier.options.data if isinstance(earlier, Train) else stage.data]
    return []
