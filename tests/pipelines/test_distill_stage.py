"""A recipe whose student is taught by a stage before it, and what is refused of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import END, REWARD_MODEL, SFT, lines, run

from tieout.config.fields import ConfigError
from tieout.errors import InputError
from tieout.pipelines.planning.runs import plan_run
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.storage.runfolder import RunFolder

DISTILL = {
    "train": "distill",
    "from": "base",
    "teacher": "sft",
    "batch_size": 5,
    "group_size": 2,
    "learning_rate": 0.01,
    "max_new_tokens": 6,
}


def test_a_stage_is_taught_by_the_one_before_it(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    out = tmp_path / "run"
    run(recipe([SFT, DISTILL, *END[:2]]), out)
    metrics, rollouts = lines(out / "distill" / "metrics.jsonl"), lines(out / "distill" / "groups.jsonl")
    assert len(metrics) == 4
    assert metrics[0]["loss"] > metrics[-1]["loss"] > 0
    assert metrics[0]["mismatch"] < 1e-4
    assert len(rollouts) == 20
    assert all(len(row["completions"]) == 2 and row["scores"] is None for row in rollouts)
    report = json.loads((out / "evidence" / "report.json").read_text())
    assert list(report["models"]) == ["base", "sft", "distill"]
    _, said = run(recipe([SFT, DISTILL, *END[:2]]), out)
    assert said.count("done before") >= 2
    again = {**SFT, "epochs": 2.0}
    _, said = run(recipe([again, DISTILL, *END[:2]]), out)  # another teacher, of the same name
    assert "trained from the beginning: method.teacher." in said


def test_another_teacher_is_another_run(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    """Known by its content: a copy of it elsewhere is the same teacher."""
    made = recipe([SFT])
    run(made, tmp_path / "first")
    adapter = tmp_path / "first" / "sft" / "adapter"
    out, student = tmp_path / "run", {**DISTILL, "epochs": 0.5}
    run(recipe([{**student, "teacher": str(adapter)}]), out)
    moved = adapter.rename(tmp_path / "moved")
    _, said = run(recipe([{**student, "teacher": str(moved)}]), out)
    assert "done before" in said
    weights = moved / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    (moved / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"stages\[0\]\.teacher"):
        run(recipe([{**student, "teacher": str(moved)}]), out)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{**DISTILL, "teacher": ""}], "needs a teacher"),
        ([SFT, {**DISTILL, "teacher": "stf"}], "teacher is 'stf'"),
        (
            [
                {"pairs": {"num_completions": 4}},
                {**REWARD_MODEL, "name": "judge"},
                {**DISTILL, "teacher": "judge"},
            ],
            "a reward model: it gives no log-probabilities",
        ),
        ([{**DISTILL, "teacher": "reference"}], "it would teach nothing"),
    ],
)
def test_a_wrong_teacher_is_refused_as_the_recipe_is_read(
    recipe: Callable[..., Recipe], stages: list[Any], said: str
) -> None:
    with pytest.raises((ConfigError, InputError), match=said):
        recipe(stages)


def test_rows_without_the_columns_of_the_teachers_prompt_are_refused_before_any_stage(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    stage = {**DISTILL, "teacher_prompt": "{prompt} {hint}"}
    with pytest.raises(InputError, match="'hint'"):
        run(recipe([SFT, stage, *END[:2]]), tmp_path / "run")
    assert not (tmp_path / "run" / "sft" / "adapter").exists()


def test_a_plan_says_that_the_teacher_is_not_counted(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    with RunFolder(tmp_path / "run", writes=False) as folder:
        planned = plan_run(Run(recipe([SFT, DISTILL, *END[:2]]), folder, Console(quiet=True)))
    (own,) = (one for one in planned if one.name == "distill")
    assert own.steps == 4
    assert any("teacher" in note for note in own.assumed)
