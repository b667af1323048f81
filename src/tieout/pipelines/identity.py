"""Identity of a run: its recipe, and what scores its completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..rewards import load_reward
from ..rewards.scoring.reward_identity import reward_identity
from ..storage.identity import Known
from ..tasks import Task
from ..types import Reward
from .kinds import Calibrate, Pairs, Refresh
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
    calibrated = [one for one in recipe.stages if isinstance(one, Calibrate) and one.reward not in stages]
    rewards |= {f"{one.name}: calibrated": load_reward(one.reward) for one in calibrated}
    return {name: one for name, one in rewards.items() if one is not None}
