"""Both pipelines from end to end on a tiny random model and the user's own files: stages, evidence, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tieout.evidence.report import verify
from tieout.pipelines.align import align
from tieout.pipelines.reason import reason
from tieout.pipelines.recipe import Recipe, read_recipe
from tieout.pipelines.run import Run
from tieout.pipelines.show import ship_run
from tieout.storage.runfolder import RunFolder, RunFolderError

REWARD = '''
def vowels(completions, prompts, answer, **_):
    """Share of vowels, so that a random model's completions differ."""
    return [sum(ch in "aeiou" for ch in c) / max(1, len(c)) + 0.001 * (len(c) % 7) for c in completions]
'''


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Files of a user's own: demonstrations as text, test rows as messages, controls, a reward."""
    words = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share", "tax", "fee"]
    rows = {
        "train": [{"prompt": f"say {w} {i}", "completion": w, "answer": w} for i in range(2) for w in words],
        "test": [{"prompt": [{"role": "user", "content": f"write {w}"}], "answer": w} for w in words],
        "controls": [{"prompt": f"spell {w}", "answer": w} for w in words[:3]],
    }
    paths = {}
    for name, content in rows.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        paths[name] = str(path)
    (tmp_path / "my_reward.py").write_text(REWARD)
    return {**paths, "reward": f"{tmp_path / 'my_reward.py'}:vowels"}


@pytest.fixture
def recipe(tmp_path: Path, data: dict[str, str], tiny_model: Callable[[str], Path]) -> Callable[..., Recipe]:
    def make(pipeline: str, **changes: Any) -> Recipe:
        text = f"""
pipeline: {pipeline}
model: {tiny_model("llama")}
data: {{train: {data["train"]}, test: {data["test"]}, controls: {data["controls"]}}}
reward: {data["reward"]}
max_new_tokens: 8
attack: {{max_rows: 0}}
save_steps: 1
adapter: {{rank: 4}}
sft: {{batch_size: 10, learning_rate: 0.01}}
preferences: {{num_completions: 4}}
dpo: {{batch_size: 8, learning_rate: 0.001}}
grpo: {{batch_size: 5, group_size: 4, learning_rate: 0.001, epochs: 0.5, max_new_tokens: 8, beta: 0.04}}
"""
        path = tmp_path / f"{pipeline}.yaml"
        path.write_text(text)
        return read_recipe(path, changes)

    return make


def run(pipeline: Callable[[Run], str], recipe: Recipe, out: Path) -> tuple[str, str]:
    console = Console(record=True, width=160, force_terminal=False)
    with RunFolder(out) as folder:
        verdict = pipeline(Run(recipe, folder, console))
    return verdict, console.export_text()


def test_align_ends_with_evidence_that_ties_out_and_holds_without_people(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    out = tmp_path / "run"
    verdict, text = run(align, recipe("align"), out)
    report = json.loads((out / "evidence" / "report.json").read_text())
    assert verdict == report["verdict"]["verdict"] != "ship"  # the human track is empty
    assert set(report["models"]) == {"base", "sft", "dpo"}
    assert report["models"]["dpo"]["programmatic"]["n"] == 10
    assert report["models"]["dpo"]["negative_controls"]["n"] == 3
    assert verify(out / "evidence" / "report.json") == []
    assert (out / "evidence" / "report.html").stat().st_size > 1000
    assert (out / "candidate" / "merged" / "config.json").exists()
    assert not (out / "shipped").exists()
    assert "next:" in text
    pairs = [json.loads(x) for x in (out / "preferences" / "pairs.jsonl").read_text().splitlines()]
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)
    first = json.loads((out / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)  # the reference is the SFT adapter, so ln 2

    # repeating it redoes nothing, and gives the same report
    before = (out / "evidence" / "report.json").read_bytes()
    _, again = run(align, recipe("align"), out)
    assert again.count("done before") == 6  # sft, preferences, dpo, and three evaluations
    after = json.loads((out / "evidence" / "report.json").read_text())
    assert after["models"] == json.loads(before)["models"]

    # a person may ship against the verdict, with a reason that is recorded
    console = Console(record=True, force_terminal=False, width=160)
    assert not ship_run(out, None, console)
    assert "next:" in console.export_text()
    assert ship_run(out, "only a test", console)
    assert "only a test" in (out / "evidence" / "override.json").read_text()
    assert (out / "shipped" / "merged" / "model.safetensors").exists()


def test_another_configuration_in_the_same_folder_is_refused_with_the_difference(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    console = Console(force_terminal=False)
    with RunFolder(tmp_path / "run") as folder:
        Run(recipe("align"), folder, console)
    with RunFolder(tmp_path / "run") as folder, pytest.raises(RunFolderError, match=r"seed: 0 -> 3"):
        Run(recipe("align", seed=3), folder, console)


def test_reason_trains_on_rollouts_and_keeps_them(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    out = tmp_path / "run"
    verdict, _ = run(reason, recipe("reason"), out)
    assert verdict != "ship"
    groups = [json.loads(x) for x in (out / "grpo" / "groups.jsonl").read_text().splitlines()]
    assert len(groups) == 2 * 5
    assert all(len(g["completions"]) == len(g["scores"]) == 4 for g in groups)
    metrics = [json.loads(x) for x in (out / "grpo" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["mismatch"] < 1e-4  # sampler and learner agree
    assert metrics[0]["kl"] == pytest.approx(0.0, abs=1e-6)  # at step 0 the policy is its reference
    assert metrics[1]["kl"] > 0
    assert {"score", "no_signal", "length", "entropy", "shared_prefix"} <= set(metrics[0])


def test_what_went_off_while_training_is_said_at_the_end(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    grpo = {"batch_size": 5, "group_size": 4, "learning_rate": 0.001, "max_new_tokens": 8, "beta": 0.04}
    out = tmp_path / "run"
    _, said = run(reason, recipe("reason", grpo=grpo, guards={"kl": 1e-9}), out)
    assert "alarm at step 3: the policy is" in said
    assert "alarm in grpo at step 3: the policy is" in said[said.index("verdict") :]
    assert "Alarm in grpo at step 3: the policy is" in (out / "evidence" / "report.html").read_text()
    assert [json.loads(x)["step"] for x in (out / "grpo" / "alarms.jsonl").read_text().splitlines()] == [3]


def test_an_interrupted_run_ends_like_an_unbroken_one(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tieout.learner import Learner

    run(reason, recipe("reason"), tmp_path / "whole")
    update = Learner.update
    calls = 0

    def interrupt(self: Learner, *args: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 4:  # the second step of GRPO
            raise KeyboardInterrupt
        return update(self, *args)

    monkeypatch.setattr(Learner, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(reason, recipe("reason"), tmp_path / "broken")
    _, text = run(reason, recipe("reason"), tmp_path / "broken")
    assert "continued at step 1" in text
    adapters = [
        tmp_path / name / "grpo" / "adapter" / "adapter_model.safetensors" for name in ("whole", "broken")
    ]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    logs = [
        (tmp_path / name / "grpo" / "metrics.jsonl").read_text().splitlines() for name in ("whole", "broken")
    ]
    assert len(logs[0]) == len(logs[1])


def test_four_bits_are_refused_before_any_work(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(
        ValueError, match=r"'qlora': pipelines evaluate, merge and ship over the base in full"
    ):
        run(align, recipe("align", adapter={"method": "qlora"}), tmp_path / "run")


def test_flawed_pairs_need_a_task_that_makes_them(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    with (
        RunFolder(tmp_path / "run") as folder,
        pytest.raises(ValueError, match="makes no flawed completions"),
    ):
        Run(recipe("align", preferences={"sources": ["flawed"]}), folder, Console())


def test_a_reward_that_people_do_not_share_is_not_trained_against(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    words = ["aeiou", "bcdfg", "ae", "xyz"] * 20
    data = tmp_path / "labels.jsonl"
    rows = [
        {"prompt": f"say {i}", "completion": w, "label": w[0] == "b", "answer": w}
        for i, w in enumerate(words)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"reward 'vowels' is not calibrated \(fail\): .*override"):
        run(reason, recipe("reason", calibration={"data": str(data)}), tmp_path / "refused")
    assert not (tmp_path / "refused" / "sft").exists()
    report = json.loads((tmp_path / "refused" / "calibrate" / "calibration.json").read_text())
    assert report["verdict"] == "fail"
    good = [{**row, "label": row["completion"][0] in "aeiou"} for row in rows]
    data.write_text("".join(json.dumps(row) + "\n" for row in good))
    changes = {"calibration": {"data": str(data)}, "grpo": {"batch_size": 5, "group_size": 2, "epochs": 0.25}}
    _, text = run(reason, recipe("reason", **changes), tmp_path / "accepted")
    assert "calibrate  agreement 1.000" in text


GAME = '''
from tieout.tasks import Task

