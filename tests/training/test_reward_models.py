"""Reward models as rewards: those that failed are refused in every door, and the drift of the others is watched."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from random_groups import make_learner
from tieout.cli.train import main
from tieout.errors import InputError, StopTraining
from tieout.learner import AdapterConfig
from tieout.learner.checkpoint import save_adapter
from tieout.methods import GRPO, PPO, Method, OnlineDPO
from tieout.rewards.library.reward_model import ModelReward, models_in, reward_model
from tieout.rewards.scoring.combine import combine
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import write_jsonl
from tieout.storage.runfolder import RunFolder
from tieout.training.alarms import Adjustments
from tieout.training.fit import fit
from tieout.training.guards import Guards, watch
from tieout.training.placement import Placement
from tieout.training.reward_models import check_models, measurement, watch_models
from tieout.training.spec import TrainSpec
from tieout.types import Completion, Group
from tiny_task import make_task, spread

ModelFolder = Callable[[str], Path]
FAIL = ("fail", ["agreement 0.600 [0.5, 0.69] on 100 pairs, below the floor of 0.7"])
REASON = "the pairs of the second round come on Monday"


def measured(
    folder: Path, verdict: str, reasons: Sequence[str] = ("so",), scores: Sequence[float] = ()
) -> Path:
    """What training writes next to the adapter of a reward model."""
    write_json(folder.parent / "calibration.json", {"verdict": verdict, "reasons": list(reasons)})
    rows = [
        {"chosen_score": high, "rejected_score": low}
        for high, low in zip(scores[::2], scores[1::2], strict=True)
    ]
    write_jsonl(folder.parent / "rows.jsonl", rows)
    return folder


@pytest.fixture
def trained(tiny_model: ModelFolder, tmp_path: Path) -> Path:
    """The adapter of a reward model, in a run's folder, never measured."""
    folder = tmp_path / "reward" / "adapter"
    save_adapter(make_learner(tiny_model("llama"), head="score"), folder)
    return folder


# ---------------------------------------------------------------- what is refused, and what is said


def test_a_failed_reward_model_is_refused_unless_there_is_a_reason(trained: Path) -> None:
    folder = measured(trained, *FAIL)
    reward = reward_model(folder)
    mixed = combine({reward_(reward): 0.5, spread: 0.5})
    for given in ({"reward": reward}, {"reward": None, "folder": str(folder)}, {"reward": mixed}):
        with pytest.raises(
            InputError, match=r"its verdict is fail: agreement 0\.600 .*below the floor.*say why, as guards"
        ):
            check_models(**given)  # type: ignore[arg-type]
        (said,) = check_models(**given, override=REASON)  # type: ignore[arg-type]
        assert said.endswith(f"; trained against anyway: {REASON}")
    assert check_models(reward_model(folder, override=REASON))[0].endswith(REASON)


def reward_(model: ModelReward) -> Any:
    """A model under a wrapper, as rewards with names of their own are."""

    def named(completions: list[str], prompts: list[Any], **_: Any) -> list[float]:
        return model(completions, prompts)

    named.__wrapped__ = model  # type: ignore[attr-defined]
    return named


def test_hold_warns_pass_says_nothing_and_what_was_never_measured_is_said(trained: Path) -> None:
    (said,) = check_models(reward_model(trained))
    assert "was never measured: there is no calibration.json next to it" in said
    measured(trained, "hold", ["fewer than 50 show nothing"])
    (said,) = check_models(reward_model(trained))
    assert said.endswith("its verdict is hold: fewer than 50 show nothing")
    measured(trained, "pass")
    assert check_models(reward_model(trained)) == []
    assert check_models(spread) == []
    assert check_models(None) == []


def test_a_verdict_is_only_that_of_the_model_itself(tmp_path: Path) -> None:
    """A calibration in the folder above is another model's, unless this is the adapter of that run."""
    (tmp_path / "mine").mkdir()
    measured(tmp_path / "mine", *FAIL)
    assert measurement(tmp_path / "mine") is None
    write_json(tmp_path / "mine" / "calibration.json", {"verdict": "pass", "reasons": []})
    found = measurement(tmp_path / "mine")
    assert found is not None
    assert found.verdict == "pass"
    (tmp_path / "mine" / "calibration.json").write_text("{}")
    with pytest.raises(InputError, match="has no verdict"):
        measurement(tmp_path / "mine")


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_a_model_that_writes_is_no_reward_model_in_words(
    tiny_model: ModelFolder, tmp_path: Path, kind: str
) -> None:
    folder = tiny_model("llama")
    if kind == "adapter":
        folder = tmp_path / "policy"
        save_adapter(make_learner(tiny_model("llama")), folder)
    for given in ({"reward": reward_model(folder)}, {"reward": None, "folder": str(folder)}):
        with pytest.raises(
            InputError, match=r"is a causal language model .*it writes text.*tieout train reward_model"
        ):
            check_models(**given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="it writes text"):
        reward_model(folder)(["x"], ["y"])


# ---------------------------------------------------------------- the doors


