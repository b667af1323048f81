"""Several rewards with their weights: on the command line, in a recipe, in Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import tieout
from tieout.cli import main
from tieout.config.weights import weights_of
from tieout.errors import InputError
from tieout.pipelines.reading import make_recipe, read_recipe
from tieout.python.settings import reward_named
from tieout.rewards import load_reward
from tieout.rewards.scoring.runner import Combined, score
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl

ROWS = [{"prompt": f"q{i}", "completion": f"x{i}", "answer": f"x{i}"} for i in range(12)]
OWN = """
def right(completions, answer, **_):
    return [1.0 if c.strip() == a else 0.0 for c, a in zip(completions, answer)]

def brief(completions, **_):
    return [1.0 / (1 + len(c.split())) for c in completions]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of two rewards in a folder with a space, next to rows for them."""
    folder = tmp_path / "my rewards"
    folder.mkdir()
    (folder / "r.py").write_text(OWN)
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return folder / "r.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
    main()


def test_the_sum_has_the_weights_and_keeps_each_part(own: Path) -> None:
    reward: Any = load_reward(f"{own}:right=2.0 {own}:brief=-0.5")
    assert reward.weights == {"right": 2.0, "brief": -0.5}
    (outcome,) = score(reward, ["x1"], ["q1"], ROWS[1])
    assert outcome.score == pytest.approx(2.0 - 0.5 / 2)
    assert outcome.parts == {"right": 1.0, "brief": 0.5}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("exact,length", "such as exact=1.0 length=1.0"),
        ("exact length", "2 rewards without weights"),
        ("r.py:a,r.py:b", "such as r.py:a=1.0 r.py:b=1.0"),
        ("exact=1.0 length", "'length' has no weight"),
        ("exact=1.0 exact=2.0", "'exact' is given twice"),
        ("exact=high", "the weight of 'exact' is 'high'; expected a number"),
        ("exact=high length=0.2", "the weight of 'exact' is 'high'"),
        ("exact=1.0 length=0,2", "the weight of 'length' is '0,2'"),
        ("exact=0 length=1", "expected a finite number other than 0"),
        ("exakt=1.0 length=0.2", "did you mean 'exact'"),
    ],
)
def test_what_has_no_clear_weight_is_refused(spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_reward(spec)


@pytest.mark.parametrize("apart", [True, False], ids=["two flags", "one flag"])
def test_the_command_line_trains_on_the_sum_and_logs_each_part(
    own: Path, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    between = ["--reward"] if apart else []
    rewards = ["--reward", f"{own}:right=1.0", *between, "length=0.5"]
    rows = ["--model", tiny_model("qwen2"), "--data", tmp_path / "rows.jsonl"]
    sizes = ["--batch-size", 4, "--group-size", 2, "--epochs", 0.3, "--max-new-tokens", 6]
    run(monkeypatch, "train", "grpo", *rows, *rewards, "--out", tmp_path / "run", *sizes)
    settings = read_json(tmp_path / "run" / "run.json")["identity"]
    assert settings["reward"] == f"{own.name}:right=1.0 length=0.5"
    lines = (tmp_path / "run" / "grpo" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["score"] == pytest.approx(last["reward/right"] + 0.5 * last["reward/length"])


def test_check_asks_gold_for_the_top_of_all_weights(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", tmp_path / "rows.jsonl", "--workers", 0, "--json", tmp_path / "proof.json"]
    run(monkeypatch, "reward", "check", f"{own}:right=2.0", "length=0.2", *given)
    assert "proven" in capsys.readouterr().out
    assert read_json(tmp_path / "proof.json")["holds"]


def test_a_report_keeps_the_files_of_all_parts_and_verify_scores_with_the_copies(
    own: Path, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "r.py"  # of the same name
    other.write_text("def brief(completions, **_):\n    return [1.0 / (1 + len(c)) for c in completions]\n")
    models = [tiny_model("qwen2"), tiny_model("llama")]
    given = ["--data", tmp_path / "rows.jsonl", "--max-new-tokens", 4, "--out", tmp_path / "out"]
    run(monkeypatch, "eval", "--model", *models, "--reward", f"{own}:right=2", f"{other}:brief=0.5", *given)
    own.unlink()
    other.unlink()
    _, case = next(read_jsonl(tmp_path / "out" / "evidence" / "cases.jsonl"))
    assert "brief" in str(case)
    run(monkeypatch, "verify", tmp_path / "out")  # exits if a score is another
    copy = tmp_path / "out" / "evidence" / "scoring" / "reward-2" / "r.py"
    copy.write_text(copy.read_text().replace("1.0 /", "0.9 /"))
    with pytest.raises(SystemExit):
        run(monkeypatch, "verify", tmp_path / "out")


@pytest.mark.parametrize(
    "given",
    [
        {"rewards": {"exact": 1.0, "length": 0.2}},
        {"reward": {"exact": 1, "length": 0.2}},
        {"reward": "exact=1.0 length=0.2"},
    ],
    ids=["rewards", "a mapping", "text"],
)
def test_a_recipe_names_them_for_the_run_and_for_a_stage(
    given: dict[str, Any], own: Path, tmp_path: Path
) -> None:
    stages = [{"train": "grpo"}, {"train": "grpo", "rewards": {f"{own}:right": 3, "length": 1}}]
    plain = {"data": {"train": str(tmp_path / "rows.jsonl")}, **given, "stages": stages}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(plain))
    recipe = read_recipe(tmp_path / "r.yaml")
    assert recipe.reward
    assert weights_of(recipe.reward) == {"exact": 1.0, "length": 0.2}
    assert weights_of(recipe.trained("grpo-2").options.reward) == {f"{own}:right": 3.0, "length": 1.0}
    assert make_recipe(recipe.plain(), "again").identity() == recipe.identity()


def test_one_weight_of_a_recipe_is_replaced_by_its_path(tmp_path: Path) -> None:
    text = "data: {train: a.jsonl}\nrewards: {exact: 1.0, length: 0.2}\nstages: [{train: sft}]\n"
    (tmp_path / "r.yaml").write_text(text)
    recipe = read_recipe(tmp_path / "r.yaml", settings=["rewards.length=0.1"])
    assert recipe.reward
    assert weights_of(recipe.reward) == {"exact": 1.0, "length": 0.1}


def test_a_recipe_with_both_or_with_a_weight_of_words_is_refused() -> None:
    for given, said in (
        ({"reward": "exact", "rewards": {"exact": 1.0}}, "leave out one of them"),
        ({"rewards": {"exact": "high"}}, "the weight of 'exact' is 'high'"),
        ({"rewards": ["exact", "length"]}, "expected rewards with weights"),
    ):
        with pytest.raises(InputError, match=said):
            make_recipe({**given, "stages": [{"train": "sft"}]}, "recipe.yaml")


def local(completions: Sequence[str], **_: Any) -> list[float]:
    return [1.0] * len(completions)


def test_python_takes_names_and_functions_with_weights(own: Path) -> None:
    assert reward_named({f"{own}:right": 1, "length": 0.2}) == f"{own}:right=1.0 length=0.2"
    mixed = reward_named({"exact": 1.0, lambda completions, **_: [0.5] * len(completions): 0.1})
    assert isinstance(mixed, Combined)
    found = tieout.attack({"exact": 1.0, local: 0.2}, ROWS, seconds=0.2, max_rows=2)
    assert found.reward == "exact+local"
