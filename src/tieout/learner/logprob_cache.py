"""Cache of the reference's log-probabilities of completions that the data holds, which never change.

Epochs, restarts and runs with other settings read them again. Values are keyed by the tokens, and files by the weights,
so a changed row or model is computed again. Values are kept bit for bit: a resumed run sees the numbers of the unbroken
one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from ..types import Group

Logprobs = list[list[float]]
"""[completion][token] nats, of one group."""

HEADER = struct.Struct("<32sII")
"""Key, count of values, CRC-32 of the values."""


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
        for key, values, end in _records(data):
            self._known[key], whole = values, end
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
                with open(self._path, "ab") as file:
                    for key, values in fresh.items():
                        data = values.tobytes()
                        file.write(HEADER.pack(key, len(values), crc32(data)) + data)
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


def _records(data: bytes) -> list[tuple[bytes, np.ndarray, int]]:
    """(key, values, where the record ends) up to the first that is not whole."""
    result, start = [], 0
    while start + HEADER.size <= len(data):
        key, count, check = HEADER.unpack_from(data, start)
        end = start + HEADER.size + 4 * count
        values = data[start + HEADER.size : end]
        if end > len(data) or crc32(values) != check:
            break
        result.append((key, np.frombuffer(values, dtype="<f4"), end))
        start = end
    return result
