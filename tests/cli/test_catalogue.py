"""`tieout tasks` and `tieout rewards` list everything that is registered, and the page on tasks shows real rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.rewards import main as rewards
from tieout.cli.tasks import first_line, options_of
from tieout.cli.tasks import main as tasks
from tieout.cli.train_rows import Options, task_for
from tieout.errors import InputError
from tieout.methods import SFT
from tieout.rewards import REWARDS
from tieout.tasks import TASKS, load_task

OF_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "derive": ("sec/statements", {"max_lines": 4}),
    "numeric_qa": ("tatqa/tatqa_dataset_dev.json", {}),
    "ratios": ("sec/statements", {"max_lines": 8}),
    "sec_statements": ("sec/statements", {"max_lines": 5}),
}
"""Task over files of others -> path in the folder of real data, and further options of the row on the page."""
PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def shown(text: str) -> Any:
    """The row at the end of what was printed."""
    return json.loads(text[text.index("\n{\n") :])


def test_every_task_is_listed_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    tasks([])
    said = capsys.readouterr().out
    for name in TASKS:
        assert name in said
        assert first_line(name).endswith(".")
        assert first_line(name).split()[0] in said


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(OF_FILES)))
def test_a_task_is_shown_with_a_real_row(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tasks([name])
    task = load_task(name)
    assert shown(capsys.readouterr().out) == (task.rows("train") or task.rows("test"))[0]


def test_options_reach_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    tasks(["rag", "--task-option", "seed=7"])
    assert shown(capsys.readouterr().out) == load_task("rag", {"seed": 7}).rows("train")[0]
    tasks(["derive", "--task-option", "sizes={train: 1}"])
    assert shown(capsys.readouterr().out) == load_task("derive").rows("train")[0]
    for name in OF_FILES.keys() - {"derive", "sec_statements"}:  # they make up what they are not given
        tasks([name])
        assert "A row is shown with --task-option path=..." in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        tasks(["rag", "--task-option", "seed"])


def test_numeric_qa_works_from_the_command_line(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "tatqa" / "tatqa_dataset_dev.json"
    options = Options(tmp_path, task="numeric_qa", task_option=(f"path={path}", "max_prompt_chars=600"))
    rows = task_for(SFT().needs, "sft", options).rows("train")
    assert rows
    assert all(sum(len(m["content"]) for m in row["prompt"]) <= 600 for row in rows)
    with pytest.raises(InputError, match="give --task too"):
        task_for(SFT().needs, "sft", Options(tmp_path, data=path, task_option=("path=x",)))


def test_every_reward_is_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rewards([])
    said = capsys.readouterr().out
    assert all(name in said for name in REWARDS)
    for name in REWARDS:
        rewards([name])
        said = capsys.readouterr().out
        assert said.startswith(f"{name}(")
        assert "range: " in said
        assert "From its file, tieout.rewards.library." in said
    with pytest.raises(InputError, match="did you mean 'numeric'"):
        rewards(["numerik"])


def sections() -> dict[str, str]:
    """Task -> its section of the page."""
    parts = re.split(r"^## (\w+)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_task_with_its_line_and_options() -> None:
    assert sorted(sections()) == sorted(TASKS)
    for name, text in sections().items():
        assert first_line(name) in text
        assert re.findall(
            r"`(\w+)`", re.findall(r"^Options: (.*)$", text, re.M)[0] if "Options:" in text else ""
        ) == [*options_of(name)]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_page_shows_the_first_row(name: str, request: pytest.FixtureRequest) -> None:
    given: dict[str, Any] = {}
    if name in OF_FILES:
        path, options = OF_FILES[name]
        given = {"path": str(request.getfixturevalue("shared_data") / path), **options}
    task = load_task(name, given)
    (block,) = re.findall(r"```json\n(.*?)```", sections()[name], re.DOTALL)
    row = (task.rows("train") or task.rows("test"))[0]
    assert json.loads(block) == json.loads(json.dumps(row))
    if sizes := re.findall(r"^Rows: ((?:\w+ \d+(?:, )?)+)\.$", sections()[name], re.MULTILINE):
        for size in sizes[0].split(", "):
            split, count = size.split()
            assert len(task.rows(split)) == int(count)
