"""Bounds of time and memory on what files of a model make this process do: templates and regular expressions."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError

SECONDS = 10.0
"""Of the processor; a template of a chat takes about 0.1 ms."""
MOST_BYTES = 2 << 30
"""In addition to what the process holds."""


class _LateError(BaseException):
    """The time is up. Not an Exception, so that nothing takes it for an error of its own."""


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """InputError: the block computed longer than `SECONDS`, or asked for more than `MOST_BYTES`.

    Time is that of the processor: a machine that swaps, or a process that is stopped, does not count. Both are bounded
    in the main thread alone, which signals reach, and as the limit of memory is one of the whole process; time bounds
    Python code and regular expressions, memory is bounded on Linux.

    Args:
        what: of the error's sentence, such as "the chat template".
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with _limit(), _deadline():
            yield
    except _LateError:
        raise InputError(f"{what} did not end within {SECONDS:g} seconds") from None
    except (MemoryError, OverflowError):
        raise InputError(f"{what} asks for more than {MOST_BYTES / 2**30:g} GiB of memory") from None


@contextmanager
def _limit() -> Iterator[None]:
    """Bound the data of this process by what it holds now, and `MOST_BYTES`."""
    soft, hard = before = resource.getrlimit(resource.RLIMIT_DATA)
    held = _held()
    limits = [held + MOST_BYTES, *(one for one in before if one != resource.RLIM_INFINITY)]
    try:
        if held:
            resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise `_LateError` in the block once the time is up; a timer that runs already is set again afterwards."""
    others, interval = signal.getitimer(signal.ITIMER_REAL)
    if (
        0 < others < SECONDS or signal.getsignal(signal.SIGALRM) is None
    ):  # of C code: it could not be put back
        yield
        return
    begun, ends = time.monotonic(), time.thread_time() + SECONDS

    def late(number: int, frame: object) -> None:
        if (left := ends - time.thread_time()) <= 0:
            raise _LateError
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if others:
            left = others - (time.monotonic() - begun)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), interval)


def _held() -> int:
    """Bytes of this process's data; 0: the system does not report it."""
    with suppress(OSError, IndexError):
        return int(Path("/proc/self/statm").read_bytes().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0
