"""Landlock: without any privilege, give up access to files (and, on newer kernels, TCP and signals)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from .syscalls import PR_SET_NO_NEW_PRIVS, prctl, syscall

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version of the interface -> number of rights on files; later versions have no more."""
TCP = 0b11
SCOPES = 0b11
"""Abstract sockets and signals stay inside."""


def version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    try:
        return syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str] = ()) -> None:
    """From now on this process and its children open only files below `readable`, and write only `writable` ones.

    OSError: the kernel has no Landlock.
    """
    known = version()
    rights = (1 << FILE_RIGHTS.get(known, 16)) - 1
    fields = [rights, TCP if known >= 4 else 0, SCOPES if known >= 6 else 0]
    attributes = struct.pack("=QQQ", *fields)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = syscall(
        "landlock_create_ruleset", ctypes.create_string_buffer(attributes[:size], size), size, 0
    )
    try:
        for path in readable:
            _allow(ruleset, path, EXECUTE | READ_FILE | READ_DIR)
        for path in writable:
            _allow(ruleset, path, WRITE_FILE | READ_FILE)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    if not os.path.exists(path):
        return
    if not os.path.isdir(path):
        rights &= ~READ_DIR
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        syscall(
            "landlock_add_rule",
            ruleset,
            1,
            ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12),
            0,
        )
    finally:
        os.close(place)
