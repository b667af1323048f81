"""Recipes are plain values; whatever is wrong with one is said with its place and its nearest cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import ALIGN, DPO, END, GRPO, KTO, PAIRS, PPO, REWARD_MODEL, SFT

from tieout.config.fields import ConfigError
from tieout.methods import DPO as DPOMethod
from tieout.pipelines.kinds import Evaluate, Gate, Pairs, Train
from tieout.pipelines.reading import make_recipe, read_recipe
from tieout.pipelines.recipe import Recipe

SHIPPED = sorted(
    [
        *Path(__file__).parents[2].glob("recipes/*.yaml"),
        *Path(__file__).parents[2].glob("src/tieout/pipelines/recipes/*.yaml"),
    ]
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.parent.name}/{p.name}")
def test_every_recipe_that_ships_is_valid_and_says_so_again(path: Path) -> None:
    recipe = read_recipe(path)
    assert make_recipe(recipe.plain(), "again") == recipe  # with every default written out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stages: [{train: sft, lerning_rate: 1}]",
            r"stages\[0\] \(train sft\): unknown key 'lerning_rate'; did you mean 'learning_rate'",
        ),
        (
            "stages: [{train: sft}, {train: dpo, betta: 1}]",
            r"r.yaml: stages\[1\] \(train dpo\): unknown key 'betta'; did you mean 'beta'\?",
        ),
        ("stages: [{trian: sft}]", r"stages\[0\] has 'trian'; expected one key of: .*; did you mean 'train'"),
        ("stages: [{train: sft, pairs: {}}]", r"stages\[0\] is 'train' and 'pairs' at once"),
        ("stages: [{train: stf}]", r"stages\[0\] \(train\): no method 'stf'; did you mean 'sft'"),
        ("stages: [evaluate]", r"stages\[0\] is 'evaluate'; .*write `evaluate: \{\}`"),
        ("stages: [{train: sft, epochs: many}]", r"stages\[0\] \(train sft\): 'epochs' is 'many'"),
        (
            "stages: [{train: sft, adapter: {rnak: 4}}]",
            r"\(train sft\): unknown key 'rnak' in 'adapter'; did you mean 'rank'",
        ),
        ("stages: [{train: sft, start: base}]", r"unknown key 'start'; did you mean 'from'"),
        (
            "stages: [{evaluate: {max_tset: 3}}]",
            r"stages\[0\] \(evaluate\): unknown key 'max_tset'; did you mean 'max_test'",
        ),
        (
            "stages: [{check: {attack: {max_row: 3}}}]",
            r"\(check\): unknown key 'max_row' in 'attack'; did you mean 'max_rows'",
        ),
        (
            "stages: [{pairs: , num_completions: 4}]",
            r"\(pairs\): key 'num_completions' is next to 'pairs'; .*indent it",
        ),
        ("stages: [{train: grpo, group_size: 1}]", "at least 2"),
        ("stages: [{check: {proof: {max_rows: -1}}}]", "max_rows is -1; it must be at least 0"),
        ("stages: [{check: {calibration: {max_rows: -1}}}]", "max_rows is -1; it must be at least 0"),
        ("stages: [{calibrate: {max_rows: -2}}]", "max_rows is -2; it must be at least 1"),
        ("stages: [{pairs: {max_prompts: -1}}]", "max_prompts is -1; it must be at least 0"),
        ("stages: [{evaluate: {max_ood: -1}}]", "max_ood is -1; it must be at least 0"),
        ("modle: x\nstages: [{train: sft}]", "unknown key 'modle'; did you mean 'model'"),
        ("device: cpu\nstages: [{train: sft}]", r"unknown key 'device'; did you mean 'placement.device'"),
        ("model: x", "stages is None; expected a list"),
        ("stages: []", r"stages is \[\]; expected a list"),
        (
            "stages: [{train: dpo}]",
            r"stages\[0\] \(train dpo\): dpo learns from preference rows, and nothing gives them",
        ),
        ("stages: [{train: kto}]", "kto learns from label rows, .* data.labels or data.pairs"),
        (
            "stages: [{train: sft}, {train: sft, from: ftf}]",
            r"stages\[1\].*from is 'ftf', .*there are: base, sft",
        ),
        ("stages: [{train: sft}, {train: sft, from: stf}]", "did you mean 'sft'"),
        ("stages: [{train: sft}, {gate: {}}]", r"stages\[1\] \(gate\): there is no evaluate stage before it"),
        ("stages: [{evaluate: {}}, {gate: {}}]", r"no policy was evaluated"),
        ("stages: [{train: sft}, {evaluate: {}}, {ship: {}}]", r"\(ship\): there is no gate before it"),
        ("stages: [{train: sft}, {evaluate: {models: [dpo]}}]", "models is 'dpo', .*there are: base, sft"),
        ("stages: [{train: sft}, {evaluate: {}}, {gate: {candidate: base}}]", "candidate is 'base'"),
        (
            "stages: [{train: sft}, {evaluate: {}}, {gate: {baseline: stf}}]",
            "baseline is 'stf', .*did you mean 'sft'",
        ),
        ("stages: [{pairs: {sources: [file]}}]", "sources names 'file': give the pairs as data.pairs"),
        ("stages: [{train: sft, name: base}]", "a stage cannot be called 'base'"),
        ("stages: [{train: sft, name: a/b}]", "a stage cannot be called 'a/b'"),
        ("stages: [{train: sft, name: a}, {pairs: {name: a}}]", "an earlier stage is called 'a' too"),
        (
            "stages: [{train: ppo, reward_model: rm}]",
            "reward_model is 'rm'; expected a folder, or a stage before it",
        ),
        (
            "guards: {gold: exact}\nstages: [{train: sft}]",
            "guards.gold is 'exact', but no stage trains on samples",
        ),
        ("stages: [{train: sft, guards: {gold: exact}}]", "guards.gold is 'exact', but sft samples nothing"),
        (
            "stages: [{train: distill, teacher: base, guards: {gold: exact}}]",
            "distill samples nothing that is scored",
        ),
        ("stages: [{train: sft, reward: exact}]", "reward is 'exact', but sft samples nothing"),
        (
            "stages: [{train: sft, data: nowhere.jsonl}]",
            "data is 'nowhere.jsonl'; expected a file, or one of data.train",
        ),
        (
            "stages: [{train: sft, data: 'data.train[-2:]'}]",
            r"a part of the rows is data\.train\[FIRST:LAST\], counted from 0",
        ),
        (
            "stages: [{train: sft}, {train: sft, adapter: {method: full}}]",
            "adapter.method is 'full', but it starts from 'sft'",
        ),
        ("stages: [{train: sft}, {train: sft, adapter: {method: qlora}}]", "the bases differ"),
        ("pipeline: aling", "unknown key 'pipeline'"),
        ("stages: [{train: sft}]\nstages: [{train: sft}]", "stages"),
    ],
)
def test_a_wrong_recipe_says_what_was_meant(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipe(path)


def read(plain: dict[str, Any]) -> Recipe:
    return make_recipe({"task": "finance_statements", **plain}, "recipe.yaml")


def test_stages_are_named_and_each_starts_from_the_policy_before_it() -> None:
    stages = [
        SFT,
        PAIRS,
        REWARD_MODEL,
        GRPO,
        PPO,
        {**GRPO, "from": "sft"},
        {**SFT, "name": "last", "from": "base"},
    ]
    recipe = read({"stages": [*stages, {"evaluate": {}}, {"gate": {}}]})
    names = [stage.name for stage in recipe.stages]
    assert names == ["sft", "pairs", "reward_model", "grpo", "ppo", "grpo-2", "last", "evaluate", "gate"]
    starts = {s.name: s.options.start for s in recipe.stages if isinstance(s, Train)}
    assert starts == {
        "sft": "base",
        "reward_model": "sft",
        "grpo": "sft",  # the reward model is not in the chain
        "ppo": "grpo",
        "grpo-2": "sft",
        "last": "base",
    }
    assert recipe.trained("ppo").method.needs.reward_model == "reward_model"
    assert recipe.trained("reward_model").options.data == "pairs"
    evaluate, gate = recipe.stage("evaluate"), recipe.stage("gate")
    assert isinstance(evaluate, Evaluate)
    assert isinstance(gate, Gate)
    assert evaluate.models == ("base", "sft", "grpo", "ppo", "grpo-2", "last")
    assert (gate.candidate, gate.baseline) == ("last", "base")


def test_ppo_may_say_otherwise_and_rows_come_from_the_nearest_pairs() -> None:
    other = {"pairs": {"name": "others", "sources": ["flawed"]}}
    recipe = read({"stages": [SFT, PAIRS, REWARD_MODEL, other, DPO, KTO, {**PPO, "reward": "numeric"}]})
    assert recipe.trained("ppo").method.needs.reward_model == ""
    assert recipe.trained("dpo").options.data == recipe.trained("kto").options.data == "others"
    again = read({"stages": [SFT, PAIRS, other, {**DPO, "data": "pairs"}]})
    assert again.trained("dpo").options.data == "pairs"
    pairs = again.stage("pairs")
    assert isinstance(pairs, Pairs)
    assert pairs.start == "sft"


def test_a_stage_replaces_settings_of_the_recipe_key_by_key() -> None:
    recipe = read(
        {"adapter": {"rank": 4, "alpha": 8}, "stages": [SFT, {**SFT, "adapter": {"dropout": 0.1}, "seed": 5}]}
    )
    first, second = recipe.trained("sft").options, recipe.trained("sft-2").options
    assert (first.adapter.rank, first.adapter.dropout, first.seed) == (4, 0.0, None)
    assert (second.adapter.rank, second.adapter.alpha, second.adapter.dropout, second.seed) == (
        4,
        8.0,
        0.1,
        5,
    )


def test_values_of_the_command_line_are_typed_and_checked_like_the_file(write: Callable[..., Path]) -> None:
    path = write(ALIGN)
    recipe = read_recipe(
        path,
        None,
        ["stages.dpo.beta=0.3", "stages.2.num_completions=6", "adapter.rank=8", "stages.evaluate.max_test=5",
         "stages.dpo.schedule.kind=cosine", "model=tieout-base"],
    )  # fmt: skip
    dpo, pairs, evaluate = recipe.trained("dpo"), recipe.stage("pairs"), recipe.stage("evaluate")
    assert isinstance(dpo.method, DPOMethod)
    assert dpo.method.beta == 0.3
    assert dpo.options.schedule.kind == "cosine"
    assert isinstance(pairs, Pairs)
    assert pairs.num_completions == 6
    assert isinstance(evaluate, Evaluate)
    assert evaluate.max_test == 5
    assert recipe.model == "tieout-base"
    assert recipe.trained("sft").options.adapter.rank == 8
    for setting, message in (
        ("stages.dop.beta=0.3", "no stage 'dop'; did you mean 'dpo'"),
        ("stages.9.beta=0.3", "no stage '9'"),
        ("stages.dpo=3", "expected stages.NAME.KEY"),
        ("stages.dpo.bta=0.3", "unknown key 'bta'; did you mean 'beta'"),
        ("stages.dpo.beta=small", "'beta' is 'small'"),
        ("stages.dpo.beta", "expected KEY=VALUE"),
        ("model.x=1", "'model' is .*which has no keys"),
        ("stages.dpo.beta=[1", "is not valid YAML"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_recipe(path, None, [setting])


def test_a_recipe_of_the_earlier_form_is_told_how_to_write_it_now(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(
        "pipeline: align\ntask: finance_statements\ndevice: cpu\nsave_steps: 7\nattack: {max_rows: 2}\n"
        "sft: {epochs: 2}\npreferences: {num_completions: 4}\ndpo: {beta: 0.3}\n"
        "evaluate: {max_test: 9, num_graded: 5}\n"
    )
    with pytest.raises(ConfigError, match="`pipeline: align` is now a list of stages") as raised:
        read_recipe(path)
    new = yaml.safe_load(str(raised.value).partition("\n\n")[2])
    recipe = make_recipe(new, "new")
    assert [s.name for s in recipe.stages] == ["check", "sft", "pairs", "dpo", "evaluate", "gate", "ship"]
    assert (recipe.placement.device, recipe.placement.save_steps) == ("cpu", 7)
    gate, dpo = recipe.stage("gate"), recipe.trained("dpo").method
    assert isinstance(gate, Gate)
    assert gate.num_graded == 5
    assert isinstance(dpo, DPOMethod)
    assert dpo.beta == 0.3


MINE = '''
from dataclasses import dataclass

from tieout.methods import SFT


@dataclass(frozen=True)
class Mine(SFT):
    """A method of one's own."""

    sharpness: float = 1.0
    """Some setting."""
