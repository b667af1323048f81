"""The time that a model took to make: of everything that was trained for it, reward models too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from small_runs import PPO, REWARD_MODEL, SFT

from tieout.pipelines.kinds import Evaluate
from tieout.pipelines.made import made_of
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import write_jsonl

Make = Callable[..., Recipe]
TOOK = {"sft": 1.0, "reward_model": 10.0, "refresh/reward_model": 100.0, "ppo": 1000.0}


def test_training_of_reward_models_counts(recipe: Make, tmp_path: Path) -> None:
    pairs = {"pairs": {"from": "base"}}
    refresh = {"refresh": {"reward_model": "reward_model", "judge": "exact"}}
    evaluate = {"evaluate": {"best_of_n": 2, "selector": "reward_model"}}
    given = recipe([SFT, pairs, REWARD_MODEL, refresh, PPO, evaluate, {"gate": {}}])
    for place, seconds in TOOK.items():
        (tmp_path / place).mkdir(parents=True)
        rows = [{"step": 1, "collect_seconds": seconds / 4, "update_seconds": 3 * seconds / 4}]
        write_jsonl(tmp_path / place / "metrics.jsonl", rows)
    run: Any = SimpleNamespace(recipe=given, folder=SimpleNamespace(path=tmp_path))
    run.adapter = lambda name: Run.adapter(run, name)
    evaluation = next(one for one in given.stages if isinstance(one, Evaluate))
    took = {name: made_of(run, evaluation, name)["seconds"] for name in evaluation.evaluated}
    left_out = {name: made_of(run, evaluation, name)["not_counted"] for name in evaluation.evaluated}
    assert left_out["ppo"] == ["pairs"], "no time is on record"
    assert left_out["sft"] == []
    write_json(tmp_path / "pairs" / "done.json", {"seconds": 10000.0})
    assert made_of(run, evaluation, "ppo")["seconds"] == 11111
    assert made_of(run, evaluation, "ppo")["not_counted"] == []
    assert took["base"] == 0
    assert took["sft"] == 1
    assert took["base_best_of_2"] == 11, "the reward model starts from sft"
    assert took["ppo"] == 1111
