"""The recipe over real questions runs from SFT to the gate, and reports whatever a model gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tieout.pipelines.reading import read_recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.execute import execute
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
    }
    settings = ["stages.check.attack.max_rows=0", "stages.sft.batch_size=8", "stages.sft.learning_rate=0.01"]
    settings += [
        "stages.pairs.num_completions=2",
        "stages.pairs.max_prompts=8",
        "stages.pairs.min_pairs=1",
        "stages.evaluate.max_test=12",
    ]
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "tatqa.yaml", changes, settings)
    with RunFolder(tmp_path / "run") as folder:
        verdict = execute(Run(recipe, folder, Console(quiet=True)))
    report = json.loads((tmp_path / "run" / "evidence" / "report.json").read_text())
    assert verdict == "hold"  # nobody graded, and there are no negative controls
    for model in ("base", "sft", "dpo"):
        figure = report["models"][model]["programmatic"]
        assert figure["n"] == 12
        assert figure["errors"] == 0