@pytest.mark.parametrize("method", ["ppo", "grpo", "online_dpo"])
@pytest.mark.parametrize("option", ["--reward", "--reward-model"])
def test_the_command_refuses_it_before_it_makes_a_folder(
    trained: Path, tiny_model: ModelFolder, tmp_path: Path, method: str, option: str, capsys: Any
) -> None:
    measured(trained, *FAIL)
    data = tmp_path / "prompts.jsonl"
    data.write_text('{"prompt": "say a"}\n{"prompt": "say b"}\n')
    given = {"--reward": f"reward_model:{trained}", "--reward-model": str(trained)}[option]
    arguments = [
        method,
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
        "--model",
        str(tiny_model("llama")),
    ]
    with pytest.raises(InputError, match="its verdict is fail"):
        main([*arguments, option, given])
    assert not (tmp_path / "run").exists()


def test_a_run_against_it_keeps_the_reason_and_may_get_it_later(
    trained: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    measured(trained, *FAIL)
    method = GRPO(reward_model=str(trained), batch_size=2, group_size=2, max_new_tokens=4, epochs=0.4)

    def run(method: Method, **guards: Any) -> str:
        console = Console(record=True, width=200, force_terminal=False)
        spec = TrainSpec(
            method, str(tiny_model("llama")), adapter=AdapterConfig(rank=2), guards=Guards(**guards),
            placement=Placement("cpu"),
        )  # fmt: skip
        with RunFolder(tmp_path / "run") as folder:
            folder.record({"guards": guards}, {})
            fit(folder, "grpo", spec, make_task(), console)
        return console.export_text()

    with pytest.raises(InputError, match="its verdict is fail"):
        run(method, reward_model_override="")
    text = run(method, reward_model_override=REASON)
    assert f"trained against anyway: {REASON}" in text
    (alarm,) = [
        json.loads(line)
        for line in (tmp_path / "run" / "grpo" / "alarms.jsonl").read_text().splitlines()
        if json.loads(line)["step"] == 0
    ]
    assert REASON in alarm["reason"]  # which the report shows
    assert (
        json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["guards"]["reward_model_override"]
        == REASON
    )
    assert "done before" in run(method, reward_model_override=REASON)


# ---------------------------------------------------------------- drift


def told(
    model: ModelReward, steps: Sequence[Sequence[float]], **guards: Any
) -> tuple[list[str], list[float]]:
    """What is said while the model gives these scores, a list a step, and the drift of every step."""
    said: list[str] = []
    seen: list[float] = []
    groups = [
        Group([0], [Completion([1], [True], logprobs=[-1.0], text="a")] * 2, [0.0, 1.0], {"prompt": "p"})
    ]
    monitors = watch_models(combine({reward_(model): 1.0}))
    monitors += watch(Guards(**guards), None, None, Adjustments(), lambda step, reason: said.append(reason))
    for step, scores in enumerate(steps, start=1):
        model.given += scores
        metrics: dict[str, float] = {"entropy": 1.0, "length": 2.0}
        for monitor in monitors:
            monitor(step, groups, metrics)
        seen.append(metrics.get("reward_drift", -1.0))
    return said, seen


HELD_OUT = [i / 100 for i in range(100)]


def test_scores_outside_those_of_the_held_out_pairs_set_off_an_alarm(trained: Path) -> None:
    model = reward_model(measured(trained, "pass", scores=HELD_OUT))
    said, seen = told(model, [[0.5, 0.9]] + [[0.5, 1.7]] * 3)
    assert seen == [0.0, 0.5, 0.5, 0.5]
    (reason,) = said
    assert reason == "reward_drift is 0.5, above 0.2 for 3 steps"
    with pytest.raises(StopTraining, match="reward_drift"):
        told(model, [[-3.0]] * 3, act="stop")


def test_a_policy_within_the_range_sets_off_nothing(trained: Path) -> None:
    model = reward_model(measured(trained, "pass", scores=HELD_OUT))
    said, seen = told(model, [[0.1 + i / 40, 0.3, 0.6, 0.7] for i in range(30)])
    assert said == []
    assert max(seen) == 0.0
    assert told(model, [[9.0]] * 5, reward_drift=0.0)[0] == []  # left out


def test_without_enough_held_out_scores_nothing_is_watched(trained: Path) -> None:
    assert watch_models(reward_model(trained)) == []
    assert watch_models(reward_model(measured(trained, "hold", scores=HELD_OUT[:10]))) == []
    assert watch_models(spread) == []
    assert [
        type(m).__name__ for m in models_in(combine({reward_(reward_model(trained)): 0.5, spread: 0.5}))
    ] == ["PreferenceReward"]


@pytest.mark.parametrize("cls", [PPO, OnlineDPO])
def test_every_run_against_a_reward_model_writes_its_drift(
    trained: Path, tiny_model: ModelFolder, tmp_path: Path, cls: type
) -> None:
    method = cls(reward_model=str(trained), batch_size=2, group_size=2, max_new_tokens=4, epochs=0.4)
    for name, scores, expected in (("near", [-99.0, 99.0] * 20, 0.0), ("far", HELD_OUT[:40], 1.0)):
        measured(trained, "pass", scores=[s + 50 * (name == "far") for s in scores])
        spec = TrainSpec(
            method, str(tiny_model("llama")), adapter=AdapterConfig(rank=2), placement=Placement("cpu")
        )
        with RunFolder(tmp_path / name) as folder:
            fit(folder, "run", spec, make_task(), Console(quiet=True))
        lines = [json.loads(x) for x in (tmp_path / name / "run" / "metrics.jsonl").read_text().splitlines()]
        assert [line["reward_drift"] for line in lines] == [expected] * len(lines)
        assert lines
