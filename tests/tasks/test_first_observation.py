"""A task with an environment whose rows have no prompt, as docs/concepts.md writes one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tieout.cli import main
from tieout.errors import InputError
from tieout.storage.jsonl import read_jsonl
from tieout.tasks import load_task

GAME = """
from tieout.tasks import Task

def guess(row):
    if row.get("broken"):
        raise KeyError("limit")
    text = yield f"Guess a number below {row['limit']}."
    for _ in range(1):
        if text.strip() == row["answer"]:
            return 1.0
        text = yield "No. Again."
    return 0.0

ROWS = [{"limit": 9, "answer": str(i)} for i in range(8)]
task = Task("guess", lambda split: ROWS[:6] if split == "train" else ROWS[6:], environment=guess, max_new_tokens=4)
broken = Task("broken", lambda split: [{"broken": True}], environment=guess)
"""


@pytest.fixture
def game(tmp_path: Path) -> Path:
    (tmp_path / "game.py").write_text(GAME)
    return tmp_path / "game.py"


def test_the_first_observation_is_the_prompt(game: Path) -> None:
    row = load_task(f"{game}:task").rows("test")[0]
    assert row["prompt"] == [{"role": "user", "content": "Guess a number below 9."}]
    assert row["answer"] == "6"
    with pytest.raises(
        InputError, match="row 1 of train: the environment gave no first observation: KeyError"
    ):
        load_task(f"{game}:broken").rows("train")


def test_it_is_trained_and_evaluated_as_the_page_says(
    game: Path, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = tiny_model("qwen2"), ["--batch-size", 3, "--group-size", 2, "--max-new-tokens", 4]
    given = ["--model", model, "--task", f"{game}:task"]
    for arguments in (
        ["train", "grpo", *given, "--out", tmp_path / "run", *sizes, "--epochs", 0.5],
        ["eval", *given, "--reward-workers", 0, "--out", tmp_path / "cases.jsonl"],
    ):
        monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
        main()
    cases = [line for _, line in read_jsonl(tmp_path / "cases.jsonl")]
    assert len(cases) == 2
    assert "Guess a number below 9." in str(cases[0]["prompt"])


@pytest.mark.parametrize(
    "roles",
    [
        "user assistant",
        "assistant user",
        "assistant assistant",
        "assistant tool assistant",
        "system assistant",
    ],
)
def test_demonstrations_that_are_not_in_turn_are_refused_by_row(game: Path, roles: str) -> None:
    said = [{"role": role, "content": "5"} for role in roles.split()]
    game.write_text(f"{GAME}\nROWS[2]['completion'] = {said}\nROWS[1]['completion'] = '5'\n")
    task = load_task(f"{game}:task")
    message = (
        f"task 'guess', row 3 of train: its completion has the turns {', '.join(roles.split())}; of a game"
    )
    with pytest.raises(InputError, match=message):
        task.rows("train")
    assert len(task.rows("test")) == 2
