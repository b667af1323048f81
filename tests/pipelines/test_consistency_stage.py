"""Stage evaluate with consistency: each model is asked again, once, and the report says how often answers flip."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import END, NO_CHECK, SFT, run

from tieout.cli.verify import main as verify
from tieout.errors import InputError
from tieout.evidence.evaluate import CONSISTENCY, PROGRAMMATIC, read_cases
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.plan import plan
from tieout.shipping.fresh import reperform
from tieout.storage.jsonl import read_json
from tieout.storage.runfolder import RunFolder

STAGES = [NO_CHECK, SFT, *END]
ON = ("stages.evaluate.consistency.max_rows=4", "stages.evaluate.consistency.repeats=2")
OWN = """
def vary(row, rng):
    said = row["prompt"][-1]["content"]
    return {"polite": {**row, "prompt": [{"role": "user", "content": f"Please {said}."}]}}

def long(row, rng):
    return {"long": {**row, "prompt": [{"role": "user", "content": "again " * 4000}]}}
"""


def test_a_finished_run_is_asked_again_without_anything_done_twice(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(recipe(STAGES), out)
    before = read_json(out / "evidence" / "report.json")
    made = {name: (out / "evaluate" / f"{name}.jsonl").stat().st_mtime_ns for name in ("base", "sft")}
    assert "Nothing was asked again" in (out / "evidence" / "report.html").read_text()
    _, said = run(recipe(STAGES, ON), out)
    assert "consistency, 4 test rows asked again" in said
    for name, time in made.items():
        assert (out / "evaluate" / f"{name}.jsonl").stat().st_mtime_ns == time
    report = read_json(out / "evidence" / "report.json")
    assert report["settings"]["again"] == {"rows": 4, "repeats": 2, "temperature": 0.7}
    kinds = report["consistency"]["sft"]
    assert {kind: (figure["n"], figure["without"]) for kind, figure in kinds.items()} == {
        "formatting": (4, 0),
        "same_prompt": (4, 0),
    }
    assert (report["models"], report["verdict"]) == (before["models"], before["verdict"])
    _, said = run(recipe(STAGES, ON), out)
    assert said.count("done before") == 3
    run(recipe(STAGES, [*ON, "stages.evaluate.consistency.temperature=0.9"]), out)
    assert (out / "evaluate" / "base.consistency-1.jsonl").exists()
    assert "base.consistency-1" not in (out / "evidence" / "report.html").read_text()
    verify([str(out)])  # ends with an exit status where a claim does not hold


def test_what_a_task_measures_since_is_measured_in_a_run_that_goes_on(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of the package may gain a metric with a release, and keeps its identity."""
    out, was = tmp_path / "run", Run._task
    run(recipe(STAGES, ON), out)
    assert "letters_said" not in (out / "evidence" / "report.html").read_text()
    lengths = lambda completions, **_: [float(len(text)) for text in completions]  # noqa: E731
    monkeypatch.setattr(Run, "_task", lambda self: replace(was(self), metrics={"letters_said": lengths}))
    _, said = run(recipe(STAGES, ON), out)
    assert said.count("done before") == 1  # the training
    for part in ("sft", "sft.consistency"):
        cases = read_cases(out / "evaluate" / f"{part}.jsonl")["sft"]
        asked = [case for case in cases if case.track in (PROGRAMMATIC, CONSISTENCY)]
        assert asked
        assert all(case.metrics["letters_said"] == len(case.completion) for case in asked)
    assert "letters_said" in (out / "evidence" / "report.html").read_text()


def test_a_run_of_before_any_of_this_could_be_asked_is_the_same_run(recipe: Callable[..., Recipe]) -> None:
    stages = recipe(STAGES, [*ON, "stages.evaluate.best_of_n=2"]).identity()["stages"]
    assert next(stage["evaluate"] for stage in stages if "evaluate" in stage) == {
        "name": "evaluate",
        "models": ["base", "sft"],
        "max_test": 0,
        "max_ood": 0,
    }


def test_sampled_answers_are_verified_by_their_scores_and_not_performed_again(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(recipe(STAGES, ON), out)
    cases = read_cases(out / "evidence" / "cases.jsonl")["sft"]
    assert sum(case.track == CONSISTENCY for case in cases) == 12
    path = out / "evidence" / "report.json"
    found = {claim.what: claim for claim in reperform(path, read_json(path), "100%", 0)}
    assert "17 of 17 cases of sft" in found["outputs"].said
    assert found["outputs"].said.endswith("; 8 answers that were sampled are left out")
    assert {claim.status for claim in found.values()} == {"holds"}


def test_variants_of_your_own_are_asked_of_rows_in_files(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    own = f"stages.evaluate.consistency.variants={tmp_path / 'mine.py'}:vary"
    out = tmp_path / "run"
    run(recipe(STAGES, [*ON, own]), out)
    assert read_json(out / "evidence" / "report.json")["consistency"]["sft"]["polite"]["n"] == 4
    lines = [json.loads(line) for line in (out / "evidence" / "cases.jsonl").read_text().splitlines()]
    asked = [line["prompt"][-1]["content"] for line in lines if line["slice"] == "polite"]
    assert all(said.startswith("Please write ") for said in asked)


def test_what_cannot_be_asked_is_refused_before_anything_is_trained(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    own = f"stages.evaluate.consistency.variants={tmp_path / 'mine.py'}:long"
    with pytest.raises(InputError, match=r"evaluate\.consistency"):
        run(recipe(STAGES, [*ON, own]), tmp_path / "run")
    with pytest.raises(InputError, match="kind 'paraphrase'; there are: formatting"):
        run(recipe(STAGES, [*ON, "stages.evaluate.consistency.kinds=[paraphrase]"]), tmp_path / "run")
    assert not (tmp_path / "run" / "sft").exists()


def test_the_plan_counts_what_is_asked_again(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    counts: list[Any] = []
    for settings in ((), ON):
        with RunFolder(tmp_path / f"run{len(counts)}") as folder:
            lines = plan(Run(recipe(STAGES, settings), folder, Console(quiet=True)))
        counts.append(next(int(line.rows) for line in lines if line.name == "evaluate"))
    assert counts[1] - counts[0] == 4 + 2 * 4
