"""What changes between two halves of a run is named: base, template, code of rewards and methods, versions."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tieout.config.attribute import load_attribute
from tieout.config.code_digest import file_code
from tieout.errors import InputError
from tieout.learner import AdapterConfig, load
from tieout.learner.models.base_parts import base_parts
from tieout.methods import GRPO, SFT
from tieout.pipelines.identity import run_identity, scoring
from tieout.pipelines.reading import read_recipe
from tieout.rewards import load_reward
from tieout.rewards.library.judge import Judge
from tieout.rewards.scoring.combine import combine
from tieout.rewards.scoring.reward_identity import held_by, reward_identity, scored_by_code
from tieout.samplers.api import APISampler
from tieout.samplers.local.sampler import LocalSampler
from tieout.sandbox.pool import ProgramLimits
from tieout.storage.identity import as_stored, differences
from tieout.storage.runfolder import RunFolder
from tieout.tasks import Task
from tieout.training.spec import TrainSpec, identity
from tieout.training.stage import known_as

REWARD = (
    "from rules import limit\n\n\ndef close(completions, **_):\n    return [limit(c) for c in completions]\n"
)

JUDGE = "model: api:{model}\nrubric: 5 is right, 1 is wrong.\n"


@pytest.fixture
def base(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))


@pytest.fixture
def reward(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rules.py").write_text("def limit(c):\n    return float(len(c) < 9)\n")
    (tmp_path / "mine" / "my_reward.py").write_text(REWARD)
    return tmp_path / "mine" / "my_reward.py"


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def other_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 12345.0}))


def other_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")


@pytest.mark.parametrize(
    ("change", "part"), [(other_weights, "weights"), (other_config, "config"), (other_template, "template")]
)
@pytest.mark.parametrize("named", ["base", "adapter"])
def test_a_base_replaced_in_its_folder_is_named_by_its_part(
    base: Path, tmp_path: Path, change: Callable[[Path], None], part: str, named: str
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    spec = TrainSpec(SFT(), model=str({"base": base, "adapter": adapter}[named]))
    was = identity(spec)
    change(base)
    lines = [line.split(":")[0] for line in differences(was, identity(spec))]
    assert f"base.{part}" in lines
    assert not [x for x in ("weights", "config", "template") if x != part and f"base.{x}" in lines]


def test_a_moved_base_is_the_same_and_a_model_by_name_has_no_parts(base: Path, tmp_path: Path) -> None:
    was = base_parts(str(base))
    assert set(was) >= {"weights", "config", "tokenizer", "template"}
    assert base_parts(str(base.rename(tmp_path / "moved"))) == was
    assert base_parts("tieout-base") == base_parts("org/never-downloaded") == {}


def test_a_rewards_code_counts_wherever_it_lies_and_its_comments_do_not(reward: Path, tmp_path: Path) -> None:
    was = file_code(reward)
    reward.write_text("# mine\n\n" + REWARD.replace("[limit", "[limit").replace(":\n", ":  # so\n", 1))
    assert file_code(reward) == was
    moved = reward.parent.rename(tmp_path / "moved") / reward.name
    assert file_code(moved) == was
    (moved.parent / "rules.py").write_text("def limit(c):\n    return float(len(c) < 8)\n")
    assert file_code(moved) != was


@pytest.mark.parametrize("form", ["{}:close", "exact=1.0 {}:close=0.2"])
def test_a_recipe_knows_a_reward_by_its_code(reward: Path, tmp_path: Path, form: str) -> None:
    def known(file: Path) -> Any:
        given = {"train": "sft"}
        data = {"train": f"{file.parent}/train.jsonl"}  # its rows are known by their own hash
        recipe = {"model": "tieout-base", "data": data, "reward": form.format(file), "stages": [given]}
        place = tmp_path / "recipe.yaml"
        place.write_text(json.dumps(recipe))
        return read_recipe(place).identity()

    was = known(reward)
    moved = reward.parent.rename(tmp_path / "moved") / reward.name
    assert differences(was, known(moved)) == []
    moved.write_text(REWARD.replace("limit(c)", "1 - limit(c)"))
    assert [line.split(":")[0] for line in differences(was, known(moved))] == ["code.my_reward.py"]


def test_a_trained_stage_knows_the_code_of_its_reward(reward: Path) -> None:
    loaded = load_reward(f"{reward}:close")
    both = combine({loaded: 1.0, load_reward("exact"): 1.0})
    was = scored_by_code(loaded)
    assert set(was["reward_code"]) == {"my_reward.py"} == set(scored_by_code(both)["reward_code"])
    reward.write_text(REWARD.replace("limit(c)", "1 - limit(c)"))
    assert scored_by_code(load_reward(f"{reward}:close")) != was
    assert "reward_code" not in scored_by_code(load_reward("exact"))  # tieout's own: the version says it


def test_two_files_of_one_name_both_count(reward: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / reward.name
    other.parent.mkdir()
    other.write_text(REWARD)
    spec = {"reward": f"{reward}:close=1.0 {other}:close=0.5"}
    was = identity(spec)["code"]
    for file in (reward, other):
        before = file.read_text()
        file.write_text(REWARD.replace("limit(c)", "1 - limit(c)"))
        assert identity(spec)["code"] != was, file
        file.write_text(before)
    assert identity(spec)["code"] == was


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    return tmp_path / "judge.yaml"


def test_a_stage_knows_the_weights_and_the_judge_of_its_reward(
    judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(weight: float, model: str = "one") -> Any:
        judge.write_text(JUDGE.format(model=model))
        scored = load_reward(f"exact=1.0 judge:{judge}={weight}")
        task = Task("rows", lambda split: [{"prompt": "q", "answer": "a"}], scored)
        return known_as(TrainSpec(GRPO()), task, "", [])

    was = known(0.2)
    assert differences(was, known(0.2)) == []
    (line,) = differences(was, known(0.9))
    assert line.startswith("reward_holds.weights.")
    assert line.endswith("0.2 -> 0.9")
    lines = differences(was, known(0.2, "two"))
    assert 'reward_holds.asked.judge.model: "one" -> "two"' in lines
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:7/v1")
    assert differences(was, known(0.2)) == [], "where it is asked decides no number"
    before = {**was, "reward_holds": {k: v for k, v in was["reward_holds"].items() if k != "asked"}}
    assert differences(before, was) == [], "a run of an earlier version"
    earlier = {name: value for name, value in was.items() if name != "reward_holds"}
    assert differences(earlier, was) == []


def test_a_local_judge_is_known_by_its_weights(tiny_model: Callable[[str], Path]) -> None:
    def known(seed: int) -> Any:
        model = load(str(tiny_model("llama")), AdapterConfig(rank=2), seed=seed)
        return held_by(Judge(LocalSampler(model), "Is it right?"))["reward_holds"]

    was = known(0)
    assert differences(was, known(0)) == []
    (line,) = differences(was, known(1))
    assert line.startswith("asked.judge.adapter: ")


@dataclass
class Least:
    """A reward that is an object."""

    length: int

    def __call__(self, completions: list[str], **_: Any) -> list[float]:
        return [float(len(text) >= self.length) for text in completions]


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ({"words": {"net": 1}}, {"words": {"net": 2}}, "words.net"),
        ({"limits": ProgramLimits()}, {"limits": ProgramLimits(seconds=1.0)}, "limits.seconds"),
        ({"supports": len}, {"supports": sum}, "supports.len"),
        (
            {"judge": Judge(APISampler("m", "http://127.0.0.1:9/v1"), "Brief?")},
            {"judge": Judge(APISampler("n", "http://127.0.0.1:9/v1"), "Brief?")},
            "judge.sampler.model",
        ),
    ],
)
def test_what_is_fixed_of_a_reward_counts_whatever_kind_it_is_of(
    was: dict[str, Any], now: dict[str, Any], said: str
) -> None:
    def known(fixed: dict[str, Any]) -> Any:
        return as_stored(reward_identity(functools.partial(load_reward("exact"), **fixed)))

    assert differences(known(was), known(dict(was))) == []
    assert any(line.startswith(f"options.exact.{said}: ") for line in differences(known(was), known(now)))
    own = as_stored(reward_identity(functools.partial(load_reward("exact"), parts=[object()])))
    assert own["options"]["exact"]["parts"] == ["object"], "no address, which another process has another of"


def test_a_reward_that_is_an_object_is_known_by_its_class_and_fields() -> None:
    assert set(scored_by_code(Least(3))["reward_code"]) == {"Least"}
    (line,) = differences(*(as_stored(reward_identity(Least(length))) for length in (3, 5)))
    assert line.startswith("options.Least.length: ")


def test_a_run_knows_what_the_judges_of_its_stages_say(judge: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a", "answer": "a"}]
    task = Task("rows", lambda split: rows, load_reward("exact"))
    stages = [{"pairs": {"sources": ["judged"], "judge": f"judge:{judge}"}}, {"train": "dpo"}]
    (tmp_path / "recipe.yaml").write_text(json.dumps({"model": "tieout-base", "stages": stages}))

    def known(model: str) -> Any:
        judge.write_text(JUDGE.format(model=model))
        recipe = read_recipe(tmp_path / "recipe.yaml")
        return as_stored(run_identity(recipe, scoring(recipe, task, None)))

    was = known("one")
    assert differences(was, known("one")) == []
    assert 'scored_by.pairs: judge.asked.judge.model: "one" -> "two"' in differences(was, known("two"))
    earlier = {name: value for name, value in was.items() if name != "scored_by"}
    assert differences(earlier, known("two")) == []


def test_a_methods_own_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "my_method.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom tieout.methods import SFT\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(SFT):\n"
        "    extra: float = 0.5\n"
    )
    assert set(identity(TrainSpec(load_attribute(f"{file}:Mine")()))["code"]) == {"my_method.py"}
    assert "code" not in identity(TrainSpec(GRPO()))


def test_other_versions_are_said_when_a_run_is_resumed(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.record({"seed": 0})
    with RunFolder(tmp_path / "run") as folder:
        folder.record({"seed": 0})
    assert not recwarn.list
    known = json.loads((tmp_path / "run" / "run.json").read_text())
    known["environment"]["versions"]["tieout"] = "0.0.1"
    (tmp_path / "run" / "run.json").write_text(json.dumps(known))
    with RunFolder(tmp_path / "run") as folder, pytest.warns(UserWarning, match=r"tieout 0\.0\.1 -> 0\.1\.0"):
        folder.record({"seed": 0})
    with RunFolder(tmp_path / "run") as folder, pytest.raises(InputError, match="seed: 0 -> 1"):
        folder.record({"seed": 1})
