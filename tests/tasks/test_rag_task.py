"""Retrieval with citations: seeded rows, gold that scores 1, flaws that do not."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from tieout.rewards.library.rag import right
from tieout.rewards.scoring.runner import score
from tieout.rewards.text.sentences import sentences
from tieout.tasks import load_task
from tieout.tasks.calls import company_names
from tieout.tasks.rag import SIZES, UNKNOWN, answered_from, corrupt, load, make
from tieout.tasks.rag_companies import FIRST_NAMES, MEASURES, SECOND_NAMES

TASK = load_task("rag")
COMPANY = re.compile(rf"[A-Z][a-z]+ (?:{'|'.join(SECOND_NAMES)})")


def test_rows_follow_from_the_seed_and_splits_share_no_company() -> None:
    sizes = {"train": 40, "test": 20}
    assert list(make(3, sizes).rows("test")) == list(make(3, sizes).rows("test"))
    assert make(3, sizes).rows("test")[0] != make(4, sizes).rows("test")[0]
    assert [len(TASK.rows(split)) for split in SIZES] == list(SIZES.values())
    assert TASK.rows("nothing") == []
    for split in SIZES:
        said = " ".join(row["prompt"][1]["content"] for row in TASK.rows(split))
        assert not [n for s, names in FIRST_NAMES.items() if s != split for n in names if f"{n} " in said]
    with pytest.raises(ValueError, match="no split extra"):
        make(0, {"extra": 1})


def test_gold_scores_one_and_every_flaw_less() -> None:
    rng = random.Random(0)
    for row in [*TASK.rows("test"), *make(sizes={"test": 100}, short=True).rows("test")]:
        assert TASK.reward is not None
        outcomes = score(TASK.reward, [row["completion"], corrupt(row, rng), ""], ["?"] * 3, row)
        assert outcomes[0].score == 1.0
        assert (outcomes[1].score or 0.0) < 0.9
        assert outcomes[2].score == 0.0


def test_half_cannot_be_answered_and_the_answer_is_in_exactly_one_passage() -> None:
    rows = TASK.rows("train")
    unknown = [row for row in rows if not row["answer"]]
    assert 0.45 < len(unknown) / len(rows) < 0.55
    assert all(row["completion"] == UNKNOWN for row in unknown)
    for row in rows:
        assert row["prompt"][1]["content"].endswith(row["question"])
        if row["answer"]:
            cited = int(row["completion"].split("[")[1][0])
            assert [row["answer"] in passage for passage in row["context"]] == [
                n == cited for n in range(1, len(row["context"]) + 1)
            ]


def test_no_count_tells_whether_short_passages_answer() -> None:
    """Of the company and what is asked: in how many passages it stands, and how many there are."""
    task = make(sizes={"train": 1000, "test": 100}, short=True, withheld=0.3)
    counts: dict[bool, Counter[tuple[int, int, int, int]]] = {True: Counter(), False: Counter()}
    for row in task.rows("train"):
        named = [COMPANY.findall(passage)[0] for passage in row["context"]]
        told = [next(name for name in MEASURES if name in passage) for passage in row["context"]]
        (asked,), measure = (
            COMPANY.findall(row["question"]),
            next(n for n in MEASURES if n in row["question"]),
        )
        assert ((asked, measure) in zip(named, told, strict=True)) == bool(row["answer"])
        counts[bool(row["answer"])][
            named.count(asked), told.count(measure), len(set(named)), len(set(told))
        ] += 1
    assert set(counts[True]) == set(counts[False]) == {(1, 2, 3, 2), (2, 1, 2, 3)}
    assert 0.25 < counts[False].total() / 1000 < 0.35
    assert 0.4 < sum(not row["answer"] for row in task.rows("test")) / 100 < 0.6
    said = " ".join(row["prompt"][1]["content"] for row in task.rows("train"))
    assert not [name for name in company_names("test") if f"{name} " in said]


def test_no_count_tells_whether_the_passages_answer() -> None:
    """Of the company and the year: in how many passages the asked one stands, and how many there are."""
    counts: dict[bool, Counter[tuple[int, int, int, int]]] = {True: Counter(), False: Counter()}
    for row in TASK.rows("train"):
        named = [COMPANY.findall(passage)[0] for passage in row["context"]]
        years = [re.findall(r"\b20\d\d\b", passage)[0] for passage in row["context"]]
        (asked,) = COMPANY.findall(row["question"])
        (when,) = re.findall(r"\b20\d\d\b", row["question"])
        counts[bool(row["answer"])][
            named.count(asked), years.count(when), len(set(named)), len(set(years))
        ] += 1
    with_answer, without = counts[True], counts[False]
    assert set(with_answer) == set(without) == {(2, 3, 3, 2), (3, 2, 2, 3), (3, 3, 2, 2)}
    for found in counts.values():
        assert all(0.28 < count / found.total() < 0.39 for count in found.values())


def test_a_file_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TASK.rows("test")[:3]))
    assert len(load(path).rows("test")) == 3
    path.write_text(json.dumps({"prompt": "?", "question": "?", "answer": "a"}) + "\n")
    with pytest.raises(ValueError, match="reward 'rag' needs column 'context'; rows have: question, answer"):
        load(path)
    asked = {"prompt": "?", "question": "?", "context": ["a", "b"]}
    path.write_text("".join(json.dumps({**asked, "answer": answer}) + "\n" for answer in ("a", "", None)))
    with pytest.raises(
        ValueError, match=r"rows.jsonl, row 3: reward 'rag' needs column 'answer'; .*; null counts as missing"
    ):
        load(path)


@pytest.mark.parametrize(
    ("answer", "completion", "moved"),
    [
        (
            "$5 million",
            "Net debt [2020] was $5 million [1, 3].",
            "Net debt [2020] was $5 million [{1}, {3}].",
        ),
        ("$5 million", "Net debt was $5 million.", "Net debt was $5 million."),
        (5, "Net debt was 5 [1], see [9].", "Net debt was 5 [{1}], see [9]."),
    ],
)
def test_golds_that_others_wrote_are_moved_and_flawed(
    answer: str | int, completion: str, moved: str, tmp_path: Path
) -> None:
    context = [f"Net debt was {answer} in 2020.", "Cash was $6 million.", "Rent rose."]
    row = {**answered_from(context, "How much was net debt?", "", None), "answer": answer}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**row, "completion": completion}) + "\n")
    task = load(path)
    (given,) = task.rows("test")
    for seed in range(20):
        assert corrupt(given, random.Random(seed)) != completion
    found = task.variants["order"](given, random.Random(0))
    assert found is not None
    places = {str(n): found["context"].index(text) + 1 for n, text in enumerate(context, 1)}
    assert found["completion"] == moved.format("", *(places[n] for n in "123"))


def test_a_row_without_a_completion_has_no_gold(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({name: x for name, x in TASK.rows("test")[0].items() if name != "completion"}))
    task = load(path)
    assert task.gold is not None
    assert task.gold(task.rows("test")[0]) is None


def test_sentences_of_all_passages_of_the_kind_are_no_right_answer() -> None:
    """The reward pays for them, as docs/limits.md says."""
    rows = [row for row in TASK.rows("test") if row["answer"] and not re.search(r"\d", row["answer"])]
    assert len(rows) > 10
    for row in rows:
        word = "executive" if "executive" in row["question"] else "plant"
        said = [
            f"{sentence.rstrip('.')} [{place}]."
            for place, passage in enumerate(row["context"], 1)
            for sentence in sentences(passage)
            if word in sentence
        ]
        outcomes = [score(reward, [" ".join(said)], ["?"], row)[0] for reward in (TASK.reward, right)]
        assert [outcome.score for outcome in outcomes] == [1.0, 0.0]
