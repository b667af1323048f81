"""Cache of the reference's log-probabilities of completions that the data holds, which never change.

Epochs, restarts and runs with other settings read them again. Values are keyed by the tokens, and files by the weights,
so a changed row or model is computed again. Values are kept bit for bit, and groups that were computed together are
kept together or not at all, since the last bits depend on that: a resumed run sees the numbers of the unbroken one.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from ..types import Group

Logprobs = list[list[float]]
"""[completion][token] nats, of one group."""

HEADER = struct.Struct("<32sIII")
"""Key, count of values, records that follow of the groups computed together, CRC-32 of all this and the values."""


class LogprobCache:
    """A store from groups to log-probabilities: in memory, and in a file once `open` named a folder."""

    def __init__(self) -> None:
        self._known: dict[bytes, np.ndarray] = {}
        self._path: Path | None = None
        self._writes = False

    def open(self, folder: Path, weights: str, writes: bool) -> None:
        """Read the values of earlier runs with these weights, and append new ones.

        Args:
            folder: holds one file for each set of weights.
            weights: digest of the weights that give the values.
            writes: False on all ranks but one.
        """
        path = folder / f"{weights}.logprobs"
        if path == self._path:
            return
        self._path, self._writes = path, writes
        data = path.read_bytes() if path.exists() else b""
        whole = 0
        for records, end in _together(data):
            self._known |= records
            whole = end
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.truncate(whole)  # of a process that was killed inside a write

    def get(
        self, groups: Sequence[Group], compute: Callable[[list[Group]], list[Logprobs]]
    ) -> list[Logprobs]:
        """[group][completion][token]; only groups that are not known are computed, and then kept."""
        keys = [_key(group) for group in groups]
        missing = {key: i for i, key in enumerate(keys) if key not in self._known}
        if missing:
            computed = compute([groups[i] for i in missing.values()])
            fresh = {
                key: np.array([x for completion in found for x in completion], dtype=np.float32)
                for key, found in zip(missing, computed, strict=True)
            }
            self._known |= fresh
            if self._writes and self._path is not None:
                lines = [_record(key, x, len(fresh) - i) for i, (key, x) in enumerate(fresh.items(), 1)]
                _append(self._path, b"".join(lines))
        return [_split(self._known[key].tolist(), group) for key, group in zip(keys, groups, strict=True)]


def _key(group: Group) -> bytes:
    """Of the tokens alone: scores, columns and texts change no log-probability."""
    lengths = [len(group.prompt), *(len(c.tokens) for c in group.completions)]
    tokens = [*group.prompt, *(t for c in group.completions for t in c.tokens)]
    return hashlib.sha256(np.array([len(lengths), *lengths, *tokens], dtype=np.int64).tobytes()).digest()


def _split(values: list[float], group: Group) -> Logprobs:
    result, start = [], 0
    for completion in group.completions:
        result.append(values[start : start + len(completion.tokens)])
        start += len(completion.tokens)
    return result


def _append(path: Path, data: bytes) -> None:
    """On disk when it returns: the checkpoint of this step follows. OSError: with the path, which a full disk lacks."""
    try:
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _record(key: bytes, values: np.ndarray, following: int) -> bytes:
    known, data = (key, len(values), following), values.tobytes()
    return HEADER.pack(*known, _check(known, data)) + data


def _check(known: tuple[bytes, int, int], data: bytes) -> int:
    return crc32(data, crc32(HEADER.pack(*known, 0)))


def _together(data: bytes) -> Iterator[tuple[dict[bytes, np.ndarray], int]]:
    """Records of groups computed together, and where they end, up to the first that are not whole."""
    records, start = dict[bytes, np.ndarray](), 0
    while start + HEADER.size <= len(data):
        key, count, following, check = HEADER.unpack_from(data, start)
        end = start + HEADER.size + 4 * count
        values = data[start + HEADER.size : end]
        if end > len(data) or _check((key, count, following), values) != check:
            return
        records[key], start = np.frombuffer(values, dtype="<f4"), end
        if not following:
            yield records, end
            records = {}
