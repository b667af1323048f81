"""The numeric question task: over a small file made here, and over all of TAT-QA's development set."""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tieout.rewards.scoring.runner import check_reward, score
from tieout.rewards.text.figures import figure
from tieout.tasks import Task, numeric_qa
from tieout.tasks.numeric_qa import SPLITS, SYSTEM, load, split_of
from tieout.types import Row

QUESTION: dict[str, Any] = {
    "uid": "q",
    "question": " What was the change in sales? ",
    "answer": -12.6,
    "scale": "million",
    "answer_type": "arithmetic",
    "rel_paragraphs": ["2"],
}
DOCUMENT: dict[str, Any] = {
    "table": {"uid": "d", "table": [["", "2019", "2018"], ["Sales", "$  44.1", "$56.7"]]},
    "paragraphs": [{"order": 1, "text": "Sales fell."}, {"order": 2, "text": "In millions."}],
    "questions": [QUESTION],
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "questions.json"
    path.write_text(json.dumps(value), "utf-8")
    return path


def all_rows(task: Task) -> list[Row]:
    return [row for split in SPLITS for row in task.rows(split)]


def document(uid: str, *questions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **DOCUMENT,
        "table": {**DOCUMENT["table"], "uid": uid},
        "questions": list(questions) or [QUESTION],
    }


def test_a_row_is_the_table_the_relevant_paragraphs_and_the_question(tmp_path: Path) -> None:
    (row,) = all_rows(load(write(tmp_path, [DOCUMENT])))
    assert row == {
        "id": "q",
        "document": "d",
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {
                "role": "user",
                "content": " | 2019 | 2018\nSales | $ 44.1 | $56.7\n\nIn millions.\n\nWhat was the change in sales?",
            },
        ],
        "completion": "-12.6 million",
        "answer": "-12.6",
        "scale": "million",
    }


@pytest.mark.parametrize(
    ("answer_type", "answer", "scale", "completion"),
    [
        ("arithmetic", -22.2, "percent", "-22.2%"),
        ("arithmetic", 5, "", "5"),
        ("span", ["$1,496.5"], "million", "$1,496.5 million"),
        ("span", ["$(9.8) million"], "", "$(9.8) million"),
        ("span", ["(168)"], "thousand", "(168) thousand"),
        ("span", ["2019"], "", None),  # a year is a name
        ("span", ["2018 (4)"], "", None),
        ("span", ["in 2019, $5"], "", None),
        ("span", ["$3.0 million"], "million", None),
        ("multi-span", ["5", "6"], "", None),
        ("count", "3", "", None),
    ],
)
def test_questions_that_one_figure_answers_are_kept(
    tmp_path: Path, answer_type: str, answer: Any, scale: str, completion: str | None
) -> None:
    question = {**QUESTION, "answer_type": answer_type, "answer": answer, "scale": scale}
    path = write(tmp_path, [document("kept"), document("asked", question)])
    rows = [row for row in all_rows(load(path)) if row["document"] == "asked"]
    assert [row["completion"] for row in rows] == ([completion] if completion else [])


def test_adding_documents_moves_none_to_another_split(tmp_path: Path) -> None:
    few = load(write(tmp_path, [document(str(i)) for i in range(50)]))
    many = load(write(tmp_path, [document(str(i)) for i in range(1000)]))
    for split, share in SPLITS.items():
        documents = {row["document"] for row in many.rows(split)}
        assert {row["document"] for row in few.rows(split)} == {d for d in documents if int(d) < 50}
        assert len(documents) == pytest.approx(1000 * share, abs=50)  # more than three standard deviations
        assert {split_of(d) for d in documents} == {split}
    assert many.rows("ood") == []


