"""What a run is known by: what is in its identity, what is not, and what may differ when it is resumed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tieout.config.fields import from_plain
from tieout.errors import InputError
from tieout.learner import AdapterConfig, LearnerConfig
from tieout.methods import DPO, GRPO, PPO, SFT
from tieout.pipelines.reading import make_recipe
from tieout.storage.identity import differences, refuse_changes
from tieout.storage.runfolder import RunFolder, Stage
from tieout.training.guards import Guards
from tieout.training.placement import Placement
from tieout.training.schedule import Schedule
from tieout.training.spec import EvalPolicy, TrainSpec, identity

ELSEWHERE = Placement(
    "cuda",
    "http://127.0.0.1:8000",
    7,
    99.0,
    3,
    ("tensorboard",),
    True,
    "http://127.0.0.1:8123",
    "served",
    "server",
)


def made_of(**changes: Any) -> dict[str, Any]:
    return identity(TrainSpec(SFT(), **changes))


def test_every_field_of_the_place_may_differ() -> None:
    default = Placement()
    assert all(getattr(default, f.name) != getattr(ELSEWHERE, f.name) for f in dataclasses.fields(Placement))
    assert made_of() == made_of(placement=ELSEWHERE)


def test_a_place_is_left_out_by_its_type_wherever_it_stands() -> None:
    @dataclass(frozen=True)
    class Part:
        beta: float = 0.1
        computed_on: Placement = field(default_factory=Placement)

    @dataclass(frozen=True)
    class Whole:
        parts: tuple[Part, ...] = (Part(),)
        named: dict[str, Part] = field(default_factory=lambda: {"a": Part()})
        where: Placement = field(default_factory=Placement)

    assert identity(Whole()) == {"parts": [{"beta": 0.1}], "named": {"a": {"beta": 0.1}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": SFT(learning_rate=0.5)}, "method.learning_rate: 0.0002 -> 0.5"),
        ({"method": DPO()}, 'method.name: "SFT" -> "DPO"'),
        ({"model": "org/other"}, 'model: "tieout-base" -> "org/other"'),
        ({"adapter": AdapterConfig(rank=8)}, "adapter.rank: null -> 8"),
        ({"learner": LearnerConfig(weight_decay=0.1)}, "learner.weight_decay: 0.0 -> 0.1"),
        ({"schedule": Schedule("cosine")}, 'schedule.kind: "linear" -> "cosine"'),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"guards": Guards(kl=3.0)}, "guards.kl: 15.0 -> 3.0"),
        ({"evaluation": EvalPolicy(eval_steps=5)}, "evaluation.eval_steps: 0 -> 5"),
    ],
)
def test_whatever_else_changes_is_refused_with_was_and_is(changes: dict[str, Any], said: str) -> None:
    now = identity(TrainSpec(**{"method": SFT(), **changes}))
    lines = differences(made_of(), now)
    assert said in lines
    with pytest.raises(ValueError, match=r"here is of another run; what changed \(was -> is\):"):
        refuse_changes(lines, "here")


def test_a_model_is_known_by_content_and_a_hub_id_by_name(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(tiny_model("llama"), here)
    before = made_of(model=str(here))
    assert str(here) not in str(before)
    here.rename(there)
    assert made_of(model=str(there)) == before
    (there / "README.md").write_text("about it", encoding="utf-8")
    assert made_of(model=str(there)) == before
    weights = there / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert made_of(model=str(there))["model"] != before["model"]
    assert made_of(model="org/name")["model"] == "org/name"
    scored = [identity(TrainSpec(PPO(reward_model=x)))["method"]["reward_model"] for x in (str(there), "")]
    assert scored == [made_of(model=str(there))["model"], ""]


def test_the_adapter_that_is_started_from_is_known_by_content(tmp_path: Path) -> None:
    for name, weight in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}", encoding="ascii")
        (tmp_path / name / "adapter_model.safetensors").write_bytes(weight)
    a, b, c = (made_of(start=tmp_path / name) for name in "abc")
    assert a == b
    assert [line.split(":")[0] for line in differences(a, c)] == ["start"]


def test_epochs_may_grow_and_nothing_else_may() -> None:
    def stages(*methods: Any) -> dict[str, Any]:
        return {"stages": [identity(TrainSpec(method)) for method in methods]}

    was = stages(SFT(epochs=1.0), DPO(epochs=2.0))
    assert differences(was, stages(SFT(epochs=3.0), DPO(epochs=2.0))) == []
    assert differences(was, stages(SFT(epochs=1.0), DPO(epochs=1.0, beta=0.2))) == [
        "stages[1].method.epochs: 2.0 -> 1.0",
        "stages[1].method.beta: 0.1 -> 0.2",
    ]
    assert len(differences(was, stages(SFT(epochs=1.0)))) == 1


def test_a_function_in_a_method_is_known_by_name() -> None:
    @dataclass(frozen=True)
    class Shaped(GRPO):
        shape: Callable[[float], float] = abs

    assert identity(TrainSpec(Shaped()))["method"]["shape"] == "abs"
    assert identity(TrainSpec(Shaped()))["method"]["name"] == "Shaped"


def test_a_place_that_cannot_be_is_refused() -> None:
    for options, said in (
        ({"reward_workers": -1}, "reward_workers is -1"),
        ({"save_steps": -1}, "save_steps is -1"),
        ({"reward_seconds": 0.0}, "reward_seconds is 0.0"),
        ({"trackers": ["wandbb"]}, "no tracker 'wandbb'; did you mean 'wandb'"),
    ):
        with pytest.raises(ValueError, match=said):
            from_plain(Placement, options, "recipe.yaml")


def without(values: Any, name: str) -> Any:
    """Plain values as a version that did not know this option would have written them."""
    if isinstance(values, dict):
        return {key: without(value, name) for key, value in values.items() if key != name}
    return [without(value, name) for value in values] if isinstance(values, list) else values


NEW_OPTIONS = [
    ({"evaluation": EvalPolicy(eval_steps=5)}, "eval_steps"),
    ({"learner": LearnerConfig(weight_decay=0.1)}, "weight_decay"),
    ({"seed": 3}, "seed"),
    ({"guards": Guards(kl=3.0)}, "guards"),
]


@pytest.mark.parametrize(("changes", "option"), NEW_OPTIONS)
def test_an_option_that_a_run_does_not_know_may_have_its_default_and_nothing_else(
    changes: dict[str, Any], option: str
) -> None:
    was = without(made_of(), option)
    assert option not in str(was)
    assert differences(was, made_of()) == []
    assert [line.split(":")[0].split(".")[-1] for line in differences(was, made_of(**changes))] == [option]


def test_an_option_that_is_gone_is_a_difference() -> None:
    assert differences({**made_of(), "older": 1}, made_of()) == ["older: 1 -> (absent)"]


def test_a_stage_that_an_earlier_version_has_done_is_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.begin(without(made_of(), "weight_decay"))
    (tmp_path / "kept").write_text("what it has trained")
    stage.finish(without(made_of(), "weight_decay"))
    assert stage.is_done(made_of())
    assert not stage.is_done(made_of(learner=LearnerConfig(weight_decay=0.1)))
    stage.begin(made_of())
    assert (tmp_path / "kept").exists()


def test_a_run_of_an_earlier_version_is_resumed_with_options_it_does_not_know(tmp_path: Path) -> None:
    """In run.json, of the recipe and of its stages; not with another value of them."""
    plain = {"task": "numeric_qa", "stages": [{"train": "sft"}, {"evaluate": {}}]}
    recipe = make_recipe(plain, "here")
    with RunFolder(tmp_path) as folder:
        folder.record(recipe.identity(), {}, recipe.placement)
    run, new = (
        tmp_path / "run.json",
        ("long_rows", "chat_template_kwargs", "general_kl", "max_test", "guards"),
    )
    old = json.loads(run.read_text())
    for name in new:
        old["identity"] = without(old["identity"], name)
    run.write_text(json.dumps(old))
    for changes in ({"long_rows": "drop"}, {"guards": {"kl": 1.0}}):
        other = make_recipe({**plain, **changes}, "here")
        with RunFolder(tmp_path) as folder, pytest.raises(InputError, match=next(iter(changes))):
            folder.record(other.identity(), {}, other.placement)
    with RunFolder(tmp_path) as folder:
        folder.record(recipe.identity(), {}, recipe.placement)
    assert set(new) <= set(str(json.loads(run.read_text())["identity"]).replace("'", " ").split())
