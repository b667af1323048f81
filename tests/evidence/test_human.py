"""The grader does not know who wrote what; the grades come back to the right model; tampering is seen."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from made_cases import make_cases
from tieout.evidence.evaluate import Case
from tieout.evidence.human import RUBRIC, Grade, is_sheet, read_grades, take_sheet, write_sheet
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl

CASES = {model: make_cases([0.5] * 40, model=model.upper()) for model in ("new", "old", "base")}


def write(folder: Path, num_cases: int = 40, seed: int = 0, rubric: str = "", **cases: list[Case]) -> Path:
    """A sheet of one comparison."""
    return write_sheet(folder, {**CASES, **cases}, [("new", "old")], num_cases, seed, rubric)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def fill(path: Path, prefer: str, count: int = 1000) -> None:
    """Prefer the output that contains a word, in the first `count` rows."""
    rows = rows_of(path)
    for row in rows[:count]:
        row["preferred"] = "a" if prefer in row["output_a"] else "b"
    write_jsonl(path, rows)


def test_the_sheet_is_blinded_and_balanced(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    rows = rows_of(sheet)
    assert len({row["case"] for row in rows}) == 40
    assert all(row["preferred"] is None for row in rows)
    assert set(rows[0]) == {"pair", "case", "prompt", "output_a", "output_b", "question", "preferred"}
    new_is_a = sum("NEW" in row["output_a"] for row in rows)
    assert 8 <= new_is_a <= 32  # a coin per case, not one for all


def test_the_seed_decides_order_and_sides(tmp_path: Path) -> None:
    sheets = [write(tmp_path / str(i), 20, seed) for i, seed in enumerate((0, 0, 1))]
    texts = [sheet.read_text() for sheet in sheets]
    assert texts[0] == texts[1] != texts[2]


def test_a_grade_reaches_the_model_that_wrote_the_output(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    fill(sheet, prefer="NEW")
    grades = read_grades(sheet, tmp_path / "key.json", models=["old", "new"])
    assert len(grades) == 40
    assert all(grade.shares() == {"new": 1.0, "old": 0.0} for grade in grades)


def test_a_tie_is_half_for_each() -> None:
    assert Grade("c", "x", "y", "tie").shares() == {"x": 0.5, "y": 0.5}


def test_rows_not_filled_in_are_left_out(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    assert read_grades(sheet, tmp_path / "key.json") == []
    fill(sheet, prefer="OLD", count=7)
    assert len(read_grades(sheet, tmp_path / "key.json")) == 7


def test_no_file_is_an_empty_track(tmp_path: Path) -> None:
    assert read_grades(tmp_path / "sheet.jsonl", tmp_path / "key.json") == []
    assert read_grades(tmp_path / "grades.jsonl") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preferred": "c"}, r"sheet.jsonl:2: preferred is 'c'; expected"),
        ({"preferred": 1}, r"sheet.jsonl:2: preferred is 1; expected"),
        ({"pair": "77"}, r"sheet.jsonl:2: unknown pair '77'"),
        ({"case": "t/other"}, r"sheet.jsonl:2: the case, the prompt or an output of pair '2' is not the one"),
        ({"case": None}, r"sheet.jsonl:2: no case"),
        (
            {"output_a": "better"},
            r"sheet.jsonl:2: the case, the prompt or an output of pair '2' is not the one",
        ),
        ({"prompt": "other"}, r"sheet.jsonl:2: the case, the prompt or an output"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    sheet = write(tmp_path)
    fill(sheet, prefer="NEW")
    rows = rows_of(sheet)
    rows[1].update(change)
    write_jsonl(sheet, rows)
    with pytest.raises(ValueError, match=message):
        read_grades(sheet, tmp_path / "key.json")


def test_swapped_outputs_are_seen(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    fill(sheet, prefer="NEW")
    rows = rows_of(sheet)
    rows[0]["output_a"], rows[0]["output_b"] = rows[0]["output_b"], rows[0]["output_a"]
    write_jsonl(sheet, rows)
    with pytest.raises(ValueError, match=r"sheet.jsonl:1: the case, the prompt or an output"):
        read_grades(sheet, tmp_path / "key.json")


def test_all_three_comparisons_are_on_the_sheet_the_judged_one_first(tmp_path: Path) -> None:
    pairs = [("new", "old"), ("new", "base"), ("old", "base")]
    sheet = write_sheet(tmp_path, CASES, pairs, num_cases=30)
    rows = rows_of(sheet)
    assert [row["pair"] for row in rows] == [str(i) for i in range(1, 91)]
    for start, (one, other) in zip((0, 30, 60), pairs, strict=True):
        part = rows[start : start + 30]
        assert {row[side].split()[0].lower() for row in part for side in ("output_a", "output_b")} == {
            one,
            other,
        }
        assert len({row["case"] for row in part}) == 30
    assert {row["case"] for row in rows[:30]} == {row["case"] for row in rows[60:]}
    for row in rows:  # new is better than old, old than base
        row["preferred"] = min(
            "ab", key=lambda side: ["NEW", "OLD", "BASE"].index(row[f"output_{side}"].split()[0])
        )
    write_jsonl(sheet, rows)
    grades = read_grades(sheet, tmp_path / "key.json", models=list(CASES))
    assert [sum(g.shares().get(model, 0.0) for g in grades) for model in ("new", "old", "base")] == [
        60,
        30,
        0,
    ]


def test_the_rubric_is_next_to_the_sheet_and_its_question_on_every_row(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    assert "One wrong figure outweighs everything below" in (tmp_path / "rubric.md").read_text()
    assert {row["question"] for row in rows_of(sheet)} == {RUBRIC.splitlines()[0]}
    own = "Which answer would the firm send?\nBy policy 12."
    sheet = write(tmp_path, rubric=own)
    assert own in (tmp_path / "rubric.md").read_text()
    assert {row["question"] for row in rows_of(sheet)} == {"Which answer would the firm send?"}


def test_grades_by_another_rubric_are_kept_apart(tmp_path: Path) -> None:
    fill(write(tmp_path), prefer="NEW", count=3)
    sheet = write(tmp_path, rubric="By policy 12.")
    assert read_grades(sheet, tmp_path / "key.json") == []
    assert len(read_grades(tmp_path / "sheet-1.jsonl", tmp_path / "key-1.json")) == 3
    assert "One wrong figure" in (tmp_path / "rubric-1.md").read_text()


def test_a_filled_sheet_of_the_earlier_form_is_read(tmp_path: Path) -> None:
    shown = {"case": "t/1", "prompt": "p", "output_a": "x", "output_b": "y"}
    text = json.dumps([shown[name] for name in shown], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_jsonl(tmp_path / "sheet.jsonl", [{**shown, "preferred": "b"}])
    (tmp_path / "key.json").write_text(
        json.dumps(
            {"models": ["new", "old"], "assignment": {"t/1": {"a": "new", "b": "old", "sha256": digest}}}
        )
    )
    assert read_grades(tmp_path / "sheet.jsonl", tmp_path / "key.json") == [Grade("t/1", "new", "old", "b")]


def test_one_case_counts_once(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    fill(sheet, prefer="NEW")
    rows = rows_of(sheet)
    write_jsonl(sheet, [*rows, rows[0]])
    with pytest.raises(ValueError, match=r"sheet.jsonl:41: pair '1' is graded again, first on line 1"):
        read_grades(sheet, tmp_path / "key.json")


def test_a_missing_preferred_is_a_mistake_not_a_blank(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    rows = rows_of(sheet)
    del rows[0]["preferred"]
    write_jsonl(sheet, rows)
    with pytest.raises(ValueError, match=r"sheet.jsonl:1: preferred is None"):
        read_grades(sheet, tmp_path / "key.json")


# ---- a file that names the models


def test_grades_that_name_their_models(tmp_path: Path) -> None:
    path = tmp_path / "grades.jsonl"
    row = {"case": "1", "model_a": "new", "model_b": "old"}
    write_jsonl(path, [{**row, "preferred": p} for p in ("a", "tie", "b", None)])
    grades = read_grades(path, models=["new", "old"])
    assert [grade.shares()["new"] for grade in grades] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"case": "1", "model_a": "new", "preferred": "a"}, "no model_b"),
        ({"case": "1", "model_a": "new", "model_b": "new", "preferred": "a"}, "both 'new'"),
        ({"case": "1", "model_a": "new", "model_b": "gpt", "preferred": "a"}, "unknown model 'gpt'"),
        ({"case": "1", "model_a": "new", "model_b": "old", "preferred": "new"}, "preferred is 'new'"),
    ],
)
def test_bad_grades_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "grades.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=rf"grades.jsonl:1: .*{message}"):
        read_grades(path, models=["new", "old"])


# ---- a person's work is never lost


def test_writing_the_same_sheet_again_keeps_the_grades(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    fill(sheet, prefer="NEW")
    before = sheet.read_bytes()
    write(tmp_path)
    assert sheet.read_bytes() == before


def test_a_graded_sheet_of_other_outputs_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    sheet = write(tmp_path)
    fill(sheet, prefer="NEW", count=3)
    before = sheet.read_bytes()
    write(tmp_path, new=make_cases([0.5] * 40, model="LATER"))
    assert (tmp_path / "sheet-1.jsonl").read_bytes() == before
    assert len(read_grades(tmp_path / "sheet-1.jsonl", tmp_path / "key-1.json")) == 3
    assert read_grades(sheet, tmp_path / "key.json") == []
    assert "LATER" in sheet.read_text()


def test_a_sheet_without_grades_is_replaced(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, seed=1)
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.jsonl", "key.json", "rubric.md"}
    assert read_json(tmp_path / "key.json")["seed"] == 1


def test_a_pair_needs_two_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both 'new'"):
        write_sheet(tmp_path, CASES, [("new", "new")])


def test_a_sheet_that_was_filled_in_elsewhere_takes_the_place_of_the_runs_own(tmp_path: Path) -> None:
    sheet = write(tmp_path / "run")
    copy = tmp_path / "from-anna.jsonl"
    shutil.copyfile(sheet, copy)
    fill(copy, prefer="NEW")
    assert is_sheet(copy)
    take_sheet(copy, sheet)
    assert sheet.read_text() == copy.read_text()
    assert [path.name for path in (tmp_path / "run").glob("sheet*")] == ["sheet.jsonl"]
    other = tmp_path / "from-ben.jsonl"
    shutil.copyfile(copy, other)
    fill(other, prefer="OLD")
    take_sheet(other, sheet)
    assert sheet.with_name("sheet-1.jsonl").read_text() == copy.read_text(), "Anna's grades are kept"
    grades = read_grades(sheet, sheet.with_name("key.json"))
    assert {grade.shares()["old"] for grade in grades} == {1.0}
    rows = rows_of(other)
    write_jsonl(other, [{**rows[0], "output_a": "better"}, *rows[1:]])
    with pytest.raises(ValueError, match=r"from-ben.jsonl:1: the case, the prompt or an output"):
        take_sheet(other, sheet)
    write_jsonl(other, [{"case": "t/1", "model_a": "new", "model_b": "old", "preferred": "a"}])
    assert not is_sheet(other)
