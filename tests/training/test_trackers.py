"""Trackers: what they are given, offline; one that is missing is refused, and one that fails ends no run."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.train import main
from tieout.training.placement import Placement
from tieout.training.trackers import Trackers, check_trackers


class Recorder:
    """A tracker as accelerate's classes are, that keeps what it is told."""

    told: list[Any]
    fail_at = 0

    def __init__(self, *given: Any, **options: Any) -> None:
        type(self).told.append(("made", given, options))

    def start(self) -> None:
        type(self).told.append("started")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        type(self).told.append(("config", values))

    def log(self, values: dict[str, float], step: int) -> None:
        if self.fail_at == step:
            raise ConnectionError("no route")
        type(self).told.append((step, values))

    def finish(self) -> None:
        type(self).told.append("finished")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Stands in for all four."""
    from accelerate import tracking

    class Fresh(Recorder):
        told = []  # noqa: RUF012

    for name in ("tensorboard", "wandb", "trackio", "mlflow"):
        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, Fresh)
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    return Fresh


def test_an_unknown_or_missing_tracker_is_refused_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no tracker 'tensorbord'; did you mean 'tensorboard'"):
        Placement(trackers=("tensorbord",))
    monkeypatch.setattr("tieout.training.trackers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="tracker 'wandb' needs a package: pip install wandb"):
        check_trackers(["wandb"])


def test_everything_stays_in_the_run_folder_unless_the_user_names_a_server(
    recorder: type[Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("wandb", "mlflow", "trackio")
    Trackers(names, tmp_path, "project", "dpo").start({}, 0)
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert os.environ["TRACKIO_DIR"] == str(tmp_path / "trackio")
    assert ("made", ("project",), {"name": "dpo", "dir": str(tmp_path)}) in recorder.told
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    Trackers(names, tmp_path, "project", "dpo").start({}, 0)
    assert "WANDB_MODE" not in os.environ
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"


def test_a_tracker_that_fails_is_left_out_with_one_warning_and_the_others_continue(
    recorder: type[Recorder], tmp_path: Path
) -> None:
    class Failing(recorder):  # type: ignore[valid-type, misc]
        fail_at = 2

    from accelerate import tracking

    tracking.LOGGER_TYPE_TO_CLASS["wandb"] = Failing  # type: ignore[index]
    trackers = Trackers(("tensorboard", "wandb"), tmp_path, "p", "sft")
    trackers.start({"method": {"beta": 0.1, "targets": ["q", "v"]}, "start": None}, 0)
    assert ("config", {"method.beta": 0.1, "method.targets": "['q', 'v']"}) in recorder.told
    trackers.log(1, {"loss": 1.0})
    with pytest.warns(UserWarning, match=r"tracker 'wandb' failed \(ConnectionError: no route\)"):
        trackers.log(2, {"loss": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        trackers.log(3, {"loss": 0.25})
    trackers.close()
    assert [entry for entry in recorder.told if isinstance(entry, tuple) and entry[0] == 3] == [
        (3, {"loss": 0.25})
    ]
    assert recorder.told.count("finished") == 1


def test_tensorboard_gets_every_step_of_training_and_evaluation(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [{"prompt": f"say {i}", "completion": str(i)} for i in range(16)]
    for name, own in (("rows", rows[:8]), ("held", rows[8:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    given = {
        "--model": tiny_model("llama"), "--data": tmp_path / "rows.jsonl", "--held-out": tmp_path / "held.jsonl",
        "--eval-steps": 2, "--batch-size": 2, "--out": tmp_path / "run", "--trackers": "tensorboard",
        "--adapter.rank": 4,
    }  # fmt: skip
    main(["sft", *(str(x) for pair in given.items() for x in pair), "--keep-best"])
    seen = EventAccumulator(str(tmp_path / "run" / "trackers" / "tensorboard" / "sft"))
    seen.Reload()
    logged = [json.loads(line) for line in (tmp_path / "run/sft/metrics.jsonl").read_text().splitlines()]
    assert [(e.step, pytest.approx(e.value)) for e in seen.Scalars("loss")] == [
        (row["step"], row["loss"]) for row in logged
    ]
    assert [e.step for e in seen.Scalars("eval/loss")] == [2, 4]
    assert sys.modules.get("wandb") is None
    done = json.loads((tmp_path / "run/sft/done.json").read_text())
    assert done["best"]["eval/loss"] == min(row["eval/loss"] for row in logged if "eval/loss" in row)
