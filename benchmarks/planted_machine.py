"""Faults that `faults.py` plants around a command: its output, its user, its folders, its clock, its metrics' sink."""

from __future__ import annotations

import ctypes
import datetime
import io
import os
import shlex
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from accelerate import tracking
from planted import Fault
from planted_ranks import forked, rows_in, training

from tieout import cli
from tieout.cli.train import main as train
from tieout.evidence.report import evaluation_of
from tieout.learner.models.gguf_files import converted
from tieout.storage import runfolder
from tieout.storage.jsonl import read_log
from tieout.training import trackers
from tieout.training.trackers import Trackers

CAPABILITIES = 0x20080522
"""Version of the structures that `capset` takes."""


def said_in_ascii(folder: Path) -> str:
    """An output that has no sign for an ellipsis or an arrow."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with mock.patch.object(sys, "argv", ["tieout", "rewards"]), mock.patch.object(sys, "stdout", output):
        cli.main()
        output.flush()
    return "survived" if b"\\u2026" in output.buffer.getvalue() else "silent"  # type: ignore[attr-defined]


def undecoded(folder: Path) -> str:
    """The name of a file in another encoding than the locale's."""
    said = io.StringIO()
    name = os.fsdecode(b"r\xe4um.jsonl") if sys.getfilesystemencoding() == "utf-8" else "r\udce4um.jsonl"
    with mock.patch.object(sys, "argv", ["tieout", "show", name]), mock.patch.object(sys, "stderr", said):
        try:
            cli.main()
        except SystemExit as ended:
            return "refused" if ended.code == 1 and "rename it" in said.getvalue() else "lost"
    return "silent"


def without_privileges() -> None:
    """Give up what root may do beyond other users: write where the mode of a file or folder forbids it."""
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def trained_in(folder: Path, prepare: Callable[[Path], None]) -> list[int]:
    """A training in a process of its own, after `prepare`, in a folder with spaces and an umlaut in its name."""
    place = folder / "my räume"
    place.mkdir()
    rows = rows_in(place)

    def run() -> None:
        os.chdir(place)
        prepare(place)
        train(training(Path(rows.name), Path("my run")))

    return forked([run], folder / "log")


def as_nobody(folder: Path) -> str:
    """No privileges, a home that cannot be written, and spaces; the command printed at the end can be typed."""

    def prepare(place: Path) -> None:
        home = folder / "home"
        home.mkdir(mode=0o555)
        os.environ["HOME"] = str(home)
        without_privileges()

    ended = trained_in(folder, prepare)
    said = (folder / "log-0").read_text(encoding="utf-8")
    run = folder / "my räume" / "my run"
    words = shlex.split(evaluation_of(run))
    use = next(line for line in said.splitlines() if line.startswith("use: tieout sample"))
    typed = shlex.split(use)[-1] == "my run/sft/adapter" and str(run) in words
    return "survived" if ended == [0] and typed and not any((folder / "home").iterdir()) else "lost"


def forbidden(folder: Path) -> str:
    """A folder for the run that this user may not write: refused before anything is loaded."""

    def prepare(place: Path) -> None:
        place.chmod(0o555)
        without_privileges()

    ended = trained_in(folder, prepare)
    said = (folder / "log-0").read_text(encoding="utf-8")
    return "refused" if ended == [1] and "use another --out" in said else "lost"


def forbidden_cache(folder: Path) -> str:
    """No place for the model that a GGUF file is converted into."""
    (folder / "model.gguf").write_bytes(b"GGUF")
    with mock.patch.dict(os.environ, {"TIEOUT_CACHE": os.devnull}):
        converted(folder / "model.gguf")
    return "silent"


def clock_set_back(folder: Path) -> str:
    """An hour back at every look, while a run is interrupted, resumed and finished."""
    rows, looks = rows_in(folder), []

    class Back(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            looks.append(1)
            return datetime.datetime(2026, 1, 1, tzinfo=tz) - datetime.timedelta(hours=len(looks))

    def back() -> float:
        looks.append(1)
        return 1e9 - 3600.0 * len(looks)

    def run(epochs: str) -> None:
        with mock.patch.object(runfolder, "datetime", Back), mock.patch.object(time, "time", back):
            train([*training(rows, folder / "run"), "--epochs", epochs])

    ended = [forked([partial(run, epochs)], folder / "log") for epochs in ("0.5", "1")]
    steps = read_log(folder / "run" / "sft" / "metrics.jsonl")
    right = [row["step"] for row in steps] == [1, 2, 3, 4] and all(r["update_seconds"] > 0 for r in steps)
    return "survived" if ended == [[0], [0]] and right else "lost"


def hanging_sink(folder: Path) -> str:
    """A server for metrics that does not answer costs its deadline once."""

    class Hanging:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.start = self.store_init_configuration = lambda *_: None

        def log(self, *_: Any, **__: Any) -> None:
            threading.Event().wait(20)

    begun = time.monotonic()
    with (
        mock.patch.dict(tracking.LOGGER_TYPE_TO_CLASS, {"tensorboard": Hanging}),
        mock.patch.object(trackers, "SECONDS", 0.05),
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        sink = Trackers(("tensorboard",), folder, "project", "sft")
        sink.start({}, 0)
        for step in range(1, 5):
            sink.log(step, {"loss": 1.0})
        sink.close()
    told = sum("continues without it" in str(one.message) for one in said)
    return "survived" if told == 1 and time.monotonic() - begun < 10 else "lost"


def machine() -> list[Fault]:
    found = [
        Fault("machine", "output in ASCII, as in the C locale", said_in_ascii),
        Fault("machine", "a name in another encoding", undecoded),
        Fault("machine", "a clock that is set back", clock_set_back),
        Fault("machine", "a cache that may not be written", forbidden_cache),
        Fault("machine", "a server for metrics that hangs", hanging_sink),
    ]
    if sys.platform == "linux":
        found += [
            Fault("machine", "no privileges, a read-only home, spaces in paths", as_nobody),
            Fault("machine", "a folder that may not be written", forbidden),
        ]
    return found
