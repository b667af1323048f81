"""Atomic files and folders, sealed by hashes."""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.plain import fingerprint, to_plain

__all__ = [
    "MANIFEST",
    "appearing",
    "exchange",
    "fingerprint",
    "seal",
    "sha256",
    "sync",
    "verifies",
    "write_atomic",
    "write_json",
]

MANIFEST = "manifest.json"
"""In a sealed folder, written last: name -> SHA-256 of every other file."""


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's own entries such as a rename in it, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Readers see the old file or the whole new one, also after a crash: temporary file, fsync, rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _readable())  # mkstemp's 0600 would hide results from the user's group
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk has no name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync(path.parent)  # the rename itself must survive a power cut


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values, atomically. ValueError: NaN or inf, which JSON does not have."""
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


# ---------------------------------------------------------------- folders


def seal(folder: Path) -> None:
    """Force every file to disk, then write their hashes."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    names = [name for name in names if name != MANIFEST]
    for name in names:
        sync(folder / name)
    write_json(folder / MANIFEST, {name: sha256(folder / name) for name in names})


def verifies(folder: Path) -> bool:
    """Whether every file is there and has the hash that the manifest names; an empty manifest names nothing."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(sha256(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A new folder to fill. When the block ends, it is sealed and takes the name, in the place of one that is there.

    Killed at any moment, `folder` is the old one or the new one, whole. A block that fails leaves nothing behind.
    """
    _clear_unfinished(folder)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in aside.rglob("*"):
            if path.is_file():
                path.chmod(_readable())  # safetensors makes its files 0600
        seal(aside)
        if folder.exists():
            exchange(aside, folder)
        else:
            aside.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _clear_unfinished(folder: Path) -> None:
    """Remove what processes that were killed inside `appearing(folder)` left."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        if left.name == f".{folder.name}.old" and not folder.exists():
            left.rename(folder)  # killed between the two renames of an exchange
        else:
            shutil.rmtree(left, ignore_errors=True)


def exchange(new: Path, old: Path) -> None:
    """Swap the names of two folders: in one step where the system can (Linux), else through a third name."""
    libc = ctypes.CDLL(None, use_errno=True)
    current_folder, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    if hasattr(libc, "renameat2"):
        names = os.fsencode(new), os.fsencode(old)
        if libc.renameat2(current_folder, names[0], current_folder, names[1], swap) == 0:
            return
    third = old.with_name(f".{old.name}.old")
    old.rename(third)
    new.rename(old)
    third.rename(new)


def _readable() -> int:
    """The mode that the user's umask gives to new files."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
