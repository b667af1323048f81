"""What an evaluated model took to make: what it needs, and the time of the stages that made and trained it."""

from __future__ import annotations

from typing import Any

from ..evidence.leading_to import leading_to
from ..evidence.training import read_stage
from ..review.cost import seconds_of
from ..rewards import load_reward
from ..rewards.library.judge import judges_of
from ..samplers.api.opening import is_api
from ..storage.jsonl import read_json
from .alternatives import OptimizePrompt
from .kinds import Demonstrations, Evaluate, Pairs, Refresh, Stage, Train
from .links import start_name
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
    the reward models that it learned from or is chosen by, and the making of its pairs, demonstrations and prompt;
    `not_counted`: those of these whose time is not on record, or that an API, people or another program worked for, and
    adapters that a stage starts from and no stage made."""
    own = evaluation.challenged.get(name)
    model = own.model if own else name
    selector = evaluation.selector if own and own.best_of_n else ""
    searched = own.prompt.stage if own else ""
    named = dict(leading_to([model, selector, searched], run.recipe.plain()["stages"]))
    stages = [stage for stage in run.recipe.stages if stage.name in named]
    needs = ["an API"] if is_api(model) else ["weights"]
    for stage in stages:
        needs += _needs_of(stage)
    if own and own.prompt.given:
        needs += ["a prompt"] if own.prompt.system or searched else []
        needs += [f"{own.prompt.shots} rows with gold"] if own.prompt.shots else []
    if own and own.best_of_n:
        needs.append(f"{own.best_of_n} samples and {evaluation.selector or 'the reward'} for every answer")
    trained = [run.adapter(stage.name).parent for stage in stages if isinstance(stage, Train | Refresh)]
    makers = [stage for stage in stages if isinstance(stage, Pairs | Demonstrations | OptimizePrompt)]
    took = {stage.name: _making(run, stage) for stage in makers}
    starts = {model, *(start_name(stage, run.recipe) for stage in stages if isinstance(stage, Train))}
    return {
        "needs": list(dict.fromkeys(needs)),
        "seconds": sum(seconds_of(read_stage(folder)) for folder in trained)
        + sum(filter(None, took.values())),
        "not_counted": [name for name, seconds in took.items() if seconds is None]
        + [f"the labels of {stage.name}" for stage in stages if isinstance(stage, Refresh)]
        + sorted(name for name in starts if name.endswith("-start")),
    }


def _making(run: Run, stage: Pairs | Demonstrations | OptimizePrompt) -> float | None:
    """Seconds that a stage took to make its rows, or to find its prompt; None: not on record, or others took part."""
    judge, sources = getattr(stage, "judge", ""), getattr(stage, "sources", ())
    scores = [reward for reward in (run.task.reward, judge and load_reward(judge)) if reward]
    others = (stage.start, getattr(stage, "reflection", ""))
    asked = any(map(is_api, others)) or any(map(judges_of, scores))
    done = run.folder.path / stage.name / "done.json"
    if asked or {"file", "ranked"} & set(sources) or not done.exists():
        return None
    seconds: float | None = read_json(done).get("seconds")
    return seconds


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
    if isinstance(stage, OptimizePrompt):
        return [*([f"{stage.reflection} to propose prompts"] if stage.reflection else []), "a reward"]
    return ["labels of samples"] if isinstance(stage, Refresh) else []
