"""Faults of the machine around a command: signals, a hub that is away, links and pipes in the place of files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models import hub
from tieout.learner.models.loading import context_of, load_chat
from tieout.rows import read_rows
from tieout.storage import atomic
from tieout.storage.jsonl import append_jsonl, read_log
from tieout.storage.runfolder import RunFolder
from tieout.training.interrupts import interrupts


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_ends_a_step_first_and_nohup_is_heeded(number: int) -> None:
    with interrupts() as asked:
        os.kill(os.getpid(), number)
        assert asked()
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interrupts() as asked:
            os.kill(os.getpid(), number)
            assert not asked()
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_says_so(tmp_path: Path, number: int) -> None:
    program = (
        "import sys, time, types; from tieout import cli\n"
        "slow = types.ModuleType('tieout.cli.doctor')\n"
        "def main(rest):\n    print('begun', flush=True); time.sleep(60)\n"
        "slow.main = main; sys.modules['tieout.cli.doctor'] = slow\n"
        "sys.argv = ['tieout', 'doctor']; cli.main()"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"begun\n"
    command.send_signal(number)
    _, said = command.communicate(timeout=20)
    assert command.returncode == 130
    assert b"interrupted" in said
    assert number == signal.SIGINT or signal.Signals(number).name.encode() in said


@pytest.mark.parametrize("ask", [load, load_chat, context_of])
def test_a_wrong_model_name_without_a_network_is_answered_within_two_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[[str], object]
) -> None:
    def silent(*_: object) -> None:  # a name server that does not answer
        time.sleep(10)
        raise OSError("no answer")

    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.socket, "create_connection", silent)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mini-qwen").mkdir()
    (tmp_path / "mini-qwen" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    begun = time.monotonic()
    with pytest.raises(
        InputError, match=r"'mini-qwn' is no folder here .* did you mean the folder mini-qwen\?"
    ):
        ask("mini-qwn")
    assert time.monotonic() - begun < 2


def test_a_full_disk_is_told_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run\.json'"):
        atomic.write_json(tmp_path / "run.json", {})
    with pytest.raises(OSError, match=r"'/dev/full'"):
        append_jsonl(Path("/dev/full"), [{"a": 1}])


def test_a_damaged_line_of_a_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: not JSON"):
        read_log(tmp_path / "metrics.jsonl")


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("of value")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(InputError, match=r"lock is a link to .*mine\.txt; remove it"):
        RunFolder(tmp_path / "run")
    assert (tmp_path / "mine.txt").read_text() == "of value"


def test_a_pipe_or_a_loop_in_the_place_of_rows_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="no regular file"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    with pytest.raises(InputError, match="a link that leads nowhere"):
        read_rows(tmp_path / "loop.jsonl")


def test_what_peft_keeps_as_sets_is_saved_in_one_order(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load(str(tiny_model("llama")), AdapterConfig(targets="v_proj,q_proj,up_proj,down_proj"))
    save_adapter(Learner(model, 1e-3), tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["target_modules"] == ["down_proj", "q_proj", "up_proj", "v_proj"]
