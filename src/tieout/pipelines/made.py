"""What an evaluated model took to make: what it needs, and the time of the stages that trained it."""

from __future__ import annotations

from typing import Any

from ..evidence.training import read_stage
from ..review.cost import seconds_of
from ..samplers.api.opening import is_api
from .kinds import Demonstrations, Evaluate, Pairs, Refresh, Stage, Train
from .links import BASE
from .run import Run

LEARNED = {
    "demonstration": "demonstrations",
    "preference": "pairs",
    "ranking": "pairs",
    "label": "labels",
    "prompt": "prompts",
}
"""Kind of the rows that a method learns from -> what it needs, in words."""


def made_of(run: Run, evaluation: Evaluate, name: str) -> dict[str, Any]:
    """`needs`: words in the order of the stages; `seconds`: rollouts and updates of its train stages, and of those of
    the reward models that it learned from or is chosen by. The time of making pairs and demonstrations is not in it."""
    own = evaluation.challenged.get(name)
    model = own.model if own else name
    selector = evaluation.selector if own and own.best_of_n else ""
    stages = leading_to(run, model.removesuffix("-start"), selector)
    needs = ["an API"] if is_api(model) else ["weights"]
    for stage in stages:
        needs += _needs_of(stage)
    if own and own.prompt.given:
        needs += ["a prompt"] if own.prompt.system else []
        needs += [f"{own.prompt.shots} rows with gold"] if own.prompt.shots else []
    if own and own.best_of_n:
        needs.append(f"{own.best_of_n} samples and {evaluation.selector or 'the reward'} for every answer")
    trained = [run.adapter(stage.name).parent for stage in stages if isinstance(stage, Train | Refresh)]
    return {
        "needs": list(dict.fromkeys(needs)),
        "seconds": sum(seconds_of(read_stage(folder)) for folder in trained),
    }


def leading_to(run: Run, *models: str) -> list[Stage]:
    """The stages that models start from, learn from or are taught by, in their order; none of the base or an API."""
    wanted, found = set(models), list[Stage]()
    for stage in reversed(run.recipe.stages):
        if stage.name in wanted and isinstance(stage, Train | Pairs | Demonstrations | Refresh):
            found.insert(0, stage)
            wanted |= _links(stage)
    return found


def _links(stage: Train | Pairs | Demonstrations | Refresh) -> set[str]:
    if not isinstance(stage, Train):
        return {stage.start, getattr(stage, "reward_model", "")} - {BASE}
    needs = stage.method.needs
    return {stage.options.start, stage.options.data, needs.reward_model, *needs.teachers.values()} - {BASE}


def _needs_of(stage: Stage) -> list[str]:
    if isinstance(stage, Train):
        needs = stage.method.needs
        found = [LEARNED[needs.rows]]
        found += ["a reward"] if needs.rewarded and not needs.reward_model else []
        return found + [f"a teacher ({teacher})" for teacher in needs.teachers.values()]
    if isinstance(stage, Pairs | Demonstrations):
        away = [f"{stage.start} to make them"] if is_api(stage.start) else []
        judge = getattr(stage, "judge", "")
        people = ["people"] if "ranked" in getattr(stage, "sources", ()) else []
        by_reward = [] if people or getattr(stage, "sources", ()) == ("file",) else ["a reward"]
        return [*away, *([judge] if judge else []), *people, *by_reward]
    return ["labels of samples"] if isinstance(stage, Refresh) else []
