"""The loss of held-out completions is measured by default, and of rows that are not trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tieout.cli.train import main
from tieout.learner.models.loading import load_chat
from tieout.source import Source
from tieout.tasks import Task, load_task
from tieout.tasks.files import REWARD_MODEL, hold_out, hold_out_few
from tieout.training.held_out import HeldOutLoss, completions_of, held_out_loss
from tieout.types import Group
from tiny_task import ROWS, make_run, make_task

ModelFolder = Callable[[str], Path]


def rows(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Add {i} and 1.", "completion": f"{i + 1}"} for i in range(count)]


@pytest.mark.parametrize(("count", "least", "most"), [(199, 0, 0), (400, 8, 40), (4000, 25, 110)])
def test_a_small_part_of_many_rows_is_held_out_by_prompt(count: int, least: int, most: int) -> None:
    twice = [*rows(count // 2), *rows(count - count // 2)]
    trained, held = hold_out_few(twice)
    assert least <= len(held) <= most
    assert len(trained) + len(held) == count
    assert not {row["prompt"] for row in trained} & {row["prompt"] for row in held}
    assert hold_out_few(twice)[1] == held


def told(folder: Path, data: Path, out: Path, *more: str) -> list[dict[str, float]]:
    options = ["--model", folder, "--data", data, "--out", out, "--batch-size", 64, "--learning-rate", 1e-2]
    main(["sft", *map(str, options), *more])
    return [json.loads(line) for line in (out / "sft" / "metrics.jsonl").read_text().splitlines()]


def test_the_command_holds_rows_out_says_so_and_measures_them(
    tiny_model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(240)))
    held = hold_out_few(rows(240))[1]
    logged = told(tiny_model("llama"), data, tmp_path / "a")
    printed = capsys.readouterr().out
    assert f"held out: {len(held)} of 240 rows; --no-hold-out trains on all" in printed
    assert f"{240 - len(held)} rows are few: the rules of thumb in docs/choosing.md begin at 500" in printed
    first, last = logged[0], logged[-1]
    assert last["held_out/loss"] < first["held_out/loss"]
    assert last["held_out/perplexity"] == pytest.approx(math.exp(last["held_out/loss"]))
    assert not any("held_out/loss" in metrics for metrics in logged[1:-1])
    plain = told(tiny_model("llama"), data, tmp_path / "b", "--no-hold-out")
    assert not any("held_out/loss" in metrics for metrics in plain)
    assert "no held-out loss: nothing is held out that has a right completion" in capsys.readouterr().out


def test_measuring_leaves_the_training_as_it_is(tiny_model: ModelFolder, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(240)))
    often = told(tiny_model("llama"), data, tmp_path / "a", "--guards.held-out-steps", "1")
    never = told(tiny_model("llama"), data, tmp_path / "b", "--guards.held-out-steps", "0")
    assert [m["loss"] for m in often] == [m["loss"] for m in never]
    assert all("held_out/loss" in m for m in often)
    assert not any("held_out/loss" in m for m in never)


def test_gold_of_a_calibration_split_is_measured_and_training_rows_are_not(tiny_model: ModelFolder) -> None:
    run = make_run("grpo", tiny_model("llama"))
    assert held_out_loss(run.learner, run.source, 5, 5) == [], "its task gives the same rows for every split"
    task = load_task("finance_statements")
    source = Source(task, run.learner.model.chat)
    groups = completions_of(source, run.learner.model.context)
    assert groups
    assert groups[0].row == task.rows("calibration")[0]
    assert task.gold is not None
    assert groups[0].completions[0].text == task.gold(task.rows("calibration")[0])
    other = make_task(
        rows=lambda split: ROWS[:8] if split == "train" else ROWS[8:] if split == "test" else []
    )
    (monitor,) = held_out_loss(run.learner, Source(other, run.learner.model.chat), 5, 5)
    metrics: dict[str, float] = {}
    monitor(2, [], metrics)
    assert metrics == {}
    monitor(5, [], metrics)
    assert 3 < metrics["held_out/loss"] < 8, "a random model of 262 tokens"


def test_labels_give_the_good_ones(tiny_model: ModelFolder) -> None:
    run = make_run("sft", tiny_model("llama"))
    labelled = [
        {"prompt": "p", "completion": "yes", "label": True},
        {"prompt": "p", "completion": "no", "label": False},
    ]
    task = Task(
        "labels", lambda split: labelled if split == "validation" else rows(3) if split == "train" else []
    )
    (group,) = completions_of(Source(task, run.learner.model.chat), 2048)
    assert group.completions[0].text == "yes"


def test_rows_of_which_a_part_was_held_out_before_are_divided_again_for_a_reward_model() -> None:
    trained, test = hold_out(rows(2000))
    pairs, held = hold_out(trained, REWARD_MODEL)
    assert 0.05 < len(test) / 2000 < 0.15
    assert 0.05 < len(held) / len(trained) < 0.15
    assert hold_out(trained)[1] == []  # by the same hash nothing is left to hold out
    assert {row["prompt"] for row in pairs}.isdisjoint(row["prompt"] for row in held)


def test_what_an_environment_replied_is_not_in_the_loss() -> None:
    class Knowing:
        """Gives 0.5 nats to what the policy says in a game, and 9 to what it is told."""

        model: Any = SimpleNamespace(device=torch.device("cpu"))

        def logprobs(self, groups: Sequence[Group]) -> list[list[list[float]]]:
            return [
                [[-0.5 if own else -9.0 for own in c.mask] for c in group.completions] for group in groups
            ]

    task = load_task("wordle")
    groups = completions_of(Source(task, load_chat("tieout-base")), context=2048)
    metrics: dict[str, float] = {}
    HeldOutLoss(Knowing(), groups[:3], steps=1, every=1)(1, [], metrics)  # type: ignore[arg-type]
    assert metrics["held_out/loss"] == pytest.approx(0.5)
