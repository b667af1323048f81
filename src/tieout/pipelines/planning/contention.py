"""How long this process waits for a processor that other programs use."""

from __future__ import annotations

from pathlib import Path

SCHEDULED = Path("/proc/self/schedstat")
"""Of the main thread, in nanoseconds: on a processor, and ready to run but without one."""


class Waited:
    """Since it was made."""

    def __init__(self) -> None:
        self._start = _scheduled()

    @property
    def times(self) -> float:
        """Times that it took longer than it would have alone; 1 where the system does not say."""
        now = _scheduled()
        if self._start is None or now is None or now[0] <= self._start[0]:
            return 1.0
        return 1.0 + (now[1] - self._start[1]) / (now[0] - self._start[0])


def _scheduled() -> tuple[int, int] | None:
    try:
        ran, waited, _ = SCHEDULED.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return int(ran), int(waited)
