"""Every demo, with few rows and about two steps a stage: it ends with a report and a verdict, and trains once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tieout import embedded
from tieout.cli import demo
from tieout.config.tagged import tag_of
from tieout.config.yaml_file import read_yaml
from tieout.pipelines.overrides import STAGE_KINDS, names_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROWS = 24
FEW: Mapping[str, Mapping[str, Any]] = {
    "check": {"attack.max_rows": 2, "proof.max_rows": 4},
    "calibrate": {"max_rows": 4, "num_completions": 2, "override": "'two steps teach nothing'"},
    "demonstrations": {"max_prompts": 8, "num_completions": 2, "min_chosen": 0, "min_rows": 1},
    "pairs": {
        "max_prompts": 12,
        "num_completions": 3,
        "min_chosen": 0,
        "min_gap": 0,
        "min_pairs": 1,
        "max_form": 1,
    },
    "refresh": {"num_prompts": 4, "num_completions": 3},
    "evaluate": {"max_test": 4, "max_ood": 2, "consistency.max_rows": 2, "consistency.repeats": 2},
}
"""Kind of a stage -> its settings."""
TRAINED = {"batch_size": 4, "epochs": 8 / ROWS, "learning_rate": 0.0001}
"""Two steps of all rows."""
SAMPLED = {"batch_size": 2, "group_size": 3, "epochs": 4 / ROWS, "max_new_tokens": 24}
"""Two steps of a method that samples."""


def few(recipe: Path) -> Iterator[str]:
    """The values of `--set` that make a demo small."""
    plain = read_yaml(recipe)
    yield f"max_train={ROWS}"
    if plain["model"] not in embedded.NAMES:
        yield "model=tieout-base"
    yield "controls=null"
    yield "max_new_tokens=48"
    yield "guards.reward_model_override='two steps teach nothing'"
    if "sizes" in plain.get("task_options", {}):
        yield f"task_options.sizes={{train: {ROWS}, calibration: 8, test: 8}}"
    for stage, name in zip(plain["stages"], names_of(plain["stages"]), strict=True):
        kind = tag_of(stage, STAGE_KINDS, name)
        settings = dict(FEW.get(kind, {}))
        if kind == "train":
            settings = SAMPLED if stage["train"] in ("grpo", "ppo") else TRAINED
            if part := stage.get("data", "").partition("data.train[")[2]:
                settings = {**settings, "data": f"data.train[{':8' if part.startswith(':') else '8:'}]"}
        for key, value in settings.items():
            yield f"stages.{name}.{key}={value}"


@pytest.mark.parametrize("recipe", sorted(demo.RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_demo_ends_with_a_verdict_and_trains_once(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [recipe.stem, "--out", str(tmp_path / "run")]
    for setting in few(recipe):
        command += ["--set", setting]
    demo.main(command)
    assert "verdict: " in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "evidence" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"]["verdict"] in ("hold", "reject")  # nobody graded anything, so it cannot be ship
    assert (tmp_path / "run" / "evidence" / "report.html").is_file()
    assert set(names_of(read_yaml(recipe)["stages"])) <= set(recorded(tmp_path / "run"))
    before = written(tmp_path / "run")
    demo.main(command)
    assert "verdict: " in capsys.readouterr().out
    assert written(tmp_path / "run") == before != {}


def written(run: Path) -> dict[str, int]:
    """What the trainings left -> when it was written."""
    kept = ("*/metrics.jsonl", "*/adapter/*")
    return {str(path): path.stat().st_mtime_ns for pattern in kept for path in run.glob(pattern)}


def recorded(run: Path) -> list[str]:
    """The steps of the run's record."""
    lines = (run / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["predicate"]["step"] for line in lines]
