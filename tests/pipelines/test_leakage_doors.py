"""Training rows among held-out rows stop a recipe and `tieout train`, or are accepted and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import ALIGN, NO_CHECK, SFT, run

from tieout.cli.run import run_recipe
from tieout.cli.train import main as train
from tieout.errors import InputError
from tieout.pipelines.recipe import Recipe


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_recipe_whose_test_file_is_its_train_file_is_refused(
    write: Callable[..., Path], files: dict[str, str], tmp_path: Path, dry_run: bool
) -> None:
    path = write(ALIGN, data={"train": files["train"], "test": files["train"]})
    with pytest.raises(InputError, match=r"20 of 20 rows .*\(test: 20 exact of 20\)") as error:
        run_recipe(path, tmp_path / "run", dry_run=dry_run)
    assert f"{files['train']}:1 is train, row 1: exact" in str(error.value)
    assert 'accept_leakage: "reason"' in str(error.value)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("source", ["controls", "ood", "held_out", "pairs"])
def test_every_file_of_a_recipe_is_compared(
    write: Callable[..., Path], files: dict[str, str], tmp_path: Path, source: str
) -> None:
    copied, stages = tmp_path / "copied.jsonl", list(ALIGN)
    word = json.loads(Path(files["train"]).read_text().splitlines()[2])
    data = {name: files[name] for name in ("train", "test")}
    if source == "pairs":  # a pair on a test prompt
        word = {**json.loads(Path(files["test"]).read_text().splitlines()[2]), "chosen": "a", "rejected": "b"}
    copied.write_text(json.dumps(word) + "\n")
    if source == "held_out":
        evaluated = {**SFT, "held_out": str(copied), "evaluation": {"eval_steps": 1}}
        stages = [NO_CHECK, evaluated, *ALIGN[2:]]
    else:
        data[source] = str(copied)
    with pytest.raises(InputError, match=r"1 of \d+ rows that are measured on are trained on too"):
        run_recipe(write(stages, data=data), tmp_path / "run", dry_run=True)


def test_counts_are_in_the_report_and_an_acceptance_in_page_and_card(
    recipe: Callable[..., Recipe], files: dict[str, str], tmp_path: Path
) -> None:
    data = {"train": files["train"], "test": files["train"]}
    _, said = run(recipe(ALIGN, data=data, accept_leakage="only the plumbing"), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "evidence" / "report.json").read_text())
    found = report["metadata"]["leakage"]
    assert found["train"]["train"] == 20
    assert found["held"]["test"] == {"rows": 20, "exact": 20, "normalised": 0, "near": 0}
    sentence = "only the plumbing"
    assert found["accepted"] == sentence
    assert sentence in said
    assert sentence in (tmp_path / "run" / "evidence" / "report.html").read_text()
    assert sentence in (tmp_path / "run" / "candidate" / "README.md").read_text()


def test_a_clean_recipe_reports_its_counts(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    run(recipe(ALIGN), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "evidence" / "report.json").read_text())["metadata"]["leakage"]
    assert found["accepted"] == ""
    assert {name: own["exact"] + own["normalised"] + own["near"] for name, own in found["held"].items()} == {
        "test": 0,
        "controls": 0,
    }


def arguments(tmp_path: Path, model: Path, held: list[dict[str, Any]], *more: str) -> list[str]:
    rows = [{"prompt": f"say word{i}", "completion": f"word{i}"} for i in range(6)]
    for name, own in (("rows", rows), ("held", held)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    named = ["--data", str(tmp_path / "rows.jsonl"), "--held-out", str(tmp_path / "held.jsonl")]
    return [
        "sft", "--model", str(model), *named, "--out", str(tmp_path / "run"), "--eval-steps", "1",
        "--batch-size", "6", *more,
    ]  # fmt: skip


def test_train_refuses_held_out_rows_that_it_trains_on(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    held = [{"prompt": "Say  word3!", "completion": "word3"}, {"prompt": "spell it", "completion": "it"}]
    given = arguments(tmp_path, tiny_model("llama"), held)
    with pytest.raises(InputError, match=r"1 of 2 rows .*validation: 1 normalised of 2") as error:
        train(given)
    assert f"{tmp_path / 'held.jsonl'}:1 is {tmp_path / 'rows.jsonl'}:4: normalised" in str(error.value)
    assert not (tmp_path / "run").exists()
    train([*given, "--accept-leakage", "to see memory"])
    kept = json.loads((tmp_path / "run" / "leakage.json").read_text())
    assert kept["accepted"] == "to see memory"
    assert kept["held"]["validation"]["normalised"] == 1
