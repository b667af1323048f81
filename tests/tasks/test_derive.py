"""Measures derived from filed statements: each answer by hand, and on real filings."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from filed_statements import TEST, TRAIN, write

from tieout.errors import InputError
from tieout.evidence.leakage import find_leaks
from tieout.tasks import Task, load_task
from tieout.tasks.derive import load
from tieout.tasks.measures import MEASURES
from tieout.types import Row

FACTS = {
    "Revenues": (73_000, None),
    "RevenueFromContractWithCustomerExcludingAssessedTax": (60_000, None),
    "NetIncomeLoss": (5_000, None),
    "ProfitLoss": (6_000, None),
    "AccountsReceivableNetCurrent": (9_000, 1),
    "AssetsCurrent": (29_000, 1),
    "LiabilitiesCurrent": (16_000, 1),
    "Assets": (80_000, 1),
    "Liabilities": (52_000, 1),
    "NetCashProvidedByUsedInOperatingActivities": (7_000, None),
    "PaymentsToAcquirePropertyPlantAndEquipment": (9_000, None),
}
"""Concept -> (value, 1 for a balance)."""


def company(folder: Path, **changes: int) -> Path:
    def fact(tag: str, value: int, instant: int | None) -> dict[str, object]:
        said = {"end": "2023-12-31", "val": changes.get(tag, value), "accn": "0-1", "form": "10-K"}
        return said if instant else {**said, "start": "2023-01-01"}

    tags = {tag: {"label": tag, "units": {"USD": [fact(tag, *given)]}} for tag, given in FACTS.items()}
    path = folder / "CIK.json"
    path.write_text(json.dumps({"cik": int(TEST), "entityName": "ACME", "facts": {"us-gaap": tags}}))
    return path


def answers(rows: Sequence[Row]) -> dict[str, str]:
    return {row["measure"]: f"{row['answer']} {row['scale']}".strip() for row in rows}


def score(task: Task, row: Row, *texts: str) -> list[float | None]:
    assert task.reward is not None
    return task.reward(list(texts), answer=[row["answer"]] * len(texts), scale=[row["scale"]] * len(texts))


def test_each_measure_of_a_company_by_hand(tmp_path: Path) -> None:
    """Net margin is not asked: net income is 5,000 or 6,000. Revenue is the total, not the part from contracts."""
    assert answers(load(company(tmp_path)).rows("test")) == {
        "free cash flow": "(2) thousand",
        "current ratio": "1.81",
        "leverage": "65.0 percent",
        "days of sales in receivables": "45.0 days",
    }


def test_margins_and_growth_from_a_data_set(tmp_path: Path) -> None:
    rows = load(write(tmp_path)).rows("train")
    found = {(row["measure"], row["prompt"][1]["content"].split()[-1]): row for row in rows}
    assert {key: row["completion"].rpartition(": ")[2] for key, row in found.items()} == {
        ("gross margin", "2023?"): "450 / 1,250 = 36.0%. The answer is 36.0%.",
        ("gross margin", "2022?"): "380 / 1,100 = 34.5%. The answer is 34.5%.",
        ("net margin", "2023?"): "-50 / 1,250 = -4.0%. The answer is -4.0%.",
        ("net margin", "2022?"): "380 / 1,100 = 34.5%. The answer is 34.5%.",
        ("growth of revenue", "2023?"): "(1,250 - 1,100) / 1,100 = 13.6%. The answer is 13.6%.",
    }
    row = found["gross margin", "2023?"]
    assert row["prompt"][1]["content"].endswith(
        "\n\nWhat is the gross margin (gross profit as a percentage of total revenue), 12 months ended Dec. 31, 2023?"
    )
    assert row["cik"] == TRAIN


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"Assets": -80_000}, "leverage"),
        ({"Assets": 0}, "leverage"),
        ({"Liabilities": 28_040}, "leverage days"),  # 35.05%: a tie; and the two statements have two scales
        (
            {"PaymentsToAcquirePropertyPlantAndEquipment": -9_000},
            "free",
        ),  # reported with the wrong sign
    ],
)
def test_a_measure_without_one_answer_is_not_asked(
    tmp_path: Path, changes: dict[str, int], lost: str
) -> None:
    found = set(answers(load(company(tmp_path)).rows("test")))
    left = set(answers(load(company(tmp_path, **changes)).rows("test")))
    assert left < found
    assert sorted(name.split()[0] for name in found - left) == sorted(
        word.split()[0] for word in lost.split()
    )


def test_only_lines_around_the_figures_are_shown_on_request(tmp_path: Path) -> None:
    (row,) = (
        r for r in load(write(tmp_path), max_lines=2).rows("train") if r["measure"] == "growth of revenue"
    )
    assert row["prompt"][1]["content"].splitlines()[2:4] == [
        "Net sales | 1,250 | 1,100",
        "Cost of sales | 800 | 720",
    ]
    with pytest.raises(InputError, match="max_lines is 1; expected 2 or more"):
        load(tmp_path, max_lines=1)


def test_a_folder_without_such_figures_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for name in ("num", "pre", "tag", "cal"):
        path = folder / f"{name}.txt"
        path.write_text(path.read_text().replace("Revenues", "Fees"))
    with pytest.raises(InputError, match="of 2 filings none has the figures of: gross margin, "):
        load(folder)


@pytest.mark.parametrize("calculator", [False, True])
def test_every_measure_is_asked_of_real_filings_and_gold_alone_scores_1(
    shared_data: Path, calculator: bool
) -> None:
    folder = shared_data / "sec" / "statements"
    if not folder.is_dir():
        pytest.skip(f"no filings at {folder}")
    task = load(folder, calculator=calculator)
    assert task.corrupt is not None
    splits = {split: task.rows(split) for split in ("train", "calibration", "test")}
    rows = [row for part in splits.values() for row in part]
    assert {row["measure"] for row in rows} == set(MEASURES)
    assert len({str(row["prompt"]) for row in rows}) == len({row["id"] for row in rows}) == len(rows) > 250
    for row in rows:
        wrong = task.corrupt(row, random.Random(row["id"]))
        bare = row["completion"].rpartition("The answer is ")[2].removesuffix(".")
        assert score(task, row, row["completion"], bare, wrong, "") == [1, 1, 0, 0]
        for vary in task.variants.values():
            other = vary(row, random.Random(0))
            assert other is not None
            assert other["prompt"] != row["prompt"]
    assert find_leaks({"train": splits["train"]}, {"test": splits["test"]}) == []


# --- made-up statements, and calculations as answers --------------------------------------------------------


def test_without_a_path_statements_are_made_up() -> None:
    sizes = {"train": 120, "calibration": 20, "test": 60}
    task = load(max_lines=6, sizes=sizes)
    rows = [row for split in sizes for row in task.rows(split)]
    assert {row["measure"] for row in rows} == {"share", "growth", "multiple"}
    assert len({row["id"] for row in rows}) == len({row["prompt"][1]["content"] for row in rows}) == 200
    companies = [{row["company"] for row in task.rows(split)} for split in sizes]
    assert not companies[0] & companies[2]
    for row in rows:
        shown, asked = row["prompt"][1]["content"].split("\n\n")
        figures = row["completion"].split(": ")[0].split(", ")
        assert all(figure.rpartition(" ")[2] in shown for figure in figures)
        assert row["measure"] in asked
        assert score(task, row, row["completion"]) == [1]
    for name, value in {"sizes": {"test": 5}, "periods": 1, "seed": 0}.items():
        with pytest.raises(InputError, match=f"task derive: {name} is of the rows that it makes up"):
            load_task("derive", {"path": "folder", name: value})


def test_one_column_has_no_growth() -> None:
    rows = load(sizes={"train": 60}, periods=1).rows("train")
    assert {row["measure"] for row in rows} == {"share", "multiple"}
    assert all(" | " not in row["prompt"][1]["content"].splitlines()[1][3:] for row in rows)
    with pytest.raises(InputError, match="periods is 3; expected 1 or 2"):
        load(sizes={"train": 60}, periods=3)


def test_growth_is_from_the_earlier_period_to_the_later() -> None:
    rows = [row for row in load(sizes={"train": 300}).rows("train") if row["measure"] == "growth"]
    asked = [re.search(r"since (.+), in per cent\), (.+)\?", row["prompt"][1]["content"]) for row in rows]
    periods = [found.groups() for found in asked if found]
    assert len(periods) == len(rows) > 50
    assert all(before.split()[::-1] < now.split()[::-1] for before, now in periods)


def test_the_calculation_in_place_of_its_result(tmp_path: Path) -> None:
    asked = {row["measure"]: row for row in load(company(tmp_path), calculator=True).rows("test")}
    said = {name: row["completion"].rpartition("The answer is ")[2] for name, row in asked.items()}
    plain = {row["measure"]: row["answer"] for row in load(tmp_path).rows("test")}
    assert {name: row["answer"] for name, row in asked.items()} == plain
    assert said["leverage"].endswith(" x 100 percent.")
    assert said["days of sales in receivables"].endswith(" x 365 days.")
    assert said["free cash flow"] == "7 - 9 thousand."
    task = load(tmp_path, calculator=True, thinking=True)
    row = task.rows("test")[0]
    assert score(task, row, row["completion"]) == [1]
    assert "x 100 percent</answer>" in row["completion"]
    assert task.corrupt is not None
    assert score(task, row, task.corrupt(row, random.Random(0))) == [0.1]  # its tags
