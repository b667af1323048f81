"""The grader does not know who wrote what; the grades come back to the right model; tampering is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_cases import make_cases

from tieout.evidence.human import Grade, read_grades, write_sheet
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl

NEW = ("new", make_cases([0.5] * 40, model="NEW"))
OLD = ("old", make_cases([0.5] * 40, model="OLD"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def fill(path: Path, prefer: str, count: int = 1000) -> None:
    """Prefer the output that contains a word, in the first `count` rows."""
    rows = rows_of(path)
    for row in rows[:count]:
        row["preferred"] = "a" if prefer in row["output_a"] else "b"
    write_jsonl(path, rows)


def test_the_sheet_is_blinded_and_balanced(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD, num_cases=40)
    rows = rows_of(sheet)
    assert len({row["case"] for row in rows}) == 40
    assert all(row["preferred"] is None for row in rows)
    assert set(rows[0]) == {"case", "prompt", "output_a", "output_b", "preferred"}
    new_is_a = sum("NEW" in row["output_a"] for row in rows)
    assert 8 <= new_is_a <= 32  # a coin per case, not one for all


def test_the_seed_decides_order_and_sides(tmp_path: Path) -> None:
    sheets = [write_sheet(tmp_path / str(i), NEW, OLD, 20, seed) for i, seed in enumerate((0, 0, 1))]
    texts = [sheet.read_text() for sheet in sheets]
    assert texts[0] == texts[1] != texts[2]


def test_a_grade_reaches_the_model_that_wrote_the_output(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
    fill(sheet, prefer="NEW")
    grades = read_grades(sheet, tmp_path / "key.json", models=["old", "new"])
    assert len(grades) == 40
    assert all(grade.shares() == {"new": 1.0, "old": 0.0} for grade in grades)


def test_a_tie_is_half_for_each() -> None:
    assert Grade("c", "x", "y", "tie").shares() == {"x": 0.5, "y": 0.5}


def test_rows_not_filled_in_are_left_out(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
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
        ({"case": "t/other"}, r"sheet.jsonl:2: unknown case 't/other'"),
        ({"case": None}, r"sheet.jsonl:2: no case"),
        ({"output_a": "better"}, r"sheet.jsonl:2: the prompt or an output of case .* is not the one"),
        ({"prompt": "other"}, r"sheet.jsonl:2: the prompt or an output"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
    fill(sheet, prefer="NEW")
    rows = rows_of(sheet)
    rows[1].update(change)
    write_jsonl(sheet, rows)
    with pytest.raises(ValueError, match=message):
        read_grades(sheet, tmp_path / "key.json")


def test_swapped_outputs_are_seen(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
    fill(sheet, prefer="NEW")
    rows = rows_of(sheet)
    rows[0]["output_a"], rows[0]["output_b"] = rows[0]["output_b"], rows[0]["output_a"]
    write_jsonl(sheet, rows)
    with pytest.raises(ValueError, match=r"sheet.jsonl:1: the prompt or an output"):
        read_grades(sheet, tmp_path / "key.json")


def test_one_case_counts_once(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
    fill(sheet, prefer="NEW")
    rows = rows_of(sheet)
    write_jsonl(sheet, [*rows, rows[0]])
    with pytest.raises(ValueError, match=r"sheet.jsonl:41: case .* is graded again, first on line 1"):
        read_grades(sheet, tmp_path / "key.json")


def test_a_missing_preferred_is_a_mistake_not_a_blank(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
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
    sheet = write_sheet(tmp_path, NEW, OLD)
    fill(sheet, prefer="NEW")
    before = sheet.read_bytes()
    write_sheet(tmp_path, NEW, OLD)
    assert sheet.read_bytes() == before


def test_a_graded_sheet_of_other_outputs_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, NEW, OLD)
    fill(sheet, prefer="NEW", count=3)
    before = sheet.read_bytes()
    write_sheet(tmp_path, ("new", make_cases([0.5] * 40, model="LATER")), OLD)
    assert (tmp_path / "sheet-1.jsonl").read_bytes() == before
    assert len(read_grades(tmp_path / "sheet-1.jsonl", tmp_path / "key-1.json")) == 3
    assert read_grades(sheet, tmp_path / "key.json") == []
    assert "LATER" in sheet.read_text()


def test_a_sheet_without_grades_is_replaced(tmp_path: Path) -> None:
    write_sheet(tmp_path, NEW, OLD)
    write_sheet(tmp_path, NEW, OLD, seed=1)
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.jsonl", "key.json"}
    assert read_json(tmp_path / "key.json")["seed"] == 1


def test_a_pair_needs_two_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both 'new'"):
        write_sheet(tmp_path, NEW, NEW)