'''


def test_a_method_of_a_users_own_is_a_stage(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    stage = {"train": f"{tmp_path}/mine.py:Mine", "sharpness": 2.0}
    recipe = read({"stages": [stage, *END]})
    assert [s.name for s in recipe.stages] == ["mine", "evaluate", "gate", "ship"]
    assert vars(recipe.trained("mine").method)["sharpness"] == 2.0
    with pytest.raises(
        ConfigError, match=r"mine.py:Mine\): unknown key 'sharpnes'; did you mean 'sharpness'"
    ):
        read({"stages": [{"train": f"{tmp_path}/mine.py:Mine", "sharpnes": 2.0}]})
    (tmp_path / "clash.py").write_text(MINE.replace("sharpness", "reward"))
    with pytest.raises(ConfigError, match="the method's field 'reward' is a key of every train stage"):
        read({"stages": [{"train": f"{tmp_path}/clash.py:Mine"}]})


def test_a_stage_samples_as_many_tokens_as_the_recipe_says_unless_it_says_itself() -> None:
    stages = [{"train": "sft"}, {"train": "grpo"}, {"train": "grpo", "name": "short", "max_new_tokens": 16}]
    recipe = make_recipe({"max_new_tokens": 320, "stages": stages}, "r.yaml")
    trained = [stage.method for stage in recipe.stages if isinstance(stage, Train)]
    assert [method.needs.max_new_tokens for method in trained] == [0, 320, 16]
