"""A reward of one's own is one file: the command line, recipes, worker processes and Python know it by its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tieout.rewards.processes.workers import start_workers
from tieout.rewards.scoring.runner import combine, score
from tieout.tasks.files import Data, files_task

SOURCE = '''
from tieout.rewards.scoring.runner import ranged

@ranged(0, 1)
def same(completions, word, **_):
    """[K] 1.0 for the row's word."""
    return [float(text.strip() == w) for text, w in zip(completions, word, strict=True)]
'''


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(SOURCE)
    words = ("audit", "ledger", "asset", "equity", "cash", "debt")
    rows = [{"prompt": f"say {w}", "completion": w, "word": w} for w in words]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{tmp_path / 'mine.py'}:same"


def test_python_and_worker_processes_know_it(spec: str) -> None:
    reward = combine({spec: 1.0, "length": 0.1})
    row = {"prompt": "say cash", "word": "cash"}
    with start_workers(reward) as workers:  # type: ignore[union-attr]
        right, wrong = score(reward, ["cash", "debt"], ["say cash"] * 2, row, workers)
    assert (right.parts["same"], wrong.parts["same"]) == (1.0, 0.0)


def test_a_task_of_files_takes_it_as_a_recipe_does(spec: str, tmp_path: Path) -> None:
    rows = f"{tmp_path}/rows.jsonl"
    reward = files_task(Data(train=rows, test=rows), spec).reward
    assert reward is not None
    assert reward(["cash", "debt"], word=["cash"] * 2) == [1.0, 0.0]


@pytest.mark.parametrize(
    "command",
    [["reward", "check"], ["attack", "--num-search", "0", "--max-rows", "1"]],
    ids=["check", "attack"],
)
def test_the_command_line_knows_it(spec: str, tmp_path: Path, command: list[str]) -> None:
    arguments = [sys.executable, "-m", "tieout", *command, spec, "--data", f"{tmp_path}/rows.jsonl"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mine.py:same on" in " ".join("".join(done.stdout.split("\n")).split())
