"""A log that cannot be written ends no run, and loses no line once it can be written again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tieout.storage.runfolder import RunFolder
from tieout.training.log import TrainLog


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_lines_wait_while_the_disk_is_full_and_are_written_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder(tmp_path) as run:
        stage = run.stage("sft")
        log = TrainLog(run, stage)
        log.metrics(1, {"loss": 1.0})
        real = RunFolder.append_jsonl

        def full(self: RunFolder, path: str, row: Any) -> None:
            with open(self.path / path, "ab") as file:
                file.write(b'{"step": 2, "lo')  # what fitted
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(RunFolder, "append_jsonl", full)
        with pytest.warns(UserWarning, match=r"metrics.jsonl cannot be written .*No space left"):
            log.metrics(2, {"loss": 0.5})
        log.metrics(3, {"loss": 0.25})  # said once
        assert log.flush() == 2
        monkeypatch.setattr(RunFolder, "append_jsonl", real)
        log.metrics(4, {"loss": 0.125})
        assert log.flush() == 0
    expected = [{"step": s, "loss": 2.0 ** (1 - s)} for s in (1, 2, 3, 4)]
    assert rows(tmp_path / "sft" / "metrics.jsonl") == expected


def test_a_line_torn_by_a_full_disk_is_dropped_before_the_next(tmp_path: Path) -> None:
    """A real limit on the size of files: the third line does not fit, and half of it stays behind."""
    pid = os.fork()
    if pid == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        status = 1
        try:
            with RunFolder(tmp_path) as run:
                for step in (1, 2):
                    run.append_jsonl("log.jsonl", {"step": step})
                size = (tmp_path / "log.jsonl").stat().st_size
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, resource.RLIM_INFINITY))
                try:
                    run.append_jsonl("log.jsonl", {"step": 3})
                except OSError:
                    assert (tmp_path / "log.jsonl").stat().st_size == size + 5
                    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                    run.append_jsonl("log.jsonl", {"step": 4})
                    status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert rows(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}, {"step": 4}]
