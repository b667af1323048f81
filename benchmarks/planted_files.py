"""Faults that `faults.py` plants in the files of a run: checkpoints, logs, locks, a full disk."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

from planted import Fault

from tieout.errors import TieoutError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints
from tieout.rows import read_rows
from tieout.storage import atomic
from tieout.storage.atomic import MANIFEST, sha256, write_json
from tieout.storage.jsonl import append_jsonl, read_log
from tieout.storage.runfolder import RunFolder
from tieout.training.rescue import rescued


def checkpoints(change: Callable[[Checkpoints, Learner], None], step: int) -> Callable[[Path], str]:
    """Two checkpoints, a fault, and what is restored: the second, or the one before where that is damaged."""

    def plant(folder: Path) -> str:
        learner = Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3)
        kept = Checkpoints(folder, apart=16)
        for learner.step in (1, 2):
            kept.save(learner, {"position": 0})
        change(kept, learner)
        state = kept.restore(learner)
        return "survived" if state and state["step"] == step == learner.step else "lost"

    return plant


def damage(name: str) -> Callable[[Checkpoints, Learner], None]:
    def change(kept: Checkpoints, learner: Learner) -> None:
        place = kept.folder / "step-000002" / name
        place.write_bytes(b"{}" if name == MANIFEST else place.read_bytes()[:-20])

    return change


def full_disk(kept: Checkpoints, learner: Learner) -> None:
    learner.step = 3
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(atomic.os, "fsync", side_effect=full):
        try:
            kept.save(learner, {"position": 0})
        except OSError:
            return
    raise AssertionError("the disk was full, and nothing was said")


def emptied(folder: Path) -> str:
    """A checkpoint that was being deleted when its process was killed."""
    learner = Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3)
    kept = Checkpoints(folder, apart=16)
    (folder / "step-000001").mkdir()
    (folder / "step-000001" / "state.json").write_text("{}")
    learner.step = 2
    kept.save(learner, {"position": 0})
    return "survived" if [one.name for one in folder.iterdir()] == ["step-000002"] else "lost"


def room(folder: Path) -> str:
    """A disk that has room for one checkpoint more once an older one, which would be deleted anyway, is gone."""
    learner = Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3)
    kept = Checkpoints(folder)
    for learner.step in (1, 2):
        kept.save(learner, {"position": 0})
    sync, full = os.fsync, OSError(errno.ENOSPC, "No space left on device")

    def fsync(descriptor: int) -> None:
        if (folder / "step-000001").exists():
            raise full
        sync(descriptor)

    learner.step = 3
    with mock.patch.object(atomic.os, "fsync", fsync):
        kept.save(learner, {"position": 0})
    state = kept.peek(learner)
    return "survived" if state and state["step"] == 3 else "lost"


def full_at_the_end(folder: Path) -> str:
    """The last save fails: what there is, is named, and an adapter of the last step lies elsewhere."""
    learner = Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3)
    kept = Checkpoints(folder)
    learner.step = 1
    kept.save(learner, {"position": 0})
    learner.step = 2
    with mock.patch.object(tempfile, "gettempdir", return_value=str(folder)):
        said = str(rescued(OSError(errno.ENOSPC, "No space left on device", "there"), learner, kept))
    load(str(next(folder.glob("tieout-step-2-*/adapter"))), dtype="fp32")
    return "survived" if "step 1 is kept in" in said and "step 2 are in" in said else "lost"


def last_good(folder: Path) -> str:
    learner = Learner(load("tieout-base", AdapterConfig(rank=2), dtype="fp32"), 1e-3)
    kept = Checkpoints(folder, apart=16)
    for learner.step in range(1, 31):
        kept.save(learner, {"position": 0})
    state = kept.peek(learner, before=30 - 16 + 1)
    return "survived" if state else "lost"


def linked_lock(folder: Path) -> str:
    (folder / "mine.txt").write_text("of value")
    (folder / "run").mkdir()
    (folder / "run" / "lock").symlink_to(folder / "mine.txt")
    with suppress(TieoutError):
        RunFolder(folder / "run").close()
    return "survived" if (folder / "mine.txt").read_text() == "of value" else "lost"


def two_at_once(folder: Path) -> str:
    with RunFolder(folder / "run"):
        RunFolder(folder / "run").close()
    return "silent"


def removed_lock(folder: Path) -> str:
    """Taken again, and noticed where another run has taken it meanwhile."""
    with RunFolder(folder / "run") as run:
        (folder / "run" / "lock").unlink()
        run.write_json("a.json", {})
        with suppress(TieoutError):
            RunFolder(folder / "run").close()
            return "silent"
        (folder / "run" / "lock").unlink()
        with RunFolder(folder / "run"):
            run.write_json("a.json", {})
    return "silent"


def large_row(folder: Path) -> str:
    (folder / "rows.jsonl").write_text(json.dumps({"prompt": "a" * 100_000_000}) + "\n")
    read_rows(folder / "rows.jsonl")
    return "silent"


def torn_log(folder: Path) -> str:
    append_jsonl(folder / "metrics.jsonl", [{"step": 1}])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    append_jsonl(folder / "metrics.jsonl", [{"step": 2}])
    return "survived" if [row["step"] for row in read_log(folder / "metrics.jsonl")] == [1, 2] else "lost"


def damaged_log(folder: Path) -> str:
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    read_log(folder / "metrics.jsonl")
    return "silent"


def full_while_writing(folder: Path) -> str:
    write_json(folder / "run.json", {"seed": 0})
    before = sha256(folder / "run.json")
    try:
        with mock.patch.object(
            atomic.os, "fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")
        ):
            write_json(folder / "run.json", {"seed": 1})
    except OSError as error:
        return "survived" if "run.json" in str(error) and sha256(folder / "run.json") == before else "lost"
    return "silent"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "rows.jsonl")
    read_rows(folder / "rows.jsonl")
    return "silent"


def files() -> list[Fault]:
    found = [
        Fault("files", f"checkpoint: {name} damaged", checkpoints(damage(name), 1))
        for name in ("state.safetensors", "state.json", MANIFEST)
    ]
    found += [
        Fault("files", "checkpoint: a full disk inside a save", checkpoints(full_disk, 2)),
        Fault("files", "checkpoint: 30 steps saved, blown up since step 15", last_good),
        Fault("files", "run.json: a full disk", full_while_writing),
        Fault("files", "metrics.jsonl: a torn last line", torn_log),
        Fault("files", "metrics.jsonl: a damaged line", damaged_log),
        Fault("files", "lock: a link to another file", linked_lock),
        Fault("files", "lock: two processes at once", two_at_once),
        Fault("files", "lock: removed by hand while a run holds it", removed_lock),
        Fault("files", "checkpoint: a folder that a kill has emptied", emptied),
        Fault("files", "checkpoint: a full disk, and an older one to delete", room),
        Fault("files", "adapter: a full disk at the end", full_at_the_end),
        Fault("files", "rows: a pipe in their place", pipe),
        Fault("files", "rows: one of 100 MB", large_row),
    ]
    return found
