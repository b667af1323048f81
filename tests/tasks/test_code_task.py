"""The code task: gold passes its hidden tests, flawed programs do not, and no split knows another's rows."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tieout.rewards.library.code import run_tests
from tieout.sandbox.choose import available
from tieout.tasks import load_task
from tieout.tasks.code import FAMILIES, HELD_OUT, NUM_TESTS, SIZES, corrupt, make

SMALL = {"train": 16, "calibration": 8, "test": 8, "ood": 6}


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    if not any(found.works for found in available()):
        pytest.skip("no namespaces here")
    task = make(seed=1, sizes=SMALL)
    return [row for split in SMALL for row in task.rows(split)]


def test_gold_passes_and_flawed_programs_do_not(rows: list[Any]) -> None:
    rng = random.Random(0)
    for row in rows[:12] + rows[-3:]:
        assert len(row["tests"]) == NUM_TESTS
        assert run_tests(row["completion"], row["tests"], row["entry"]).share == 1.0
        assert run_tests(corrupt(row, rng), row["tests"], row["entry"]).share < 1.0


def test_hidden_tests_are_not_in_the_prompt(rows: list[Any]) -> None:
    for row in rows:
        for test in row["tests"]:
            call = f"{row['entry']}({', '.join(map(repr, test['args']))})"
            assert call not in row["prompt"][0]["content"]


def test_rows_follow_from_the_seed_and_splits_are_apart() -> None:
    assert make(seed=1, sizes=SMALL).rows("test") == make(seed=1, sizes=SMALL).rows("test")
    assert make(seed=1, sizes=SMALL).rows("test") != make(seed=2, sizes=SMALL).rows("test")
    assert not {f.entry for f in FAMILIES} & {f.entry for f in HELD_OUT}
    task = load_task("code")
    seen = {row["prompt"][0]["content"] for row in task.rows("train")}
    assert not seen & {row["prompt"][0]["content"] for row in task.rows("test")}
    assert {split: len(task.rows(split)) for split in SIZES} == SIZES
    with pytest.raises(ValueError, match="no split 'dev'"):
        task.rows("dev")
    with pytest.raises(ValueError, match="no split dev"):
        make(sizes={"dev": 1})
