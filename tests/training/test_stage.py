"""When a stage keeps what it has done, when it begins again, and when it is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tieout.cli.train import main
from tieout.storage.runfolder import RunFolder
from tieout.training.stage import begin

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
