"""The check stage: what the proof, the attack or the calibration finds stops the run, unless accepted by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import REWARD

from tieout.pipelines.kinds import Check
from tieout.pipelines.reading import make_recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.check import check
from tieout.storage.runfolder import RunFolder

REWARDS = (
    REWARD
    + """

def anywhere(completions, answer, **_):
    return [float(a in c) for c, a in zip(completions, answer)]


def exact(completions, answer, **_):
    return [float(c == a) for c, a in zip(completions, answer)]


def stripped(completions, answer, **_):
    return [float(c.strip() == a) for c, a in zip(completions, answer)]
"""
)
WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt"]
NO_PROOF: dict[str, Any] = {"proof": {"max_rows": 0}}
NO_ATTACK: dict[str, Any] = {"attack": {"max_rows": 0}}


@pytest.fixture
def check_with(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., str]:
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"prompt": f"say {w}", "completion": w, "answer": w}) + "\n" for w in WORDS)
    )
    (tmp_path / "mine.py").write_text(REWARDS)

    def run(reward: str, settings: dict[str, Any]) -> str:
        recipe = make_recipe(
            {
                "model": str(tiny_model("llama")),
                "data": {"train": str(data), "test": str(data)},
                "accept_leakage": "the checks are what is tried",
                "reward": f"{tmp_path}/mine.py:{reward}",
                "max_new_tokens": 8,
                "stages": [{"check": settings}],
            },
            "recipe.yaml",
        )
        (stage,) = recipe.stages
        assert isinstance(stage, Check)
        console = Console(record=True, width=300, force_terminal=False)
        with RunFolder(tmp_path / f"run-{reward}-{len(str(settings))}") as folder:
            check(Run(recipe, folder, console), stage)
            check(Run(recipe, folder, console), stage)  # done before: read, not done again
        return console.export_text()

    return run


def test_a_hole_stops_the_run_and_says_how_to_continue(
    check_with: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"pays for what it should not: .*accept: \[.*contradiction"
    ) as raised:
        check_with("anywhere", {**NO_PROOF, "attack": {"num_search": 0}})
    assert "attack.json" in str(raised.value)
    (report,) = tmp_path.glob("run-anywhere-*/check/attack/attack.json")
    assert json.loads(report.read_text())["findings"]


def test_findings_accepted_by_name_do_not_stop_it(check_with: Callable[..., str]) -> None:
    accept = ["stuffing", "contradiction", "regurgitation"]
    text = check_with("anywhere", {**NO_PROOF, "attack": {"num_search": 0, "accept": accept}})
    assert "accepted in the recipe: stuffing, contradiction" in text


def test_a_reward_without_a_finding_continues(check_with: Callable[..., str]) -> None:
    assert "no exploit in" in check_with("stripped", {"attack": {"num_search": 0}})


def test_what_is_left_out_is_said_and_unknown_classes_are_refused(check_with: Callable[..., str]) -> None:
    said = check_with("exact", {**NO_PROOF, **NO_ATTACK})
    assert "not attacked: the recipe says so" in said
    assert "no proof: the recipe says so" in said
    with pytest.raises(ValueError, match=r"attack.accept names nonsense; classes are: shell"):
        check_with("exact", {"attack": {"accept": ["nonsense"]}})


def test_a_reward_that_does_not_prove_itself_stops_the_run(
    check_with: Callable[..., str], tmp_path: Path
) -> None:
    assert "proven on 6 rows" in check_with("stripped", NO_ATTACK)
    with pytest.raises(
        ValueError, match=r"'exact' is not proven on rows with gold: re-formatted: .*override"
    ):
        check_with("exact", NO_ATTACK)  # white space around gold is no fault
    (report,) = tmp_path.glob("run-exact-*/check/proof/proof.json")
    assert json.loads(report.read_text())["holds"] is False
    said = check_with("exact", {"proof": {"override": "no spaces here"}, **NO_ATTACK})
    assert "NOT proven" in said
    assert "overridden: no spaces here" in said


def test_a_reward_that_people_do_not_share_is_not_trained_against(
    check_with: Callable[..., str], tmp_path: Path
) -> None:
    words = ["aeiou", "bcdfg", "ae", "xyz"] * 20
    data = tmp_path / "labels.jsonl"
    rows = [
        {"prompt": f"say {i}", "completion": w, "label": w[0] == "b", "answer": w}
        for i, w in enumerate(words)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**NO_PROOF, **NO_ATTACK, "calibration": {"data": str(data)}}
    with pytest.raises(
        ValueError, match=r"reward 'vowels' is not calibrated \(fail\) against human labels: .*override"
    ):
        check_with("vowels", settings)
    (report,) = tmp_path.glob("run-vowels-*/check/calibration/calibration.json")
    assert json.loads(report.read_text())["verdict"] == "fail"
    good = [{**row, "label": row["completion"][0] in "aeiou"} for row in rows]
    data.write_text("".join(json.dumps(row) + "\n" for row in good))
    assert "calibrated against human labels: agreement 1.000" in check_with("vowels", settings)
