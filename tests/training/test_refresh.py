from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from random_groups import make_learner
from tieout.errors import StopTraining, TooManyErrors
from tieout.learner import AdapterConfig, Learner
from tieout.learner.checkpoint import save_adapter
from tieout.methods import GRPO, RewardModel
from tieout.rewards.library.reward_model import SharedReward
from tieout.rows import RowsError, read_rows
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.storage.jsonl import write_jsonl
from tieout.training.loop import train
from tieout.training.refresh import Refresh, by_file, by_reward, refreshing, score_range
from tieout.types import Group
from tiny_task import ROWS, make_task, spread

ModelFolder = Callable[[str], Path]
ADAPTER = AdapterConfig(rank=4, alpha=8.0)
PAIRS = [{"prompt": r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"]} for r in ROWS]


@pytest.fixture
def run(tiny_model: ModelFolder, tmp_path: Path) -> tuple[Learner, Source, Path]:
    """A policy, its source scored by a reward adapter on the same base, and that adapter's folder."""
    folder = tmp_path / "reward"
    save_adapter(make_learner(tiny_model("llama"), head="score"), folder)
    learner = make_learner(tiny_model("llama"))
    source = Source(make_task(reward=SharedReward(learner)), learner.model.chat, LocalSampler(learner.model))
    return learner, source, folder


def refresh_of(folder: Path, label: Any, **options: Any) -> Refresh:
    small = {"num_prompts": 3, "group_size": 3, "max_new_tokens": 5, "steps": 2, "limit": 1.0}
    return Refresh(
        folder,
        label,
        adapter=ADAPTER,
        method=RewardModel(learning_rate=1e-2, batch_size=4),
        **{**small, **options},
    )


METHOD = GRPO(batch_size=2, group_size=2, max_new_tokens=5, learning_rate=1e-3)


def steps(run: tuple[Learner, Source, Path], refresh: Refresh, count: int) -> list[dict[str, float]]:
    learner, source, folder = run
    seen: list[dict[str, float]] = []
    monitor = refreshing(refresh, folder, PAIRS, source, learner)
    train(METHOD, source, learner, steps=count, monitors=[monitor], on_step=lambda step, m: seen.append(m))
    return seen


def test_every_so_many_steps_samples_are_labelled_and_the_reward_model_goes_on(
    run: tuple[Learner, Source, Path], tmp_path: Path
) -> None:
    learner, source, folder = run
    learner.model.add_reward(folder)
    given = [source.given(row, [row["chosen"], row["rejected"]], None) for row in ROWS]
    before, trained = learner.scores(given), set(learner.model.trained())
    seen = steps(run, refresh_of(tmp_path / "kept", by_reward(spread), every=2), 5)
    assert [m.get("reward_refreshed", 0) for m in seen] == [0, 1, 0, 1, 0]
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [
        "labels-000002.jsonl", "labels-000004.jsonl", "reward-000002", "reward-000004",
    ]  # fmt: skip
    assert learner.scores(given) != before
    assert set(learner.model.trained()) == trained
    for row in read_rows(tmp_path / "kept" / "labels-000002.jsonl"):
        assert row["scores"] == spread(row["completions"])
    after = learner.scores(given)
    learner.model.add_reward(folder)
    refreshing(refresh_of(tmp_path / "kept", by_reward(spread)), folder, PAIRS, source, learner)
    assert learner.scores(given) == after  # a later run takes up the newest


def test_a_judge_that_fails_ends_the_labelling_and_one_that_abstains_leaves_a_group_out() -> None:
    def down(completions: list[str], **_: object) -> list[float]:
        raise RuntimeError("out of credit")

    def careful(completions: list[str], **_: object) -> list[float | None]:
        return [None if "b" in c else float(len(c)) for c in completions]

    rows = [{"prompt": f"say {i}", "completions": ["a", "aa", "b" if i % 2 else "aaa"]} for i in range(8)]
    with pytest.raises(TooManyErrors, match=r"failed on 18 of 18 completions.*out of credit"):
        by_reward(down)(rows, 0)
    assert [row["prompt"] for row in by_reward(careful)(rows, 0)] == ["say 0", "say 2", "say 4", "say 6"]


def test_scores_outside_the_training_range_ask_for_a_refresh(
    run: tuple[Learner, Source, Path], tmp_path: Path
) -> None:
    learner, source, folder = run
    refresh = refresh_of(tmp_path / "kept", by_reward(spread), every=0, limit=0.5)
    monitor = refreshing(refresh, folder, PAIRS, source, learner)
    low, high = score_range(learner, source, PAIRS)
    group = source.given(ROWS[0], ["a", "b"], None)

    def metrics_of(scores: list[float]) -> dict[str, float]:
        metrics: dict[str, float] = {}
        monitor(1, [Group(group.prompt, group.completions, scores)], metrics)
        return metrics

    assert metrics_of([low, high]) == {"reward_drift": 0.0}
    assert metrics_of([low - 1, (low + high) / 2]) == {"reward_drift": 0.5}
    assert metrics_of([low - 1, high + 1]) == {"reward_drift": 1.0, "reward_refreshed": 1.0}


def test_people_label_in_a_file_and_the_run_waits(run: tuple[Learner, Source, Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    refresh = refresh_of(kept, by_file(kept), every=1)
    with pytest.raises(StopTraining, match=r"samples wait for labels in .*samples-000001\.jsonl"):
        steps(run, refresh, 2)
    with pytest.raises(StopTraining, match="wait for labels"):
        steps(run, refresh, 2)  # still nothing
    rows = read_rows(kept / "samples-000001.jsonl")
    assert [len(row["completions"]) for row in rows] == [3, 3, 3]
    write_jsonl(kept / "scored-000001.jsonl", [{**row, "scores": [0.0, 1.0]} for row in rows])
    with pytest.raises(RowsError, match=r"scored-000001\.jsonl"):
        steps(run, refresh, run[0].step + 1)
    write_jsonl(kept / "scored-000001.jsonl", [{**row, "scores": [0.0, 1.0, 2.0]} for row in rows])
    seen = steps(run, refresh_of(kept, by_file(kept), every=0), run[0].step + 1)
    assert seen[0]["reward_refreshed"] == 1
    assert not list(kept.glob("samples-*"))
    assert len(list(kept.glob("reward-*"))) == 1


def test_a_group_that_no_one_can_tell_apart_is_no_label() -> None:
    rows = [{"prompt": "p", "completions": ["a", "a"]}, {"prompt": "p", "completions": ["a", "z"]}]

    def fails_on_z(completions: list[str], **_: Any) -> list[float | None]:
        return [None if c == "z" else 1.0 for c in completions]

    assert [row["completions"] for row in by_reward(spread)(rows, 1)] == [["a", "z"]]
    assert by_reward(fails_on_z)(rows, 1) == []
