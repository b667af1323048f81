"""The folder a run lives in: one process at a time, atomic files, and stages that are not done twice."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config.plain import to_plain
from ..errors import InputError
from .atomic import write_json
from .identity import as_stored, completed, differences, refuse_changes
from .jsonl import append_jsonl
from .machine import environment, launched


class RunFolderError(InputError):
    """The run folder cannot be used as asked; the message says why, and what to do."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Stage:
    """One stage of a run, in a folder of its own; done when its marker names the same inputs."""

    path: Path
    leads: bool = True
    """Whether this process writes: of several that share the folder, only one does."""

    def is_done(self, inputs: Any) -> bool:
        """Whether this stage finished with exactly these inputs: an identity with its data, or another plain value."""
        now = as_stored(inputs)
        return bool(completed(self.info().get("inputs"), now) == now)

    def begun(self) -> Any:
        """The inputs that this stage was last begun with; None if it was not."""
        return _read_object(self.path / "started.json").get("inputs")

    def begin(self, inputs: Any) -> None:
        """Make the folder ready to work in; what is there is deleted unless these inputs may resume it."""
        if not self.leads:
            return
        if differences(self.begun(), as_stored(inputs)):
            self.clear()
        (self.path / "done.json").unlink(missing_ok=True)
        write_json(self.path / "started.json", {"inputs": inputs, "time": _now()})

    def finish(self, inputs: Any, **info: Any) -> None:
        """Write the marker, last of all."""
        if self.leads:
            write_json(self.path / "done.json", {"inputs": inputs, "time": _now(), **info})

    def info(self) -> dict[str, Any]:
        """What `finish` wrote; empty for a stage that is not done."""
        return _read_object(self.path / "done.json")

    def clear(self) -> None:
        """Empty the folder."""
        (self.path / "done.json").unlink(missing_ok=True)  # first: half-deleted must not look done
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object, or {} if the file is absent."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunFolderError(f"{path}: not readable as JSON ({error}); restore it or delete it") from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _warn_of_versions(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn that a run is continued by other code: its numbers may differ from those of an unbroken run."""
    before, after = was.get("versions", {}), now["versions"]
    lines = [
        f"{name} {before[name]} -> {after[name]}"
        for name in after
        if before.get(name, after[name]) != after[name]
    ]
    if lines:
        warnings.warn(
            f"{path} was begun with other versions ({', '.join(lines)}): what is computed from here on may differ from "
            "an unbroken run; install the old ones to repeat it exactly",
            stacklevel=3,
        )


def _warn_of_moves(path: Path, noted: Sequence[Mapping[str, Any]], now: Mapping[str, str]) -> None:
    """Warn that a model is asked at another address than before, where its name alone says that it is the same."""
    before = {name: url for one in noted for name, url in one.get("servers", {}).items()}
    moved = [f"{name}: {before[name]} -> {url}" for name, url in now.items() if before.get(name, url) != url]
    if moved:
        warnings.warn(
            f"{path}: asked at another address than before ({'; '.join(moved)}). A model of the same name may be "
            "another one there: if it is, use another --out. What the old address had answered is asked again",
            stacklevel=3,
        )


_BEFORE = {"run.json", "lock", "leakage.json", "row_digests.jsonl.gz", "check"}
"""What a run folder has before the first stage that computes something to keep."""


