"""Variants of rows: another prompt, the same right answer under the reward, the same variant for a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.rewards.scoring.runner import score
from tieout.tasks import Task, load_task
from tieout.tasks.rag import load
from tieout.tasks.variants import asked_in, surrounded
from tieout.types import Row

MADE = {
    "finance_statements": ("finance_statements", {}),
    "ladder": ("finance_statements", {"credit": "ladder"}),
    "rag": ("rag", {}),
    "style": ("style", {}),
    "summaries": ("summaries", {}),
}


@cache
def task_of(name: str) -> Task:
    made, options = MADE[name]
    return load_task(made, options)


def prove(task: Task, row: Row, kind: str, seed: int) -> Row | None:
    """The variant, after a check that gold of the variant is worth what gold of the row is."""
    found = task.variants[kind](row, random.Random(seed))
    assert found == task.variants[kind](row, random.Random(seed))
    if found is None:
        return None
    assert task.gold is not None
    assert task.reward is not None
    assert found["prompt"] != row["prompt"]
    assert set(found) == set(row)
    scores = [
        [score(reward, [task.gold(of) or ""], ["?"], of)[0].score for of in (row, found)]
        for reward in (task.reward, *task.metrics.values())
    ]
    assert all(before == after for before, after in scores), scores
    assert scores[0][1] == 1.0
    return found


@pytest.mark.parametrize("name", MADE)
@given(split=st.sampled_from(["test", "ood"]), index=st.integers(0, 99), seed=st.integers(0, 2**32))
def test_gold_of_every_variant_scores_as_gold_of_its_row(
    name: str, split: str, index: int, seed: int
) -> None:
    task = task_of(name)
    for kind in task.variants:
        prove(task, task.rows(split)[index], kind, seed)


def figures(text: str) -> Counter[str]:
    return Counter(text.replace(",", "").split())


@given(index=st.integers(0, 399), seed=st.integers(0, 2**32))
def test_lines_of_a_statement_change_places_within_what_is_added_up(index: int, seed: int) -> None:
    row = task_of("finance_statements").rows("test")[index]
    found = task_of("finance_statements").variants["order"](row, random.Random(seed))
    if found is None:
        return
    before, after = row["statement"].split("\n"), found["statement"].split("\n")
    assert sorted(before) == sorted(after)
    assert before[:2] == after[:2]
    moved = {line for one, other in zip(before, after, strict=True) if one != other for line in (one, other)}
    parts = [part["name"] for part in row["components"]]
    assert all(any(name in line for name in parts) for line in moved)
    total = row["total"]["name"]
    assert before.index(next(x for x in before[2:] if total in x)) == after.index(
        next(x for x in after[2:] if total in x)
    )
    names = [part["name"] for part in found["components"]]
    places = [
        next(i for i, line in enumerate(after) if part["evidence"] in " ".join(line.split()))
        for part in found["components"]
    ]
    assert places == sorted(places)
    assert sorted(names) == sorted(parts)


def test_most_statements_have_an_order_and_all_another_print_and_other_words() -> None:
    task = task_of("finance_statements")
    found: Counter[str] = Counter()
    for index in range(200):
        row = task.rows("test")[index]
        for kind in task.variants:
            found[kind] += prove(task, row, kind, index) is not None
    assert found["formatting"] == found["paraphrase"] == 200
    assert 120 < found["order"] < 200


def test_another_print_of_a_statement_has_the_same_figures() -> None:
    task = task_of("finance_statements")
    for index in range(60):
        row = task.rows("test")[index]
        found = task.variants["formatting"](row, random.Random(0))
        assert found is not None
        assert figures(found["statement"]) == figures(row["statement"])
        assert [p["value"] for p in found["components"]] == [p["value"] for p in row["components"]]


def test_passages_in_another_order_are_cited_by_their_new_numbers() -> None:
    task = task_of("rag")
    for index in range(40):
        row = task.rows("test")[index]
        found = task.variants["order"](row, random.Random(index))
        assert found is not None
        assert found["context"] != row["context"]
        assert sorted(found["context"]) == sorted(row["context"])
        if row["answer"]:
            (one,), (other,) = (
                [n for n in (1, 2, 3, 4) if f"[{n}]" in r["completion"]] for r in (row, found)
            )
            assert row["context"][one - 1] == found["context"][other - 1]


def test_a_prompt_that_is_not_made_of_its_passages_keeps_their_order(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"prompt": [{"role": "user", "content": "A first, then B: what is A?"}], "question": "What is A?", '
        '"context": ["A is 1.", "B is 2."], "answer": "1", "completion": "A is 1 [1]."}\n'
    )
    task = load(file)
    row = task.rows("test")[0]
    assert {kind: vary(row, random.Random(0)) for kind, vary in task.variants.items()} == {
        "order": None,
        "formatting": None,
        "paraphrase": None,
    }


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_blank_lines_around_a_prompt_change_nothing_in_it(said: Sequence[str]) -> None:
    talk: Row = {
        "prompt": [
            {"role": "assistant" if (len(said) - i) % 2 == 0 else "user", "content": s}
            for i, s in enumerate(said)
        ],
        "answer": "7",
    }
    found = surrounded(talk, random.Random(0))
    assert found is not None
    assert asked_in(found) == f"\n\n{said[-1]}\n\n"
    assert found["prompt"][:-1] == talk["prompt"][:-1]
    assert found["answer"] == "7"
    text = surrounded({"prompt": said[0]}, random.Random(0))
    assert text == {"prompt": f"\n\n{said[0]}"}


def test_a_conversation_that_ends_otherwise_has_no_variant() -> None:
    for prompt in ([{"role": "assistant", "content": "Hi"}], [{"role": "user", "content": ["parts"]}]):
        assert surrounded({"prompt": prompt}, random.Random(0)) is None


def test_questions_on_tables_of_real_reports(shared_data: Path) -> None:
    task = load_task("numeric_qa", {"path": str(shared_data / "tatqa" / "tatqa_dataset_dev.json")})
    assert task.gold is not None
    assert task.reward is not None
    rows = task.rows("test")
    assert len(rows) > 200
    for index, row in enumerate(rows):
        for kind in ("order", "formatting", "paraphrase"):
            found = prove(task, row, kind, index)
            assert found is not None
            assert (
                row["prompt"][1]["content"].split() == found["prompt"][1]["content"].split()
                or kind != "paraphrase"
            )
        moved = task.variants["order"](row, random.Random(0))
        assert moved is not None
        assert asked_in(moved) is not None
        first, last = str(asked_in(moved)).split("\n\n")[0], str(asked_in(row)).split("\n\n")[-1]
        assert first == last
