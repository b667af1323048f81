"""The words and files that are left of a training that cannot write into its folder."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tieout.training import rescue


def test_runs_that_fail_at_the_same_step_keep_weights_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def save(learner: Any, place: Path) -> None:
        place.mkdir()
        (place / "weights").write_text(learner.run)

    monkeypatch.setattr(rescue, "save_adapter", save)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    checkpoints: Any = SimpleNamespace(newest=lambda: None)
    for run, error, remedy in (
        ("one", OSError(errno.ENOSPC, "No space left on device", "runs/one"), ": make room, and repeat"),
        ("other", OSError(errno.EACCES, "Permission denied", "runs/other"), ": repeat the command"),
    ):
        learner: Any = SimpleNamespace(step=3, run=run)
        told = rescue.rescued(error, learner, checkpoints)
        assert (told.errno, told.filename) == (error.errno, error.filename)
        assert remedy in str(told)
        place = str(told).partition("step 3 are in ")[2].partition(": ")[0]
        assert place.startswith(str(tmp_path))
        assert Path(place, "weights").read_text() == run
    assert len(list(tmp_path.glob("*/adapter/weights"))) == 2
