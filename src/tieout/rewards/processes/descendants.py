"""The processes that a reward has started, also those that left its process group for a session of their own.

A worker adopts its orphans, so that whatever it started stays below it in /proc. On systems other than Linux nothing is
found.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LAST_SECONDS = 2.0
"""For killed processes to be gone; one that waits for a disk may take longer."""


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, in place of the system's first process."""
    with suppress(OSError, AttributeError):  # another system than Linux
        from ...sandbox.syscalls import prctl

        prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_below(pid: int) -> None:
    """Kill whatever runs below this process, which must not start more meanwhile."""
    ends = time.monotonic() + LAST_SECONDS
    while (found := descendants(pid)) and time.monotonic() < ends:
        for one in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.001)


def descendants(pid: int) -> list[int]:
    """The processes below this one, but for those that have ended."""
    children = defaultdict[int, list[int]](list)
    ended = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            state, parent = entry.read_bytes().rpartition(b")")[2].split()[:2]
            children[int(parent)].append(int(entry.parent.name))
            if state in b"ZX":
                ended.add(int(entry.parent.name))
    found = list(children[pid])
    for one in found:
        found += children[one]
    return [one for one in found if one not in ended]
