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
from tieout.rewards import load_reward
from tieout.rewards.library.judge import Judge
from tieout.samplers.api import APISampler
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import write_jsonl
from tieout.tasks import Task

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
    run.task = Task("rows", lambda split: [], load_reward("exact"))
    run.adapter = lambda name: Run.adapter(run, name)
    evaluation = next(one for one in given.stages if isinstance(one, Evaluate))
    took = {name: made_of(run, evaluation, name)["seconds"] for name in evaluation.evaluated}
    left_out = {name: made_of(run, evaluation, name)["not_counted"] for name in evaluation.evaluated}
    labels = "the labels of refresh"
    assert left_out["ppo"] == ["pairs", labels], "no time is on record"
    assert left_out["sft"] == []
    write_json(tmp_path / "pairs" / "done.json", {"seconds": 10000.0})
    assert made_of(run, evaluation, "ppo")["seconds"] == 11111
    assert made_of(run, evaluation, "ppo")["not_counted"] == [labels]
    run.task = Task("rows", lambda split: [], Judge(APISampler("m", "http://127.0.0.1:9/v1"), "Brief?"))
    judged = made_of(run, evaluation, "ppo")
    assert (judged["seconds"], judged["not_counted"]) == (1111, ["pairs", labels]), "they wait for its server"
    assert took["base"] == 0
    assert took["sft"] == 1
    assert took["base_best_of_2"] == 11, "the reward model starts from sft"
    assert took["ppo"] == 1111


def test_an_adapter_from_elsewhere_has_not_the_time_of_the_stage_that_starts_from_it(
    recipe: Make, tmp_path: Path
) -> None:
    for name in ("theirs", "sft"):
        (tmp_path / name).mkdir()
    given = recipe([SFT | {"from": str(tmp_path / "theirs")}, {"evaluate": {}}])
    write_jsonl(tmp_path / "sft" / "metrics.jsonl", [{"step": 1, "update_seconds": 8.0}])
    run: Any = SimpleNamespace(recipe=given, folder=SimpleNamespace(path=tmp_path))
    run.adapter, run.task = lambda name: Run.adapter(run, name), Task("rows", lambda split: [])
    evaluation = next(one for one in given.stages if isinstance(one, Evaluate))
    told = {name: made_of(run, evaluation, name) for name in evaluation.evaluated}
    assert {name: one["seconds"] for name, one in told.items()} == {"base": 0, "sft-start": 0, "sft": 8.0}
    assert told["sft-start"]["needs"] == ["weights"]
    assert told["sft-start"]["not_counted"] == told["sft"]["not_counted"] == ["sft-start"]
