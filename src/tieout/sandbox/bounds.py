"""Bounds of time and memory on what files of a model make this process do: templates and regular expressions."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from ..errors import InputError

SECONDS = 10.0
"""A template of a chat takes about 0.1 ms."""
MOST_BYTES = 2 << 30
"""In addition to what the process holds."""


class _LateError(BaseException):
    """The time is up. Not an Exception, so that nothing takes it for an error of its own."""


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """InputError: the block took longer than `SECONDS`, or asked for more than `MOST_BYTES`.

    Time is bounded in the main thread, of Python code and of regular expressions; memory on Linux.

    Args:
        what: of the error's sentence, such as "the chat template".
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _most(hard, int(time.monotonic()))
    try:
        with _deadline():
            try:
                if most is not None:
                    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    except _LateError:
        raise InputError(f"{what} did not end within {SECONDS:g} seconds") from None
    except (MemoryError, OverflowError):
        raise InputError(f"{what} asks for more than {MOST_BYTES / 2**30:g} GiB of memory") from None


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise `_LateError` in the block once the time is up; a timer that runs already is set again afterwards."""
    others, interval = signal.getitimer(signal.ITIMER_REAL)
    if threading.current_thread() is not threading.main_thread() or 0 < others < SECONDS:
        yield
        return
    begun, before = time.monotonic(), signal.signal(signal.SIGALRM, _late)
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if others:
            left = others - (time.monotonic() - begun)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), interval)


def _late(number: int, frame: object) -> NoReturn:
    raise _LateError


@lru_cache(maxsize=1)
def _most(hard: int, second: int) -> int | None:
    """The limit of this process's data while a block runs, looked at once a second; None: it is not known."""
    with suppress(OSError, IndexError):
        held = int(Path("/proc/self/statm").read_bytes().split()[5]) * os.sysconf("SC_PAGE_SIZE")
        return held + MOST_BYTES if hard == resource.RLIM_INFINITY else min(held + MOST_BYTES, hard)
    return None
