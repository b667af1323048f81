"""Tables of several seeds: those kept follow from their runs, and a run that is stopped does not end the script."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results"
STOPPED = """
model: tieout-base
data: {{train: {rows}, test: {rows}}}
reward: {reward}
max_new_tokens: 4
adapter: {{rank: 4}}
stages:
  - train: sft
    epochs: 0.1
  - check: {{}}
  - evaluate: {{}}
  - gate: {{}}
"""


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import demo_seeds

    monkeypatch.setattr(demo_seeds, "RESULTS", tmp_path)
    return demo_seeds


@pytest.mark.parametrize(
    ("script", "columns"), [("stories", {"columns": ()}), ("demo_seeds", {}), ("real", {})]
)
def test_a_kept_table_follows_from_its_runs(script: str, columns: dict[str, Any], seeds: Any) -> None:
    kept = (RESULTS / f"{script}.md").read_text(encoding="utf-8")
    runs = json.loads((RESULTS / f"{script}.json").read_text(encoding="utf-8"))
    title = kept.partition("\n")[0].removeprefix("# ")
    assert seeds.table(title, script, runs, **columns) == kept


def test_a_run_that_a_guard_stops_is_kept_with_its_stage_and_the_next_is_made(
    seeds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"say {i}", "completion": str(i), "answer": str(i)} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "wrong.py").write_text("def paid(completions, **_):\n    return [0.0 for _ in completions]\n")
    given = {"rows": tmp_path / "rows.jsonl", "reward": f"{tmp_path / 'wrong.py'}:paid"}
    (tmp_path / "recipe.yaml").write_text(STOPPED.format(**given))
    accepted = ["--set", "accept_leakage=a test"]
    commands = {
        "told": ["run", str(tmp_path / "recipe.yaml"), *accepted],
        "lacking": ["run", str(tmp_path / "recipe.yaml"), *accepted],
        "unreadable": ["run", str(tmp_path / "none.yaml")],
    }
    monkeypatch.setattr(sys, "argv", ["x", "--seeds", "0", "--folder", str(tmp_path / "runs")])

    def study(*names: str) -> str:
        seeds.study("T", "study", commands, list(names), "", data={"lacking": "rows/none.jsonl"})
        return (tmp_path / "study.md").read_text()

    said = study("lacking", "told")
    (one,) = json.loads((tmp_path / "study.json").read_text())
    assert one["stopped"]["stage"] == "check"
    assert one["stopped"]["done"] == ["sft"]
    assert str(tmp_path / "runs") not in one["stopped"]["reason"]
    assert f"Seed 0: stopped by the guard: check, {one['stopped']['reason'].split('. ')[0]}" in said
    with pytest.raises(CalledProcessError):
        study("unreadable")


def test_a_story_without_its_data_is_left_out(
    seeds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import stories

    monkeypatch.setattr(sys, "argv", ["x", "--pipelines", *stories.DATA, "--data", str(tmp_path)])
    seeds.study("T", "stories", stories.STORIES, [], "", data=stories.DATA)
    said = capsys.readouterr().out
    for name, path in stories.DATA.items():
        assert f"{name} is left out: there is no {tmp_path / path}" in said
    assert not (tmp_path / "stories.json").exists()
