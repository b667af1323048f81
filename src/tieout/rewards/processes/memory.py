"""The memory of reward workers: how much one may take, and when it is replaced for what it has kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

KEPT_BYTES = 512 << 20
"""A worker that holds so much more than after its first call is replaced."""
LOOK_SECONDS = 0.1
"""Between two looks at how much workers hold."""


def most_bytes() -> int:
    """Memory that one worker may take of its own: a quarter of the machine's, or of what the control group allows."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no control group, or no limit ("max")
        whole = min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return whole // 4


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 if the system does not report it."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
