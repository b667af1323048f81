"""An append-only journal: an entry is whole and on disk before `append` returns, or it is not there.

A line is a JSON object that begins with its checksum, the SHA-256 of the checksum before it and of the rest of the
line. So a line that was changed, dropped or moved is found, with its number. What a kill, a power cut or a full disk
left of the last write was never confirmed, and is cut off; entries are ordered by their number, never by a clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import InputError, TieoutError
from ..storage.atomic import sync

Entry = dict[str, Any]
_LINE = re.compile(rb'\{"sum":"([0-9a-f]{32})",(.*\})')


class NotSaved(TieoutError, OSError):
    """The journal could not be written: nothing of the entry is in it."""


def now() -> str:
    """The wall clock, for people to read."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Journal:
    """The entries of a file that this process alone writes; `read_journal` looks at one without."""

    def __init__(self, path: Path, clock: Callable[[], str] = now) -> None:
        self.path, self._clock, self._lock, self._together = path, clock, threading.RLock(), False
        self.entries, self._sum, self._size = _parse(path, path.read_bytes() if path.exists() else b"")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._cut()
        sync(path.parent)

    def append(self, *entries: Mapping[str, Any]) -> list[Entry]:
        """Add entries, numbered and timed, and force them to disk. NotSaved: none of them was added."""
        with self._lock:
            numbered: list[Entry] = [
                {"n": len(self.entries) + i + 1, "time": self._clock(), **entry}
                for i, entry in enumerate(entries)
            ]
            lines, total = _lines(numbered, self._sum)
            try:
                self._same_file()
                self._cut()
                rest = memoryview(lines)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                if not self._together:
                    os.fsync(self._file)
            except OSError as error:
                raise self._not_saved(error) from error
            self.entries += numbered
            self._sum, self._size = total, self._size + len(lines)
            return numbered

    @contextmanager
    def together(self) -> Iterator[None]:
        """Force what is appended inside to disk at the end, once for all of it. NotSaved: none of it was added."""
        with self._lock:
            before = len(self.entries), self._sum, self._size
            self._together = True
            try:
                yield
            finally:
                self._together = False
                try:
                    os.fsync(self._file)
                except OSError as error:
                    count, self._sum, self._size = before
                    del self.entries[count:]
                    raise self._not_saved(error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _same_file(self) -> None:
        there = self.path.stat()  # FileNotFoundError is an OSError too
        own = os.fstat(self._file)
        if (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
            raise OSError("the file was replaced while it was open")

    def _cut(self) -> None:
        """Take off what a write that failed has left."""
        size = os.fstat(self._file).st_size
        if size < self._size:
            raise OSError(f"the file was cut from {self._size} to {size} bytes")
        if size > self._size:
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)

    def _not_saved(self, error: OSError) -> NotSaved:
        with suppress(OSError):  # otherwise the next append, or the next start, cuts it
            self._cut()
        reason = error.strerror or str(error)
        return NotSaved(f"{self.path} could not be written ({reason}); nothing was lost before this")


def read_journal(path: Path) -> list[Entry]:
    """The entries of a journal, also while another process writes it."""
    return _parse(path, path.read_bytes())[0]


def _lines(entries: Sequence[Entry], total: str) -> tuple[bytes, str]:
    lines = []
    for entry in entries:
        body = json.dumps(entry, allow_nan=False, separators=(",", ":"))[1:].encode()
        total = _checksum(total, body)
        lines.append(b'{"sum":"%s",%s\n' % (total.encode(), body))
    return b"".join(lines), total


def _checksum(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()[:32]


def _parse(path: Path, data: bytes) -> tuple[list[Entry], str, int]:
    """Entries, the last checksum, and how many bytes of the file they take."""
    entries: list[Entry] = []
    total, size = "", 0
    while size < len(data):
        end = data.find(b"\n", size)
        line = data[size : end if end >= 0 else len(data)]
        found = _LINE.fullmatch(line)
        if end < 0 or found is None or _checksum(total, found[2]) != found[1].decode():
            # The end of a write that did not finish: no newline, or blocks that never reached the disk.
            if (end < 0 or b"\0" in line) and not re.search(rb'\n\{"sum":', data[size:]):
                break
            raise InputError(
                f"{path}:{len(entries) + 1}: this line, or the one before it, is not the one that was written; restore "
                "the file from a copy"
            )
        total, size = found[1].decode(), end + 1
        entries.append({key: value for key, value in json.loads(line).items() if key != "sum"})
    return entries, total, size
