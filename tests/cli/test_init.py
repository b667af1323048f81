"""What `tieout init` writes runs as it is, its test passes, and its reward withstands the attack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.cli import main
from tieout.cli.init import kind_of, task_of
from tieout.config.attribute import load_attribute
from tieout.rows import check_rows, read_rows
from tieout.vetting.attack import AttackSettings, attack
from tieout.vetting.check import prove


@pytest.fixture
def tieout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call the command line in this process, in an empty folder without a terminal; returns the status."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tieout", *arguments])
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return 0

    return call


def passes(folder: Path) -> bool:
    """Whether the written test passes, called as the command says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "test_reward.py")]
    bare = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # of the plugins that this suite needs, it needs none
    return subprocess.run(command, capture_output=True, env=bare).returncode == 0


@pytest.mark.parametrize("task", ["numeric", "json", "chat"])
def test_the_reward_holds_its_test(tieout: Callable[..., int], task: str) -> None:
    assert tieout("init", "mine", "--task", task) == 0
    assert passes(Path("mine"))
    assert tieout("run", "mine/recipe.yaml", "--dry-run") == 0
    reward, rows = load_attribute("mine/reward.py:right"), read_rows("mine/train.jsonl")
    assert prove(reward, check_rows(rows, "prompt")).holds
    if task != "chat":  # its reward says of itself that it shows little
        assert not attack(reward, rows, AttackSettings()).findings


def test_what_is_written_runs(tieout: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert tieout("init", "mine") == 0
    assert "then: tieout run mine/recipe.yaml" in capsys.readouterr().out
    assert tieout("run", "mine/recipe.yaml", "--out", "run") == 0
    assert json.loads(Path("run/evidence/report.json").read_text())["verdict"]["verdict"] == "hold"
    assert Path("run/candidate").is_dir()
    assert tieout("init", "mine") == 1, "nothing is overwritten"
    assert "recipe.yaml, reward.py" in capsys.readouterr().err


ALPACA = [{"instruction": "Add one.", "input": str(i), "output": str(i + 1)} for i in range(40)]
PAIRS = [{"prompt": f"q{i}", "chosen": f"yes, {i}", "rejected": "no"} for i in range(40)]
LABELS = [{"prompt": f"q{i}", "completion": json.dumps({"a": i}), "label": i % 2} for i in range(40)]
TALKS = [
    {"conversations": [{"from": "human", "value": f"hi {i}"}, {"from": "gpt", "value": f"yo {i}"}]}
    for i in range(40)
]


@pytest.mark.parametrize(
    ("rows", "kind", "task", "parts"),
    [
        (ALPACA, "demonstration", "numeric", ["train: ", "- train: sft", "- check"]),
        (PAIRS, "preference", "chat", ["pairs: ", "- train: sft", "- train: dpo"]),
        (LABELS, "label", "json", ["labels: ", "- train: sft", "- train: kto"]),
        (TALKS, "demonstration", "chat", ["train: ", "- train: sft"]),
    ],
)
def test_own_rows_get_a_recipe_for_their_columns(
    tieout: Callable[..., int], rows: list[dict[str, Any]], kind: str, task: str, parts: list[str]
) -> None:
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = read_rows("own.jsonl")
    assert kind_of(given) == kind
    assert task_of(check_rows(given, kind_of(given)), kind_of(given)) == task
    assert tieout("init", "mine", "--data", "own.jsonl") == 0
    text = Path("mine/recipe.yaml").read_text()
    assert all(part in text for part in parts), text
    assert not Path("mine/train.jsonl").exists()
    assert passes(Path("mine"))
    assert tieout("run", "mine/recipe.yaml", "--dry-run") == 0


def test_rows_without_an_answer_are_refused_with_their_columns(
    tieout: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.jsonl").write_text(json.dumps({"question": "a", "reply": "b"}) + "\n")
    assert tieout("init", "mine", "--data", "own.jsonl") == 1
    assert "rename 'question' to 'prompt'" in capsys.readouterr().err
    assert not Path("mine").exists()
