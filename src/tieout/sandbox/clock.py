"""How long a program has run: by the processor, and by a clock that stands still while the machine does.

What a program is worth should not depend on how busy the machine is. So its limits are seconds of the processor, and
one that waits has `PATIENCE` times as many by the clock: it sleeps, or the machine has so little time for it. A call's
are those of its process and of what that has waited for; other processes of it are bounded by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 3.0
TICK = 0.05
"""Seconds that are waited at once. One that takes much longer is a machine that was stopped, and counts as two."""

Found = TypeVar("Found")


class Clock:
    """What is left of some seconds, counted while something is waited for."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait(self, ready: Callable[[float], Found]) -> Found:
        """Wait by `ready`, for a tick at most: it takes the seconds that it may wait."""
        begun = time.monotonic()
        found = ready(min(TICK, max(0.0, self.left)))
        self.left -= min(time.monotonic() - begun, 2 * TICK)
        return found


def processor_seconds(process: int) -> float:
    """That a process of this namespace has used, all its threads together. OSError: there is none."""
    return time.clock_gettime(~process << 3 | 2)  # the kernel's MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
