"""Rows of several files with weights, and of data sets of the hub."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tieout.cli import main
from tieout.errors import InputError
from tieout.pipelines.reading import read_recipe
from tieout.rows import RowsError, check_rows, read_rows
from tieout.rows.sources import absolute
from tieout.storage.jsonl import read_json, write_jsonl


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in "ab":
        rows = [{"prompt": f"{name}{i}", "completion": f"{name}!"} for i in range(6)]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    (tmp_path / "c.csv").write_text("prompt,completion\nc0,c!\nc1,c!\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
    main()


def test_a_weight_is_how_often_each_row_of_a_file_is_there(files: Path) -> None:
    rows = read_rows("a.jsonl=2.0 b.jsonl=0.5 c.csv=1.5")
    counts = Counter(row["prompt"] for row in rows)
    assert [counts[f"a{i}"] for i in range(6)] == [2] * 6
    assert sorted(counts[f"b{i}"] for i in range(6)) == [0, 0, 0, 1, 1, 1]
    assert sorted(counts[f"c{i}"] for i in range(2)) == [1, 2]
    assert read_rows("a.jsonl=2.0 b.jsonl=0.5 c.csv=1.5") == rows


def test_an_error_names_the_file_and_line_of_a_mixed_row(files: Path) -> None:
    write_jsonl(files / "b.jsonl", [{"prompt": "q", "completion": "x"}, {"prompt": "q"}])
    with pytest.raises(RowsError, match=r"^b\.jsonl:2: missing column 'completion'"):
        check_rows(read_rows("a.jsonl=1 b.jsonl=1"), "demonstration")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a.jsonl=1 b.jsonl", "'b.jsonl' has no weight"),
        ("a.jsonl=twice", "the weight of 'a.jsonl' is 'twice'"),
        ("a.jsonl=0 b.jsonl=1", "a.jsonl: weight 0; expected more than 0"),
        ("a.jsonl=0.01 b.jsonl=1", "weight 0.01 of 6 rows is not one row"),
        ("a.jsonl=1 d.jsonl=1", "data file not found: d.jsonl"),
        ("a.jsonl b.jsonl", "a.jsonl=1.0 b.jsonl=1.0"),
        ("openai/gsm8k", "hub:openai/gsm8k"),
        ("hub:gsm8k", "expected hub:OWNER/NAME"),
    ],
)
def test_what_is_no_source_is_answered_with_one(files: Path, given: str, said: str) -> None:
    with pytest.raises((InputError, FileNotFoundError)) as caught:
        read_rows(given)
    assert said in str(caught.value)


def test_a_data_set_of_the_hub_is_refused_at_once_where_there_is_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(RowsError, match=r"the hub cannot be reached from here.*to_parquet"):
        read_rows("hub:openai/gsm8k/main:train")
    assert time.monotonic() - began < 2


def test_the_command_line_trains_on_a_mixture_and_keeps_where_it_is(
    files: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--model", tiny_model("qwen2"), "--out", files / "run", "--batch-size", 6, "--epochs", 0.5]
    run(monkeypatch, "train", "sft", *given, "--data", "a.jsonl=2", "b.jsonl=0.5")
    kept = read_json(files / "run" / "leakage.json")["trained_on"]["data"]
    assert kept == f"{files / 'a.jsonl'}=2.0 {files / 'b.jsonl'}=0.5"
    monkeypatch.chdir("/")
    assert len(read_rows(kept)) == 15
    assert absolute("hub:a/b") == "hub:a/b"


def test_a_recipe_lists_files_with_weights(files: Path) -> None:
    mixture = [{"path": "a.jsonl", "weight": 2}, "b.jsonl"]
    for data in (mixture, {"train": mixture}):
        plain = {"data": data, "stages": [{"train": "sft"}, {"train": "sft", "data": mixture}]}
        (files / "r.yaml").write_text(yaml.safe_dump(plain))
        recipe = read_recipe(files / "r.yaml")
        assert recipe.data.train == recipe.trained("sft-2").options.data == "a.jsonl=2.0 b.jsonl=1.0"
    (files / "r.yaml").write_text("data: [{file: a.jsonl}]\nstages: [{train: sft}]\n")
    with pytest.raises(InputError, match=r"expected a file, or \{path: FILE, weight: 1\.0\}"):
        read_recipe(files / "r.yaml")
