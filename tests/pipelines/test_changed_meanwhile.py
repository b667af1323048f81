"""What a stage reads hours after the checks is what was checked, or the stage is refused by its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import GRPO, NO_CHECK, REWARD, SFT

from tieout.config.attribute import load_attribute
from tieout.errors import InputError
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages import execute
from tieout.rewards.processes.workers import Workers
from tieout.rewards.scoring.runner import Call, score_groups
from tieout.storage.runfolder import RunFolder

LABELLED = [{"prompt": f"sum {i}", "completion": str(i), "label": i % 2 > 0} for i in range(6)]
HELD_OUT = [{"prompt": f"count {i}", "completion": str(i)} for i in range(6)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("file", "stage", "said"),
    [
        ("held.jsonl", "sft", r"rows\..*held\.jsonl: "),
        ("labels.jsonl", "check", r"rows\..*labels\.jsonl: "),
        ("more.jsonl", "calibrate", r"rows\..*more\.jsonl: "),
        ("mine.py", "grpo", r"code\.mine\.py: "),
        ("judge.yaml", "judged", r"scored_by\.judged: reward\."),
        ("model/chat_template.jinja", "sft", r"base\.template: "),
    ],
)
def test_a_file_that_changes_before_its_stage_is_refused(
    recipe: Callable[..., Recipe],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    stage: str,
    said: str,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    shutil.copytree(tiny_model("llama"), tmp_path / "model")
    (tmp_path / "mine.py").write_text(REWARD)
    (tmp_path / "judge.yaml").write_text("model: api:one\nrubric: 5 is right, 1 is wrong.\n")
    held = write_rows(tmp_path / "held.jsonl", HELD_OUT)
    labels, more = (write_rows(tmp_path / f"{name}.jsonl", LABELLED) for name in ("labels", "more"))
    check = {"check": {**NO_CHECK["check"], "calibration": {"data": labels, "override": "a toy"}}}
    sft = {**SFT, "held_out": held, "evaluation": {"eval_steps": 1}}
    calibrate = {"calibrate": {"data": more, "override": "a toy"}}
    own = {**GRPO, "reward": f"{tmp_path / 'mine.py'}:vowels"}
    judged = {**GRPO, "name": "judged", "reward": f"judge:{tmp_path / 'judge.yaml'}"}
    given = recipe([check, sft, calibrate, own, judged], model=str(tmp_path / "model"))
    for kind in execute.ALONE:
        monkeypatch.setitem(execute.ALONE, kind, lambda *_: None)
    monkeypatch.setattr(execute, "train", lambda *_: None)
    monkeypatch.setattr(execute, "note_sampled", lambda *_: None)
    with RunFolder(tmp_path / "run") as folder:
        made = Run(given, folder, Console(quiet=True))
        for one in given.stages:
            execute.work(made, one)
        place = tmp_path / file
        text = place.read_text()
        place.write_text(text.replace("1", "2").replace("end", "stop"))
        assert place.read_text() != text
        with pytest.raises(InputError, match=f"stage '{stage}': since the run began(?s:.*){said}"):
            execute.work(made, given.stage(stage))
        place.write_text(text)
        execute.work(made, given.stage(stage))


def test_rows_of_a_task_are_read_once(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a task that reads a file each time it is asked, every stage sees the rows that were checked."""
    (tmp_path / "mine.py").write_text(
        "import json, pathlib\n"
        "from tieout.rewards import load_reward\n"
        "from tieout.tasks import Task\n\n\n"
        "def rows(split):\n"
        "    text = pathlib.Path(__file__).with_name('rows.json').read_text()\n"
        "    return json.loads(text).get(split, [])\n\n\n"
        "def mine():\n"
        "    return Task('mine', rows, load_reward('exact'))\n"
    )
    rows = {
        split: [{"prompt": f"{split} {i}", "completion": str(i), "answer": str(i)} for i in range(4)]
        for split in ("train", "test")
    }
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    given = recipe([NO_CHECK, SFT], task=f"{tmp_path / 'mine.py'}:mine", data={}, reward=None)
    with RunFolder(tmp_path / "run") as folder:
        made = Run(given, folder, Console(quiet=True))
        (tmp_path / "rows.json").write_text(json.dumps({**rows, "test": rows["train"]}))
        assert [row["prompt"] for row in made.task.rows("test")] == [row["prompt"] for row in rows["test"]]


def test_a_reward_that_changed_is_not_loaded_into_workers(tmp_path: Path) -> None:
    """Workers import it by its path: as it was when this process did, or not at all."""
    file = tmp_path / "mine.py"
    file.write_text("def one(completions, **_):\n    return [1.0] * len(completions)\n")
    reward = load_attribute(f"{file}:one")
    call = Call.of_texts(["x"], ["p"], {"prompt": "p"})
    with Workers(1) as workers:
        assert score_groups(reward, [call], workers)[0][0].score == 1.0
        file.write_text("def one(completions, **_):\n    return [2.0] * len(completions)\n")
        assert score_groups(reward, [call], workers)[0][0].score == 1.0  # in memory
        workers.close()
        with pytest.raises(InputError, match=r"mine\.py has changed since the run began"):
            score_groups(reward, [call], workers)
