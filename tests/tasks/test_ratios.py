"""Figures of two statements and the ratios that follow from them: each by hand, and on real filings."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tieout.errors import InputError
from tieout.evidence.leakage import find_leaks
from tieout.rewards.scoring.runner import score
from tieout.tasks import Task, load_task
from tieout.tasks.ratios import FLAWS, corrupt, load
from tieout.types import Row

FACTS = {
    "Revenues": (60_000, None),
    "CostOfRevenue": (45_000, None),
    "GrossProfit": (15_000, None),
    "NetIncomeLoss": (-2_500, None),
    "AssetsCurrent": (29_000, 1),
    "AssetsNoncurrent": (51_000, 1),
    "Assets": (80_000, 1),
    "LiabilitiesCurrent": (16_000, 1),
    "Liabilities": (52_000, 1),
}
"""Concept -> (value, 1 for a balance)."""


def company(folder: Path, **changes: int | None) -> Path:
    """Company facts of one year; None leaves a concept out."""

    def fact(value: int, instant: int | None) -> dict[str, object]:
        said = {"end": "2023-12-31", "val": value, "accn": "0-1", "form": "10-K"}
        return said if instant else {**said, "start": "2023-01-01"}

    given = {tag: (changes.get(tag, value), instant) for tag, (value, instant) in FACTS.items()}
    tags = {
        tag: {"label": tag, "units": {"USD": [fact(value, instant)]}}
        for tag, (value, instant) in given.items()
        if value is not None
    }
    path = folder / "CIK.json"
    path.write_text(json.dumps({"cik": 1045810, "entityName": "ACME", "facts": {"us-gaap": tags}}))
    return path


def paid(task: Task, row: Row, *texts: str) -> list[float | None]:
    assert task.reward is not None
    return [one.score for one in score(task.reward, list(texts), ["?"] * len(texts), row)]


def test_figures_and_ratios_of_a_company_by_hand(tmp_path: Path) -> None:
    (row,) = load(company(tmp_path)).rows("test")
    reply = json.loads(row["completion"])
    assert reply["ratios"] == {
        "gross margin": 25.0,
        "net margin": -4.2,
        "current ratio": 1.81,
        "leverage": 65.0,
    }
    printed = {tag: value // 1000 if instant else value for tag, (value, instant) in FACTS.items()}
    assert reply["figures"].items() <= printed.items()  # a loss of 2,500 is not shown in thousands
    source = row["prompt"][1]["content"]
    assert "ACME, income statement, 12 months ended" in source
    assert "ACME, balance sheet" in source
    assert "gross margin (GrossProfit / Revenues, in per cent)" in source
    assert {one["total"]: one["parts"] for one in row["relations"]}["GrossProfit"] == {
        "Revenues": 1,
        "CostOfRevenue": -1,
    }


def test_gold_is_paid_and_a_ratio_counts_as_a_figure_does(tmp_path: Path) -> None:
    task = load(company(tmp_path))
    (row,) = task.rows("test")
    reply: dict[str, Any] = json.loads(row["completion"])
    wrong = {**reply, "ratios": {**reply["ratios"], "leverage": 66.0}}
    figure = {**reply, "figures": {**reply["figures"], "Assets": 1}}
    gold, ratio, one, none = paid(
        task, row, *map(json.dumps, (reply, wrong, figure, {**reply, "ratios": {}}))
    )
    assert gold == 1.0
    assert ratio == one
    assert none is not None
    assert ratio is not None
    assert none < ratio < 1.0
    columns = {name: [row[name]] for name in row if name not in ("prompt", "completion")}
    right = {name: metric([json.dumps(wrong)], **columns) for name, metric in task.metrics.items()}
    assert right == {"exact": [0.0], "figures_right": [1.0], "ratios_right": [0.75], "sums_hold": [1.0]}


def test_every_flaw_scores_below_gold(tmp_path: Path) -> None:
    task, rng = load(company(tmp_path)), random.Random(0)
    (row,) = task.rows("test")
    for flaw in (*FLAWS, "truncated"):
        for _ in range(3):
            (found,) = paid(task, row, corrupt(row, rng, flaw))
            assert found is not None
            assert found < 1.0, flaw


def test_a_measure_without_one_answer_is_not_asked_and_both_statements_need_one(tmp_path: Path) -> None:
    (row,) = load(company(tmp_path, Liabilities=28_040)).rows("test")  # 35.05%: a tie
    assert "leverage" not in row["ratios"]
    with pytest.raises(InputError, match="of 1 filings none has an income statement and a balance sheet"):
        load(company(tmp_path, Liabilities=None, AssetsCurrent=None))
    with pytest.raises(InputError, match="max_lines is 1; expected 2 or more"):
        load_task("ratios", {"path": str(tmp_path), "max_lines": 1})


def test_real_filings(shared_data: Path) -> None:
    """Rows of every split; what is asked is shown, gold is paid, and no test row is near a training row."""
    task = load(shared_data / "sec" / "statements", max_lines=8)
    rows = {split: task.rows(split) for split in ("train", "calibration", "test")}
    assert {split: len(found) for split, found in rows.items()} == {"train": 24, "calibration": 4, "test": 6}
    for row in [row for found in rows.values() for row in found]:
        assert paid(task, row, row["completion"]) == [1.0]
        assert len(row["ratios"]) >= 2
        assert all(piece in row["source"] for piece in row["evidence"].values())
    assert find_leaks({"train": rows["train"]}, {"test": rows["test"]}) == []
