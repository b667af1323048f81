"""A run folder with two models, a reward in a file of its own, and controls; nothing was trained."""

from __future__ import annotations

from pathlib import Path

from tieout.evidence import scoring
from tieout.evidence.evaluate import CONTROLS, evaluate
from tieout.evidence.report import write_report
from tieout.rewards import load_reward
from tieout.samplers.mock import MockSampler
from tieout.storage import manifest
from tieout.storage.atomic import write_json
from tieout.storage.identity import folder_digest
from tieout.tasks import Task
from tieout.types import Row

ROWS: list[Row] = [{"prompt": f"{i} + {i}?", "answer": str(2 * i)} for i in range(30)]
SKILLS: list[Row] = [{"prompt": f"Say {i}", "answer": str(i), "skill": "copy"} for i in range(25)]
REWARD = """
def right(completions, answer, **columns):
    return [1.0 if a == b else 0.25 if a.isdigit() else 0.0 for a, b in zip(completions, answer)]
"""


def judged_run(tmp_path: Path) -> Path:
    """A run folder with two models, a reward in a file of its own, and controls."""
    folder, file = tmp_path / "run", tmp_path / "mine.py"
    file.write_text(REWARD)
    name = f"{file}:right"
    task = Task("sums", lambda split: ROWS, load_reward(name))
    controls = Task("controls", lambda split: SKILLS, load_reward("exact"))
    cases = {}
    for model, right in (("base", 10), ("dpo", 24)):
        said = MockSampler(
            [row["answer"] if i < right else "7x" if i % 2 else "7" for i, row in enumerate(ROWS)]
        )
        cases[model] = evaluate(task, ROWS, said)
        said = MockSampler([row["answer"] for row in SKILLS])
        cases[model] += evaluate(controls, SKILLS, said, track=CONTROLS, slice=lambda row: str(row["skill"]))
    write_json(folder / "run.json", {"identity": {}})
    (folder / "dpo" / "adapter").mkdir(parents=True)
    (folder / "dpo" / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    models = {"dpo": {"base": "b", "trained": folder_digest(folder / "dpo" / "adapter")}}
    manifest.append(folder, "start")
    names = {"task": None, "task_options": {}, "reward": name, "controls": "file"}
    scoring.keep(folder / "evidence", task, {"test": ROWS}, controls, names)
    write_report(folder / "evidence", cases, candidate="dpo", baseline="base", metadata={"models": models})
    manifest.append(folder, "gate")
    file.unlink()  # only the run folder is left
    return folder
