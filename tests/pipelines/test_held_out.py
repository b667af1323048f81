"""Evaluation while a stage of a recipe trains: its rows, the best step, and what is refused before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import DPO, SFT, lines, run

from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.storage.runfolder import RunFolder

EVALUATION = {"eval_steps": 1, "keep_best": True}


@pytest.fixture
def held_out(tmp_path: Path) -> str:
    rows = [{"prompt": f"write {w}", "chosen": w, "rejected": w[::-1]} for w in ("cash", "debt")]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "held_out.jsonl")


def test_a_stage_is_evaluated_on_its_own_file_and_exports_its_best_step(
    tmp_path: Path, recipe: Callable[..., Recipe], held_out: str
) -> None:
    dpo = {**DPO, "data": held_out, "epochs": 8.0, "held_out": held_out, "evaluation": EVALUATION}
    accepted = {"accept_leakage": "whether the best step is exported, not how good it is"}
    _, text = run(recipe([dpo], **accepted), tmp_path / "run")
    losses = [row["eval/loss"] for row in lines(tmp_path / "run" / "dpo" / "metrics.jsonl")]
    best = json.loads((tmp_path / "run" / "dpo" / "done.json").read_text())["best"]
    assert best == {"step": losses.index(min(losses)) + 1, "eval/loss": min(losses)}
    assert "whose weights are exported" in text
    assert "optimistic" not in text  # they are not the rows that a result is reported on


def test_every_stage_may_inherit_the_recipe_s_evaluation_on_test_rows_and_it_says_so(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    grpo = {
        "train": "rejection_sampling",
        "batch_size": 5,
        "group_size": 2,
        "epochs": 0.5,
        "max_new_tokens": 8,
    }
    _, text = run(recipe([grpo], evaluation=EVALUATION), tmp_path / "run")
    assert all(
        "eval/score" in row for row in lines(tmp_path / "run" / "rejection_sampling" / "metrics.jsonl")
    )
    assert "the best step is chosen on the test rows" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"evaluation": {"eval_steps": 1}},
            r"stage 'dpo': 10 problems in held-out rows \(test of files\):\n.* missing columns 'chosen'",
        ),
        (
            {"held_out": "rows.jsonl"},
            r"stage 'dpo': held_out is 'rows.jsonl', and evaluation.eval_steps is 0",
        ),
    ],
)
def test_rows_that_cannot_be_evaluated_are_refused_before_the_first_stage(
    tmp_path: Path, recipe: Callable[..., Recipe], held_out: str, changes: dict[str, Any], said: str
) -> None:
    stages = [SFT, {**DPO, "data": held_out, **changes}]
    with pytest.raises(ValueError, match=said), RunFolder(tmp_path / "run") as folder:
        Run(recipe(stages), folder, Console(quiet=True))
    assert not (tmp_path / "run" / "run.json").exists()
