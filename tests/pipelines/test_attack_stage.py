"""The attack as a step of a pipeline: what it finds stops the run before training, unless accepted by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tieout.pipelines.recipe import read_recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.attack import attacked
from tieout.storage.runfolder import RunFolder

REWARDS = """
def anywhere(completions, answer, **_):
    return [float(a in c) for c, a in zip(completions, answer)]


def exact(completions, answer, **_):
    return [float(c == a) for c, a in zip(completions, answer)]
"""


@pytest.fixture
def attack_with(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., str]:
    words = ["audit", "ledger", "asset", "equity", "cash", "debt"]
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"prompt": f"say {w}", "completion": w, "answer": w}) + "\n" for w in words)
    )
    (tmp_path / "mine.py").write_text(REWARDS)

    def run(reward: str, attack: str) -> str:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"pipeline: reason\nmodel: {tiny_model('llama')}\ndata: {{train: {data}, test: {data}}}\n"
            f"reward: {tmp_path}/mine.py:{reward}\nmax_new_tokens: 8\nattack: {attack}\n"
        )
        console = Console(record=True, width=300, force_terminal=False)
        with RunFolder(tmp_path / f"run-{reward}-{len(attack)}") as folder:
            attacked(Run(read_recipe(recipe), folder, console))
            attacked(Run(read_recipe(recipe), folder, console))  # done before: read, not done again
        return console.export_text()

    return run


def test_a_hole_stops_the_run_and_says_how_to_go_on(attack_with: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"pays for what it should not: .*accept: \[.*contradiction"
    ) as raised:
        attack_with("anywhere", "{num_search: 0}")
    assert "attack.json" in str(raised.value)
    (report,) = tmp_path.glob("run-anywhere-*/attack/attack.json")
    assert json.loads(report.read_text())["findings"]


def test_findings_accepted_by_name_do_not_stop_it(attack_with: Callable[..., str]) -> None:
    text = attack_with("anywhere", "{num_search: 0, accept: [stuffing, contradiction, regurgitation]}")
    assert "accepted in the recipe: stuffing, contradiction" in text


def test_a_reward_without_a_finding_goes_on(attack_with: Callable[..., str]) -> None:
    assert "no exploit in" in attack_with("exact", "{num_search: 0}")


def test_not_attacked_is_said_and_unknown_classes_are_refused(attack_with: Callable[..., str]) -> None:
    assert "not attacked: the recipe says so" in attack_with("exact", "{max_rows: 0}")
    with pytest.raises(ValueError, match=r"attack.accept names nonsense; classes are: shell"):
        attack_with("exact", "{accept: [nonsense]}")
