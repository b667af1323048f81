"""Summaries by quiz: seeded rows, gold that scores 1, flaws that do not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tieout.rewards.library.summary import quiz
from tieout.rewards.scoring.runner import score
from tieout.tasks import load_task, rag, summaries
from tieout.tasks.summaries import SIZES, corrupt, load, make

TASK = load_task("summaries")


def test_gold_scores_one_and_every_flaw_less() -> None:
    rng = random.Random(0)
    assert TASK.reward is not None
    for row in TASK.rows("test")[:100]:
        outcomes = score(
            TASK.reward, [row["completion"], corrupt(row, rng), row["document"], ""], ["?"] * 4, row
        )
        assert outcomes[0].score == 1.0
        assert (outcomes[1].score or 0.0) <= 0.8
        assert (outcomes[2].score or 0.0) < 0.3
        assert outcomes[3].score == 0.0


def test_every_reference_gives_five_questions_that_its_document_answers() -> None:
    for row in TASK.rows("calibration"):
        questions = quiz(row["reference"])
        assert len(questions) == 5
        assert all(item["answer"] in row["document"] for item in questions)


def test_rows_follow_from_the_seed() -> None:
    assert list(make(1, {"test": 5}).rows("test")) == list(make(1, {"test": 5}).rows("test"))
    assert [len(TASK.rows(split)) for split in SIZES] == list(SIZES.values())
    with pytest.raises(ValueError, match="no split extra"):
        make(0, {"extra": 1})


def test_a_file_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(TASK.rows("test")[0]) + "\n")
    assert load(path).gold is not None
    path.write_text(json.dumps({"prompt": "?", "document": "d"}) + "\n")
    with pytest.raises(ValueError, match="reward 'summary' needs column 'reference'"):
        load(path)


def test_the_docstrings_show_real_rows() -> None:
    for module, index in ((rag, 2), (summaries, 0)):
        row = module.make().rows("test")[index]
        shown = " ".join((module.__doc__ or "").split())
        assert " ".join(row["prompt"][1]["content"].split()) in shown
        assert row["completion"] in shown