class RunFolder:
    """Creates or opens a run folder and holds its lock until `close`, the end of `with`, or of the process.

    In a run of several processes only rank 0 takes the lock and writes; on the others all methods that would write do
    nothing. RunFolderError: another process holds the lock, or the folder cannot be written.
    """

    def __init__(self, path: str | Path, *, lock: bool = True, writes: bool = True) -> None:
        """
        Args:
            path: of the folder.
            lock: take the lock.
            writes: False only looks at the folder, which need not exist.
        """
        self.path, self.writes = Path(path), writes
        self.leads = writes and launched()[0] == 0
        self._lock: int | None = None
        if not writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".probe"):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunFolderError(f"cannot write to {self.path}: {reason}; use another --out") from error
        if lock and self.leads:
            self._take_lock()

    def _take_lock(self) -> None:
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(descriptor, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            who = "this process" if pid == str(os.getpid()) else f"process {pid}"
            raise RunFolderError(
                f"{self.path} is in use by {who} on {platform.node()} or a machine that shares the folder; "
                "wait for it, stop it, or use another --out"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise RunFolderError(
                f"{self.path} cannot be locked ({error.strerror}); put --out on a file system with locks"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _open_lock(self) -> int:
        """The lock's file, which is written to: never one that a link points to."""
        path = self.path / "lock"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RunFolderError(f"{path} is a link to {os.readlink(path)}; remove it") from error
            raise

    def _keep_lock(self) -> None:
        """Take the lock again if its file was removed by hand, as another process could take a new one.

        RunFolderError: another one has.
        """
        held, path = self._lock, self.path / "lock"
        if held is None:
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.lstat()):
                return
        self._take_lock()
        os.close(held)
        warnings.warn(f"{path} was removed while this run held it, and is taken again", stacklevel=3)

    def close(self) -> None:
        """Give the lock back. The file stays: without it two processes could lock two different files."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stage(self, name: str) -> Stage:
        """The folder of one stage, made if it is not there."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return Stage(path, self.leads)

    def record(
        self,
        identity: Any,
        data: Mapping[str, str] | None = None,
        placement: Any = None,
        precision: str = "",
        long_rows: Mapping[str, Any] | None = None,
        servers: Mapping[str, str] | None = None,
    ) -> None:
        """Write run.json, or compare with the one that is there.

        Args:
            identity: plain values that decide the run's numbers; a resumed run must have the same.
            data: hashes of the data by name; a resumed run must have the same.
            precision: of the base, and why; noted as the placement is.
            long_rows: set of rows -> how many were left out or cut because they are too long; noted if there are any.
            placement: where it runs; with time, command and environment it is noted again for every resumption.
            servers: model or judge behind an API -> the address where it is asked; noted as the placement is.

        Raises:
            RunFolderError: run.json is of another run; the message lists what was and what is. A run that the check of
                its reward stopped may be changed: it has no result yet.
        """
        if self.writes and not self.leads:
            return
        path = self.path / "run.json"
        given = {"identity": as_stored(identity), "data": as_stored(dict(data or {}))}
        now = {
            "time": _now(),
            "command": sys.argv,
            "placement": placement,
            "precision": precision,
            **({"long_rows": long_rows} if long_rows else {}),
            **({"servers": dict(servers)} if servers else {}),
            "environment": environment(),
        }
        if not path.exists() or self._refused():
            self.write_json("run.json", {**given, **now, "continued": []})
            return
        old = _read_object(path)
        lines = differences(old.get("identity"), given["identity"])
        lines += differences({"data": old.get("data")}, {"data": given["data"]})
        refuse_changes(lines, path, RunFolderError)
        _warn_of_versions(path, old.get("environment", {}), now["environment"])
        continued = old.get("continued", [])
        _warn_of_moves(path, [old, *continued], servers or {})
        self.write_json("run.json", {**old, **given, "continued": [*continued, now]})

    def _refused(self) -> bool:
        """Whether a check of the reward that did not end is all that the run has."""
        check, found = self.path / "check", {one.name for one in self.path.iterdir()}
        return (check / "started.json").exists() and not (check / "done.json").exists() and found <= _BEFORE

    def write_json(self, path: str, value: Any) -> None:
        """Write a file of plain values, atomically; `path` is inside the run folder."""
        if self.leads:
            self._keep_lock()
            write_json(self.path / path, value)

    def append_jsonl(self, path: str, row: Mapping[str, Any]) -> None:
        """Add one line to a log, see `jsonl.append_jsonl`; `path` is inside the run folder."""
        if self.leads:
            self._keep_lock()
            append_jsonl(self.path / path, [to_plain(row)])
