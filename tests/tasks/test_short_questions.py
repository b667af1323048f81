"""The negative controls of a pretrained model."""

from __future__ import annotations

import json

import pytest

from tieout.rows.leakage import find_leaks
from tieout.tasks import load_task
from tieout.tasks.short_questions import FILE, answered

TASK = load_task("short_questions")


def test_rows_are_distinct_questions_with_answers() -> None:
    rows = TASK.rows("test")
    assert len(rows) == len({row["prompt"][0]["content"] for row in rows})
    assert len(rows) > 150
    assert all(row["answers"] and all(row["answers"]) for row in rows)
    raw = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert [row["question"] for row in raw] == [row["prompt"][0]["content"] for row in rows]


def test_the_rows_to_train_on_ask_nothing_that_is_measured() -> None:
    train, test = TASK.rows("train"), TASK.rows("test")
    assert len(train) > 100
    assert all(row["completion"].strip() for row in train)
    assert not find_leaks({"train": train}, {"test": test})


def test_gold_scores_one_and_its_absence_zero() -> None:
    for row in TASK.rows("test"):
        assert TASK.gold is not None
        assert answered([TASK.gold(row) or "", ""], [row["answers"]] * 2) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The capital of France is Paris.", 1.0),
        ("paris", 1.0),
        ("\n Paris\nand more", 1.0),
        ("The capital is Lyon.\nOr Paris.", 0.0),
        ("Parisian", 0.0),
        ('{"components":[{"name":"Paris","value":0}],"total":0,"citations":[]}', 0.0),
        ("| Paris | 2,238 |", 0.0),
        ("<think>Paris</think>Lyon", 0.0),
    ],
)
def test_what_is_right(text: str, right: float) -> None:
    assert answered([text], [["Paris"]]) == [right]