OPENING = [{"role": "user", "content": "say something"}]


def play(row):
    """Two turns; scored by how many letters of the word were said."""
    said = yield OPENING[0]["content"]
    said += yield "and more"
    return len(set(row["word"]) & set(said)) / len(set(row["word"])) + 0.001 * (len(said) % 5)


WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt"]
ROWS = [{"word": word, "prompt": OPENING, "completion": word} for word in WORDS]
task = Task("game", lambda split: ROWS if split in ("train", "test") else [], environment=play, max_new_tokens=6)
'''


def test_a_task_of_an_environment_alone_runs_through_reason(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "game.py").write_text(GAME)
    changes: dict[str, Any] = {
        "task": f"{tmp_path / 'game.py'}:task",
        "data": {},
        "reward": None,
        "max_new_tokens": 6,
    }
    verdict, said = run(reason, recipe("reason", **changes), tmp_path / "run")
    assert verdict in ("hold", "reject")
    assert "the environment scores, and there is no reward" in said
    sampled = [json.loads(line) for line in (tmp_path / "run/grpo/groups.jsonl").read_text().splitlines()]
    assert all(len(row["scores"]) == 4 for row in sampled)
    with pytest.raises(ValueError, match="has an environment and no reward, which pairs are made with"):
        run(align, recipe("align", **changes), tmp_path / "other")
