"""Adding a task or a reward takes one file: the command line, recipes and Python all know it by FILE.py:attribute.

How a reward is proved, attacked and called in other processes is in rewards/test_one_file.py; methods are in
cli/test_train_methods.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tieout
from tieout.cli import main
from tieout.episodes import judge, text_episodes
from tieout.evidence.evaluate import evaluate
from tieout.samplers.mock import MockSampler

TASK = '''
from tieout import Task

def rows(split):
    numbers = {"test": range(10, 22), "train": range(22, 34)}.get(split, [])
    return [
        {"prompt": [{"role": "user", "content": f"Repeat {n}."}], "completion": str(n), "answer": str(n)}
        for n in numbers
    ]

def right(completions, answer, **_):
    """Share of the answer's digits that the completion has."""
    return [len(set(c) & set(a)) / len(set(a)) for c, a in zip(completions, answer)]

def make(words: int = 0):
    return Task("repeat", rows, right, max_new_tokens=4 + words)

task = make()
'''
GAME = """
from tieout import Task

def play(row):
    said = yield "Say anything."
    return float(len(said))

task = Task("game", lambda split: [{"prompt": "Say anything."}] * 2, environment=play)
"""
REWARD = '''
def vowels(completions, answer, **_):
    """Share of vowels, and a little for the length."""
    return [sum(c in "aeiou" for c in text) / (len(text) + 1) + len(text) / 1000 for text in completions]
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user works: a file each, and some rows."""
    monkeypatch.chdir(tmp_path)
    Path("my_task.py").write_text(TASK)
    Path("my_game.py").write_text(GAME)
    Path("my_reward.py").write_text(REWARD)
    rows = [{"prompt": f"say {n}", "completion": str(n), "answer": str(n)} for n in range(12)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`run("eval", ...)`: what a command prints."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


GRPO = ("--batch-size", 4, "--group-size", 2, "--max-new-tokens", 4, "--epochs", 0.5, "--unchecked", "a toy")


def steps(out: str, method: str) -> list[dict[str, Any]]:
    lines = (Path(out) / method / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# ---------------------------------------------------------------- a task


def test_a_task_of_a_file_in_python(folder: Path) -> None:
    task = tieout.load_task("my_task.py:task")
    cases = evaluate(task, task.rows("test"), MockSampler(lambda prompt: "1"))
    assert (task.name, len(cases), cases[1].score) == ("repeat", 12, 1.0)
    assert tieout.load_task("my_task.py:make", {"words": 3}).max_new_tokens == 7
    game = tieout.load_task("my_game.py:task")
    episodes = text_episodes(
        game.environment, game.rows("test"), MockSampler(["a", "bcd"]), tieout.SamplingParams()
    )  # type: ignore[arg-type]
    assert [outcome.score for (outcome,) in judge(game, [[e] for e in episodes])] == [1.0, 3.0]


def test_a_task_of_a_file_on_the_command_line(run: Callable[..., str], model: Path) -> None:
    table = run(
        "eval", "--task", "my_task.py:task", "--model", model, "--max-rows", 3, "--out", "cases.jsonl"
    )
    assert "repeat, test" in table
    assert len(Path("cases.jsonl").read_text().splitlines()) == 3
    run("train", "grpo", "--task", "my_task.py:task", "--model", model, "--out", "trained", *GRPO)
    assert [step["completions"] for step in steps("trained", "grpo")] == [8.0, 8.0]
    same = ["--accept-leakage", "the game is always the same"]
    run("train", "grpo", "--task", "my_game.py:task", "--model", model, "--out", "played", *GRPO, *same)
    assert steps("played", "grpo")[0]["score"] > 0


# ---------------------------------------------------------------- a reward


def test_a_reward_of_a_file_in_python(folder: Path) -> None:
    reward = tieout.load_reward("my_reward.py:vowels")
    scores = [o.score for o in tieout.score(reward, ["aa", "b"], ["p", "p"], {"answer": "x"})]
    assert scores == [2 / 3 + 0.002, 0.001]
    task = tieout.Task("rows", lambda split: [{"prompt": "p", "answer": "x"}], reward)
    assert [case.score for case in evaluate(task, task.rows("test"), MockSampler(["aa"]))] == scores[:1]


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "--data", "rows.jsonl", "--max-rows", 3),
        ("train", "grpo", "--data", "rows.jsonl", "--out", "trained", *GRPO),
    ],
    ids=["eval", "train"],
)
def test_a_reward_of_a_file_on_the_command_line(
    run: Callable[..., str], model: Path, command: Sequence[object]
) -> None:
    run(*command, "--reward", "my_reward.py:vowels", "--model", model)
    if command[0] == "train":
        assert any(step["score"] > 0 for step in steps("trained", "grpo"))


# ---------------------------------------------------------------- a recipe


METHOD = '''
from dataclasses import dataclass
from tieout import SFT

@dataclass(frozen=True)
class Gentle(SFT):
    """Cross entropy at half its weight."""

    def loss(self, outputs, batch):
        return batch.token_mean(-0.5 * outputs.logprobs), {}
'''


def test_a_task_and_a_method_of_files_in_a_recipe(run: Callable[..., str], model: Path) -> None:
    Path("my_method.py").write_text(METHOD)
    stages = "[{train: 'my_method.py:Gentle', batch_size: 6}, {evaluate: {}}]"
    recipe = f"model: {model}\ntask: my_task.py:task\nadapter: {{rank: 4}}\nstages: {stages}\n"
    Path("recipe.yaml").write_text(recipe)
    run("run", "recipe.yaml", "--out", "done")
    assert list(Path("done").rglob("adapter_model.safetensors"))
    cases = [json.loads(line) for path in Path("done").rglob("*.jsonl") for line in path.open()]
    assert any(str(case.get("case", "")).startswith("repeat/test/") for case in cases)


def test_a_reward_of_a_file_in_a_recipe(run: Callable[..., str], model: Path) -> None:
    train = "{train: grpo, batch_size: 4, group_size: 2, max_new_tokens: 4, epochs: 0.5}"
    data = "{train: rows.jsonl, test: rows.jsonl}\naccept_leakage: the files are what is tried"
    recipe = f"model: {model}\ndata: {data}\nreward: my_reward.py:vowels\nadapter: {{rank: 4}}\nmax_new_tokens: 4\n"
    Path("recipe.yaml").write_text(f"{recipe}stages: [{train}]\n")
    run("run", "recipe.yaml", "--out", "done")
    (log,) = Path("done").rglob("metrics.jsonl")
    assert any(json.loads(line)["score"] > 0 for line in log.read_text().splitlines())
