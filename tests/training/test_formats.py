"""The format of a task's answers is found where they have one."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tieout.tasks import Task, load_task
from tieout.training import formats
from tieout.training.formats import format_of, json_form
from tieout.training.guards import NONE, Guards, valid_of

TAGGED = "<think>2 + 2</think><answer>4</answer>"


def task_of(*answers: Any, column: str = "completion") -> Task:
    return Task("t", lambda split: [{"prompt": str(i), column: a} for i, a in enumerate(answers)])


def test_doctests() -> None:
    assert doctest.testmod(formats).failed == 0


@pytest.mark.parametrize(
    ("task", "valid", "invalid"),
    [
        (task_of('{"a": 1}', '```json\n{"a": 2}\n```'), '{"b": []}', '{"b": ['),
        (task_of('[{"a": 1}]', column="chosen"), "[]", "12"),
        (task_of(TAGGED, TAGGED), TAGGED, "<answer>4</answer>"),
        (load_task("finance_statements"), '{"anything": 1}', "The total is 12."),
    ],
)
def test_the_format_of_the_answers_is_what_is_measured(task: Task, valid: str, invalid: str) -> None:
    form = format_of(task)
    assert form is not None
    assert form([valid, invalid]) == [1.0, 0.0]


@pytest.mark.parametrize(
    "task",
    [
        task_of("42", "17"),
        task_of('{"a": 1}', "and text"),
        task_of([{"role": "assistant", "content": "{}"}]),
        task_of("{}", column="answer"),
        Task("nothing", lambda split: []),
    ],
)
def test_answers_without_one_format_are_not_measured(task: Task) -> None:
    assert format_of(task) is None


def test_it_is_watched_unless_another_is_named_or_none_wanted() -> None:
    task = replace(task_of("{}"), metrics={"short": short})
    assert valid_of(Guards(), task) is json_form
    assert valid_of(Guards(valid="short"), task) is short
    assert valid_of(Guards(valid=NONE), task) is None


def short(completions: list[str], **_: Any) -> list[float | None]:
    return [float(len(c) < 9) for c in completions]


def test_rows_of_a_file_that_gold_was_not_meant_for_have_no_format() -> None:
    task = replace(load_task("finance_statements"), rows=lambda split: [{"prompt": "p", "answer": "42"}])
    assert format_of(task) is None


def test_answers_to_questions_on_real_reports_have_no_one_format(shared_data: Path) -> None:
    path = shared_data / "tatqa" / "tatqa_dataset_dev.json"
    assert format_of(load_task("numeric_qa", {"path": str(path)})) is None
