"""The recipe over real questions runs from SFT to the gate, and reports whatever a model gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tieout.pipelines.align import align
from tieout.pipelines.recipe import read_recipe
from tieout.pipelines.run import Run
from tieout.storage.runfolder import RunFolder


def test_the_recipe_runs_on_real_questions(
    tmp_path: Path, shared_data: Path, tiny_model: Callable[[str], Path]
) -> None:
    changes = {
        "model": str(tiny_model("llama")),
        "task_options": {
            "path": str(shared_data / "tatqa" / "tatqa_dataset_dev.json"),
            "max_prompt_chars": 600,
        },
        "max_train": 16,
        "max_new_tokens": 12,
        "sft": {"batch_size": 8, "learning_rate": 0.01},
        "preferences": {"sources": ["sampled", "flawed"], "num_completions": 2, "max_prompts": 8},
        "evaluate": {"max_test": 12},
    }
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "tatqa.yaml", changes)
    with RunFolder(tmp_path / "run") as folder:
        verdict = align(Run(recipe, folder, Console(quiet=True)))
    report = json.loads((tmp_path / "run" / "evidence" / "report.json").read_text())
    assert verdict == "hold"  # nobody graded, and there are no negative controls
    for model in ("base", "sft", "dpo"):
        figure = report["models"][model]["programmatic"]
        assert figure["n"] == 12
        assert figure["errors"] == 0
