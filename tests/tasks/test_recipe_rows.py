"""The rows that recipes train and measure on are distinct and apart, their gold scores 1, and docs/data.md counts them.

Recipes of the same task and options are one case, with the rows of those that train on the most.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tieout.evidence.leakage import held_out, rows_of
from tieout.rewards.scoring.call import Call
from tieout.rewards.scoring.runner import score_groups
from tieout.rows.card import shared_entities
from tieout.rows.leakage import find_leaks
from tieout.rows.spread import spread
from tieout.sandbox.choose import available
from tieout.tasks import Task, load_task
from tieout.tasks.files import general_rows
from tieout.types import Completion, Row

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
data_cards: Any = import_module("data_cards")

CASES = {case.name: case for case in data_cards.data()}
WITHOUT_ENTITY = {
    "align": "questions of one file",
    "rag": "passages, whose companies are told apart by a test of the task",
    "style": "notes, apart by their text",
}
"""Recipes whose task divides rows by nothing that a column names."""
TWICE = {"tatqa": 1}
"""Prompts that are there twice: TAT-QA asks one question of its training documents two times."""
SCORED = {"code": 12, "code_8b": 12, "summaries": 100, "summaries_8b": 6}
"""Rows of a split whose gold is scored, evenly spaced, where that takes long: programs run in a sandbox, and a summary
is compared with each sentence of its call. Of other tasks all are."""
FLAWED = 25
"""Rows of a split of which a wrong answer is scored."""
COMPARED = {"summaries_8b": 150}
"""Training rows that test rows are compared with, evenly spaced, where all would take half a minute."""


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]


@pytest.fixture
def task(case: Any, request: pytest.FixtureRequest) -> Task:
    return loaded(case.name, request.getfixturevalue("shared_data") if case.real else None)


@cache
def loaded(name: str, shared: Path | None) -> Task:
    if shared is not None and not (shared / data_cards.REAL[CASES[name].real]).exists():
        pytest.skip(f"no {data_cards.REAL[CASES[name].real]} in {shared}")
    task: Task = CASES[name].task(shared)
    return task


def asked(task: Task, row: Row) -> str:
    """What tells a row from others: in an environment, all may open with the same words."""
    return str(row[task.entity] if task.environment is not None else row["prompt"])


def score(task: Task, calls: Sequence[tuple[Row, str]]) -> list[float]:
    """Of one completion each; a game is won, or lost, in one turn. NaN for an error."""
    assert task.reward is not None
    said = [
        Completion([], [], text=text, turns=[{"role": "assistant", "content": text}] if task.games else ())
        for _, text in calls
    ]
    rows = [row for row, _ in calls]
    groups = [Call([one], [row["prompt"]], row) for one, row in zip(said, rows, strict=True)]
    found = [outcome.score for (outcome,) in score_groups(task.reward, groups)]
    return [float("nan") if one is None else one for one in found]


def test_no_prompt_is_there_twice_and_no_entity_in_two_splits(case: Any, task: Task) -> None:
    splits = data_cards.splits(task)
    assert {"train", "test"} <= set(splits)
    counts = Counter(asked(task, row) for row in chain(*splits.values()))
    assert sum(count - 1 for count in counts.values()) == TWICE.get(case.name, 0)
    if case.name in WITHOUT_ENTITY:
        assert not task.entity
        return
    assert all(row[task.entity] for row in chain(*splits.values()))
    assert shared_entities(splits, task.entity) == {}


def test_no_row_that_is_measured_on_is_trained_on(case: Any, task: Task) -> None:
    """One that is planted is found: exactly once, though another filing of its company may be near it."""
    train = spread(rows_of(task, "train"), COMPARED.get(case.name, 0))
    for controls, general in {(recipe.controls, recipe.general) for _, recipe in case.recipes}:
        held = held_out(task)
        if controls:
            held["controls"] = load_task(controls).rows("test")
        more = general_rows(general) if general else []
        assert find_leaks({"train": [*train, *more]}, held) == []
        planted = find_leaks({"train": [held["test"][3]]}, held)
        assert [leak.source for leak in planted if leak.kind == "exact"] == ["test"]


def test_gold_scores_one_and_a_wrong_answer_less(case: Any, task: Task) -> None:
    if task.name == "code" and not any(found.works for found in available()):
        pytest.skip("no namespaces here")
    assert task.gold is not None
    rng = random.Random(0)
    for split, rows in data_cards.splits(task).items():
        looked = spread(rows, SCORED.get(case.name, 0))
        right = [(row, gold) for row in looked if (gold := task.gold(row)) is not None]
        if (case.name, split) == ("align", "test"):
            assert not right  # its test rows have answers, and no completions
            continue
        assert len(right) == len(looked)
        assert score(task, right) == [pytest.approx(1.0)] * len(right), split
        flawed = spread(right, FLAWED)
        if task.corrupt is not None:
            wrong = [(row, task.corrupt(row, rng)) for row, _ in flawed]
        else:
            wrong = [(row, other) for row, own in flawed if (other := right[0][1]) != own]
        assert max(score(task, wrong)) < 1.0, split


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "summaries_8b" else ()) for name in CASES]
)
def test_the_page_has_the_card(name: str, request: pytest.FixtureRequest) -> None:
    task = loaded(name, request.getfixturevalue("shared_data") if CASES[name].real else None)
    page = data_cards.PAGE.read_text(encoding="utf-8")
    again = "run `python scripts/data_cards.py SHARED_DATA`: the rows have changed"
    assert data_cards.section(CASES[name], task) in page, again


def test_the_page_has_no_other_card() -> None:
    page = data_cards.PAGE.read_text(encoding="utf-8")
    cards = page.split(data_cards.BEGIN)[1].split(data_cards.END)[0]
    found = [line.removeprefix("### ") for line in cards.splitlines() if line.startswith("### ")]
    assert found == list(CASES)