def test_a_prompt_that_is_too_long_is_left_out_whole_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = document("long")
    long["paragraphs"] = [*DOCUMENT["paragraphs"][:1], {"order": 2, "text": "In millions." + "." * 100}]
    path = write(tmp_path, [DOCUMENT, long])
    (short, kept) = sorted(
        sum(len(m["content"]) for m in row["prompt"]) for row in all_rows(load(path, max_prompt_chars=None))
    )
    assert kept == short + 100
    assert len(all_rows(load(path, max_prompt_chars=kept))) == 2
    assert not caplog.records
    assert [row["document"] for row in all_rows(load(path, max_prompt_chars=kept - 1))] == ["d"]
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", f"numeric_qa: rows left out of {path}: 1 too long")
    ]
    with pytest.raises(ValueError, match="no question that one figure answers, max_prompt_chars=9"):
        load(path, max_prompt_chars=9)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "holds a dict; expected TAT-QA's list"),
        ([], "no question"),
        ([DOCUMENT, {}], "document 2 is not in TAT-QA's format: .*'table'"),
        ([DOCUMENT, "text"], "document 2 is not in TAT-QA's format"),
        ([{**DOCUMENT, "questions": [{**QUESTION, "rel_paragraphs": ["7"]}]}], "document 1 .*'7'"),
        ([{**DOCUMENT, "questions": [{"uid": "q"}]}], "document 1 .*'answer'"),
        ([{**DOCUMENT, "paragraphs": None}], "document 1 is not"),
    ],
)
def test_a_file_in_another_format_is_refused_by_name(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        load(write(tmp_path, value))
    assert "questions.json" in str(refused.value)


def test_a_missing_or_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected TAT-QA's JSON"):
        load(tmp_path / "absent.json")
    path = tmp_path / "broken.json"
    for content in (b'[{"table": ', b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.json is not JSON in UTF-8"):
            load(path)
    with pytest.raises(ValueError, match="no split 'dev'; it has: train, calibration, test, ood"):
        load(write(tmp_path, [DOCUMENT])).rows("dev")


# --- all of TAT-QA's development set ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tatqa(shared_data: Path) -> Task:
    return load(shared_data / "tatqa" / "tatqa_dataset_dev.json")


def paid(task: Task, row: Row, *completions: str) -> list[float | None]:
    assert task.reward is not None
    return [outcome.score for outcome in score(task.reward, completions, ["?"] * len(completions), row)]


def test_1061_of_the_1668_questions_are_kept(tatqa: Task, shared_data: Path) -> None:
    assert {split: len(tatqa.rows(split)) for split in SPLITS} == {
        "train": 643,
        "calibration": 123,
        "test": 295,
    }
    assert len({row["id"] for row in all_rows(tatqa)}) == 1061
    bounded = load(shared_data / "tatqa" / "tatqa_dataset_dev.json", max_prompt_chars=1200)
    assert {split: len(bounded.rows(split)) for split in SPLITS} == {
        "train": 588,
        "calibration": 112,
        "test": 277,
    }


def test_no_document_is_in_two_splits(tatqa: Task) -> None:
    documents = {split: {row["document"] for row in tatqa.rows(split)} for split in SPLITS}
    assert sum(map(len, documents.values())) == len(set.union(*documents.values()))
    tables = {
        split: {row["prompt"][1]["content"].split("\n\n")[0] for row in tatqa.rows(split)} for split in SPLITS
    }
    assert sum(map(len, tables.values())) == len(set.union(*tables.values()))


def test_the_reward_finds_its_columns(tatqa: Task) -> None:
    assert tatqa.reward is not None
    for row in all_rows(tatqa):
        check_reward(tatqa.reward, row)


def test_gold_scores_1_empty_0_and_perturbed_gold_0(tatqa: Task) -> None:
    assert tatqa.gold is not None
    for row in all_rows(tatqa):
        gold = tatqa.gold(row)
        digit = re.search(r"[1-9]", gold)
        wrong = gold if digit is None else gold.replace(digit[0], str(10 - int(digit[0])), 1)
        wrong = wrong if wrong != gold else f"9{gold}"  # 5 stays 5
        assert paid(tatqa, row, gold, f"Answer: {gold}", "", wrong, f"{gold} or {wrong}") == [1, 1, 0, 0, 0]
        assert len(gold.encode()) <= tatqa.max_new_tokens  # enough for one byte a token
        assert [tatqa.metrics["readable"](completions=[text])[0] for text in (gold, "")] == [1.0, 0.0]


def test_flawed_gold_scores_0_and_is_mostly_a_figure(tatqa: Task) -> None:
    assert tatqa.corrupt is not None
    rows, rng = all_rows(tatqa), random.Random(0)
    flawed = [tatqa.corrupt(row, rng) for row in rows]
    assert [paid(tatqa, row, text) for row, text in zip(rows, flawed, strict=True)] == [[0.0]] * len(rows)
    assert sum(figure(text) is not None for text in flawed) > 0.8 * len(rows)
    assert len({tatqa.corrupt(rows[0], rng) for _ in range(100)}) > 5
    assert tatqa.corrupt(rows[0], random.Random(7)) == tatqa.corrupt(rows[0], random.Random(7))


def test_gold_without_its_scale_or_per_cent_sign_scores_0(tatqa: Task) -> None:
    rows = [row for row in all_rows(tatqa) if row["scale"]]
    assert len(rows) == 802
    for row in rows:
        value, kind, _ = meaning(row)
        assert paid(tatqa, row, row["answer"]) == [float(value == 0 and kind != "%")]  # no millions are none


def meaning(row: Row) -> tuple[float, str, float]:
    """(value, kind, half a unit), by a few lines that know nothing of the parser."""
    text = row["completion"].replace("−", "-")
    number = re.search(r"[0-9][0-9,]*(?:\.([0-9]+))?", text)
    assert number is not None
    words = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "cents": 1e-2, "p": 1e-2, "m": 1e6}
    scale = next((size for word, size in words.items() if text.rstrip(")").endswith(word)), 1.0)
    value = float(number[0].replace(",", "")) * scale * (-1 if "-" in text or "(" in text else 1)
    currency = next((c for c in ("€", "£", "RMB", "INR") if c in text), "$" if "$" in text else "")
    kind = "%" if "%" in text else "days" if "days" in text else currency
    return value, kind, scale * 0.5 / 10 ** len(number[1] or "")


def test_gold_of_another_row_fails_unless_it_means_the_same(tatqa: Task) -> None:
    rows = all_rows(tatqa)
    num_same = 0
    for i, row in enumerate(rows):
        value, kind, half_unit = meaning(row)
        others = [rows[(i + step) % len(rows)] for step in (1, 2, 5, 13, 34)]
        for other, earned in zip(others, paid(tatqa, row, *(o["completion"] for o in others)), strict=True):
            other_value, other_kind, _ = meaning(other)
            kinds = {kind, other_kind}
            same_kind = len(kinds) == 1 or ("" in kinds and "%" not in kinds)
            same = same_kind and abs(value - other_value) <= half_unit * (1 + 1e-9)
            assert earned == float(same), (row["completion"], other["completion"])
            num_same += same
    assert 0 < num_same < 0.02 * 5 * len(rows)


def test_the_row_shown_in_the_docstring_is_real(tatqa: Task) -> None:
    shown = inspect.getdoc(numeric_qa) or ""
    lines = {line.strip() for line in shown.splitlines()}
    (row,) = [row for row in all_rows(tatqa) if row["id"] in shown]
    for line in row["prompt"][1]["content"].splitlines():
        assert line.strip() in lines
    for name in ("id", "document", "completion", "answer", "scale"):
        assert f"{name:12}{row[name]}" in lines
