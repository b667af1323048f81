"""Tasks with thinking before the answer: what stands in the answer is paid, and the tags a little."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from filed_statements import write

from tieout.rewards.library.format import tags
from tieout.rewards.scoring.runner import score
from tieout.tasks import Task, load_task
from tieout.tasks.thinking import ASKED
from tieout.training.formats import format_of
from tieout.training.guards import Guards, gold_of
from tieout.types import Row
from tieout.vetting.attack import AttackSettings, attack

SMALL = {"train": 8, "test": 4, "calibration": 2, "ood": 2}


@pytest.fixture(params=["finance_statements", "derive"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    own: dict[str, object] = {"path": str(write(tmp_path))}
    if request.param == "finance_statements":
        own = {"sizes": SMALL}
    return load_task(request.param, {**own, "thinking": True})


def paid(task: Task, row: Row, *texts: str) -> list[float | None]:
    assert task.reward is not None
    return [one.score for one in score(task.reward, list(texts), [str(row["prompt"])] * len(texts), row)]


def untagged(task: Task, row: Row) -> str:
    """The completion of the task without thinking."""
    working, answer = re.findall(r"<think>(.*)</think>\n<answer>(.*)</answer>", row["completion"])[0]
    return f"{working} The answer is {answer}." if task.name == "derive" else answer


def test_the_answer_is_paid_and_the_tags_a_tenth(task: Task) -> None:
    rng = random.Random(0)
    assert task.corrupt is not None
    for row in task.rows("train"):
        wrong, empty = task.corrupt(row, rng), "<think>I think.</think>\n<answer>Something.</answer>"
        gold, direct, flawed, form, nothing = paid(
            task, row, row["completion"], untagged(task, row), wrong, empty, ""
        )
        assert (gold, direct, form, nothing) == (1.0, 0.9, 0.1, 0.0)
        assert flawed is not None
        assert 0.1 <= flawed < 1.0
        assert wrong.startswith(row["completion"].split("<answer>")[0])


def test_a_flawed_answer_in_tags_is_paid_less_than_a_right_one_without() -> None:
    task, rng = load_task("finance_statements", {"sizes": SMALL, "thinking": True}), random.Random(0)
    for row in task.rows("train"):
        flawed = [flaw(row, rng) for flaw in task.flaws.values()]
        assert max(score or 0.0 for score in paid(task, row, *flawed)) < 0.9


def test_metrics_judge_the_answer_and_the_format_is_the_tags(task: Task) -> None:
    row = task.rows("train")[0]
    assert task.primary is not None
    columns = {name: [row[name]] * 3 for name in row if name not in ("prompt", "completion")}
    unclosed = row["completion"].replace("</think>", "")
    assert task.metrics[task.primary]([row["completion"], untagged(task, row), unclosed], **columns) == [
        1.0,
        1.0,
        0.0,
    ]
    assert gold_of(Guards(), task) is task.metrics[task.primary]
    assert format_of(task) is tags


def test_a_variant_asks_for_thinking_too_and_its_gold_is_paid(task: Task) -> None:
    seen = set()
    for row in task.rows("train"):
        for kind, vary in task.variants.items():
            if (found := vary(row, random.Random(1))) is None:
                continue
            seen.add(kind)
            assert found["prompt"] != row["prompt"]
            assert "<think>" in found["prompt"][0]["content"]
            assert paid(task, found, found["completion"]) == [1.0]
    assert seen == set(task.variants)


def test_rows_are_those_of_the_task_without_thinking(tmp_path: Path) -> None:
    plain, other = (load_task("finance_statements", {"sizes": SMALL, "thinking": t}) for t in (False, True))
    for one, two in zip(plain.rows("test"), other.rows("test"), strict=True):
        assert two["prompt"][0]["content"] == one["prompt"][0]["content"] + ASKED
        assert two["prompt"][1:] == one["prompt"][1:]
        assert untagged(other, two) == one["completion"]
        names = ", ".join(part["name"] for part in one["components"])
        assert two["completion"].startswith(f"<think>{names}: ")


def test_an_attack_finds_nothing(tmp_path: Path) -> None:
    task = load_task("derive", {"path": str(write(tmp_path)), "thinking": True})
    assert task.reward is not None
    found = attack(task.reward, task.rows("train")[:4], AttackSettings(max_rows=1, num_search=0))
    assert found.findings == []
