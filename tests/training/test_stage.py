"""When a stage keeps what it has done, when it begins again, and when it is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tieout.cli.train import main
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.methods import SFT
from tieout.storage.runfolder import RunFolder
from tieout.training.build import prepare
from tieout.training.loop import train
from tieout.training.spec import TrainSpec
from tieout.training.stage import begin
from tiny_task import make_task

KNOWN: dict[str, Any] = {
    "method": {"name": "SFT", "epochs": 1.0},
    "start": "aa",
    "data": {"rows": 3, "sha256": "bb"},
}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"method": {"name": "SFT", "epochs": 2.0}}, True),
        ({"start": "cc"}, False),
        ({"data": {"rows": 4, "sha256": "dd"}}, False),
        ({"method": {"name": "SFT", "epochs": 0.5}}, None),
        ({"method": {"name": "DPO", "epochs": 1.0}, "start": "cc"}, None),
    ],
)
def test_what_an_earlier_stage_decides_begins_again_and_another_value_is_refused(
    tmp_path: Path, changes: dict[str, Any], kept: bool | None
) -> None:
    said = io.StringIO()
    stage = RunFolder(tmp_path, lock=False).stage("sft")
    begin(stage, KNOWN, Console(file=said))
    (stage.path / "checkpoint").write_text("half", encoding="ascii")
    if kept is None:
        with pytest.raises(ValueError, match=r"sft is of another run; what changed \(was -> is\):\n  method"):
            begin(stage, {**KNOWN, **changes}, Console(file=said))
        assert stage.begun() == KNOWN
    else:
        begin(stage, {**KNOWN, **changes}, Console(file=said))
        assert stage.begun() == {**KNOWN, **changes}
    assert (stage.path / "checkpoint").exists() is (kept is not False)
    assert ("trained from the beginning" in said.getvalue()) is (kept is False)


def test_other_held_out_rows_are_another_run(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    rows = [{"prompt": f"say {i}", "completion": str(i)} for i in range(10)]
    for name, content in (("rows", rows[:6]), ("held", rows[6:8]), ("other", rows[8:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))

    def run(held_out: str) -> None:
        given = ["sft", "--model", tiny_model("llama"), "--out", tmp_path / "run", "--eval-steps", 1]
        given += ["--data", tmp_path / "rows.jsonl", "--held-out", tmp_path / f"{held_out}.jsonl"]
        main([str(x) for x in given])

    run("held")
    before = (tmp_path / "run/sft/adapter/adapter_model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"run\.json is of another run; .*\n  data\.held_out: "):
        run("other")
    assert (tmp_path / "run/sft/adapter/adapter_model.safetensors").read_bytes() == before


def test_dropout_is_that_of_the_seed_whatever_was_drawn_before(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """A stage from an adapter, trained after others in one process or alone in a process that resumes the run."""
    model = str(tiny_model("llama"))
    save_adapter(Learner(load(model, AdapterConfig(rank=2))), tmp_path / "start")
    adapter = AdapterConfig(rank=2, dropout=0.3)
    spec = TrainSpec(SFT(batch_size=2, learning_rate=0.01), model, tmp_path / "start", adapter, seed=5)
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        learner, source = prepare(spec, make_task())
        train(spec.method, source, learner, steps=2)
        found.append({name: p.detach().clone() for name, p in learner.model.trained().items()})
    assert all(torch.equal(p, found[1][name]) for name, p in found[0].items())
