"""`code` in turns: feedback is of the shown tests alone, and the hidden ones score the last program."""

from __future__ import annotations

from typing import Any

import pytest

from tieout.errors import InputError
from tieout.evidence.evaluate import evaluate
from tieout.rewards.scoring.call import Call
from tieout.rewards.scoring.runner import score_groups
from tieout.samplers.mock import MockSampler
from tieout.sandbox.choose import available
from tieout.tasks import Task, load_task
from tieout.tasks.code import make
from tieout.tasks.code_retry import AGAIN, attempts, in_turns, repaired, told
from tieout.types import Completion, Row

pytestmark = pytest.mark.skipif(not any(found.works for found in available()), reason="no namespaces here")
ROW: Row = {
    "prompt": "Write a function `double(x)`.",
    "entry": "double",
    "tests": [{"args": [i], "expected": 2 * i} for i in range(1, 7)],
    "completion": "def double(x):\n    return 2 * x",
    "flawed": "def double(x):\n    return 2 if x == 1 else x",
}
LOOKED_UP = "def double(x):\n    return {1: 2, 3: 6, 5: 10}.get(x)"
"""Returns what feedback expects, and nothing else."""


def task_of(row: Row, turns: int = 3) -> Task:
    return in_turns(
        Task("code", lambda split: [row], make().reward, metrics=make().metrics, primary="solved"), turns
    )


@pytest.fixture(scope="module")
def row() -> Row:
    return task_of(ROW).rows("train")[0]


def test_half_of_the_tests_are_shown_and_the_others_score(row: Row) -> None:
    assert [test["args"] for test in row["shown"]] == [[1], [3], [5]]
    assert [test["args"] for test in row["tests"]] == [[2], [4], [6]]


@pytest.mark.parametrize(
    ("program", "feedback"),
    [
        (ROW["completion"], None),
        (LOOKED_UP, None),
        (ROW["flawed"], "1 of 3 tests passed. double(3) gave 3; expected 6."),
        (
            "def double(x):\n    return x / 0",
            "0 of 3 tests passed. double(1) failed: ZeroDivisionError: division",
        ),
        ("def double(x) return x", "This is no Python: expected ':', line 1."),
        (
            "def triple(x):\n    return x",
            "None of 3 tests passed: the program failed: NameError: it defines no",
        ),
        ("```\na\n```\n```\nb\n```", "There is no program in this, or more than one."),
        ("", "There is no program in this, or more than one."),
    ],
)
def test_what_a_program_is_told(row: Row, program: str, feedback: str | None) -> None:
    said = told(program, row)
    if feedback is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(feedback)
        assert said.endswith(AGAIN)


def test_an_episode_ends_when_the_shown_tests_pass_or_turns_are_used_up(row: Row) -> None:
    game = attempts(row, 3)
    assert next(game) == ROW["prompt"]
    assert game.send(ROW["flawed"]).startswith("1 of 3")
    with pytest.raises(StopIteration):
        game.send(ROW["completion"])
    game = attempts(row, 2)
    next(game)
    game.send("")
    with pytest.raises(StopIteration):
        game.send("")


def scored(row: Row, *said: str) -> dict[str, Any]:
    turns = [{"role": "assistant", "content": text} for text in said]
    call = Call([Completion([], [], text="\n\n".join(said), turns=turns)], [row["prompt"]], row)
    task = task_of(ROW)
    assert task.reward is not None
    judged = {"reward": task.reward, **task.metrics}
    return {name: score_groups(reward, [call])[0][0].score for name, reward in judged.items()}


def test_the_last_program_counts_and_answers_learned_from_feedback_do_not(row: Row) -> None:
    found = scored(row, ROW["flawed"], ROW["completion"])
    assert (found["reward"], found["solved"], found["solved at first"], found["programs"]) == (
        1.0,
        1.0,
        0.0,
        2.0,
    )
    found = scored(row, ROW["completion"], ROW["flawed"])
    assert (found["reward"], found["solved"], found["solved at first"]) == (0.0, 0.0, 1.0)
    assert scored(row, LOOKED_UP)["reward"] == 0.0


def test_it_is_played_in_an_evaluation() -> None:
    def model(prompt: Any) -> str:
        return ROW["flawed"] if len(prompt) == 1 else ROW["completion"]

    (case,) = evaluate(task_of(ROW), task_of(ROW).rows("train"), MockSampler(model))
    assert (case.score, case.metrics["programs"], case.metrics["solved at first"]) == (1.0, 2.0, 0.0)


def test_a_demonstration_of_a_repair_is_trained_on_the_repair_alone() -> None:
    task = load_task("code", {"turns": 2, "sizes": {"train": 12}})
    found = [one for one in map(repaired, task.rows("train")) if one]
    assert len(found) > 6
    for one, row in zip(map(repaired, task.rows("train")), task.rows("train"), strict=True):
        assert told(row["completion"], row) is None
        if one:
            asked, wrong, feedback = one["prompt"]
            assert (asked, wrong["content"]) == (row["prompt"][0], row["flawed"])
            assert feedback["content"] == told(row["flawed"], row)
            assert one["completion"] == row["completion"]
    assert repaired({**task.rows("train")[0], "flawed": None}) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tests": ROW["tests"][:1]}, "row 1 of train has 1 tests and entry 'double'"),
        ({"entry": None}, "has 6 tests and entry None; with turns expected a function"),
        (
            {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
            "more than one message",
        ),
    ],
)
def test_rows_that_cannot_be_played_are_refused(changes: Row, said: str) -> None:
    with pytest.raises(InputError, match=said):
        task_of({**ROW, **changes}).rows("train")
    with pytest.raises(InputError, match="turns is 0"):
        make(turns=0)
