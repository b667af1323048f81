"""A sheet goes to a spreadsheet and back; pairs whose outputs are the same are ties without being asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tieout.evidence.evaluate import PROGRAMMATIC, Case
from tieout.evidence.human import Grade, read_grades, settled_ties, write_sheet
from tieout.evidence.human_table import grades_in, table_of, write_table
from tieout.labelling.items import read_items
from tieout.storage.jsonl import read_jsonl

PROMPT = [{"role": "system", "content": "Short."}, {"role": "user", "content": 'Which "one"?\nSay; it.'}]


def case(model: str, number: int, same: bool) -> Case:
    said = f"answer, {number}" if same else f'{model} says\n"{number}"; 1,5'
    return Case(f"t/{number}", PROGRAMMATIC, "test", PROMPT, said, 1.0)


def sheet_in(run: Path, same: int, number: int = 12) -> Path:
    """The sheet of a run whose models say the same in the first `same` cases."""
    cases = {m: [case(m, i, i < same) for i in range(number)] for m in ("new", "old")}
    return write_sheet(run / "evidence" / "human", cases, [("new", "old")])


def grade_all(sheet: Path, preferred: Any) -> None:
    """Fill in pairs that are not settled, one after the other, until there is nothing more to give."""
    left = iter(preferred)
    rows = [row for _, row in read_jsonl(sheet)]
    for row in rows:
        if row["preferred"] is None:
            row["preferred"] = next(left, None)
    sheet.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ties(sheet: Path) -> tuple[int, int]:
    """(grades that people gave, ties that nobody was asked for)."""
    key = sheet.with_name("key.json")
    grades = read_grades(sheet, key)
    return len(grades), len(settled_ties(sheet, key, grades))


def test_the_same_outputs_are_ties_as_far_as_the_sheet_was_graded(tmp_path: Path) -> None:
    sheet = sheet_in(tmp_path, same=8)
    assert ties(sheet) == (0, 0), "nobody graded anything: no track without people"
    grade_all(sheet, ["a", "b"])
    given, counted = ties(sheet)
    rows = [row for _, row in read_jsonl(sheet)]
    last = max(i for i, row in enumerate(rows) if row["preferred"] in ("a", "b"))
    assert (given, counted) == (2, sum(row["preferred"] == "tie" for row in rows[:last]))
    assert counted < 8
    grade_all(sheet, ["a", "b"])
    assert ties(sheet) == (4, 8)


def test_nobody_is_asked_about_the_same_outputs(tmp_path: Path) -> None:
    sheet = sheet_in(tmp_path, same=8)
    _, items = read_items(tmp_path)
    assert len(items) == len(table_of(sheet)) == 4
    assert all(item.texts[0] != item.texts[1] for item in items)
    assert sheet_in(tmp_path, same=8) == sheet
    assert not (sheet.parent / "sheet-1.jsonl").exists(), "a sheet without a person's grade is no begun one"
    with pytest.raises(ValueError, match="nothing to grade"):
        read_items(sheet_in(tmp_path / "other", same=12).parents[2])


@pytest.mark.parametrize(("name", "mark"), [("graded.csv", ";"), ("graded.csv", ","), ("graded.tsv", "\t")])
def test_a_sheet_comes_back_from_a_spreadsheet(tmp_path: Path, name: str, mark: str) -> None:
    sheet = sheet_in(tmp_path, same=0)
    key = sheet.with_name("key.json")
    write_table(tmp_path / "sheet.csv", table_of(sheet))
    with (tmp_path / "sheet.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["prompt"].endswith('Which "one"?\nSay; it.')
    for row, said in zip(rows, ["A", " b", "Tie", "", "a"], strict=False):
        row["preferred"] = said
    with (tmp_path / name).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=mark, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    by_hand = sheet_in(tmp_path / "hand", same=0)
    grade_all(by_hand, ["a", "b", "tie", None, "a"])
    found = [Grade(**row) for row in grades_in(tmp_path / name, sheet, key)]
    assert found == read_grades(by_hand, key)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("preferred", "c", "preferred is 'c'; expected a, b, tie or nothing"),
        ("pair", "99", "unknown pair '99'; the sheet has 12 other pairs"),
        ("output_a", "mine", "output_a of pair '1' is not the one that was written"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_line(
    tmp_path: Path, column: str, value: str, said: str
) -> None:
    sheet = sheet_in(tmp_path, same=0)
    rows = [{**row, "preferred": "a"} for row in table_of(sheet)]
    rows[0][column] = value
    write_table(tmp_path / "graded.csv", rows)
    with pytest.raises(ValueError, match=f"graded.csv:2: {said}"):
        grades_in(tmp_path / "graded.csv", sheet, sheet.with_name("key.json"))


def test_grades_that_name_their_models_may_be_a_table(tmp_path: Path) -> None:
    row = {"case": "t/1", "model_a": "new", "model_b": "old", "preferred": "B"}
    write_table(tmp_path / "graded.csv", [row, {**row, "case": "t/2", "preferred": ""}])
    (found,) = grades_in(tmp_path / "graded.csv", tmp_path / "none.jsonl", tmp_path / "none.json")
    assert found == {**row, "preferred": "b"}
