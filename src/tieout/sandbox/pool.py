"""Run programs in the sandbox: some zygotes, each with one program at a time, started on first use."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import queue
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from . import packages
from .answers import Answer, read_answers
from .isolation import Backend, SandboxError
from .launch import Bubblewrapped, Ended, Zygote
from .values import encode

ProgramCall = tuple[Sequence[Any], Mapping[str, Any]] | str
"""Positional arguments, and those by name; or what a script reads from its standard input."""


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What a program may use. Where a limit is a process's own, it is that of each of its processes.

    Time is the processor's, and three times as long by the clock: a machine that is so busy, or stands still, costs no
    program its tests.
    """

    seconds: float = 6.0
    """In all."""
    call_seconds: float = 2.0
    """Of one call."""
    memory_bytes: int = 512 << 20
    """Address space of a process."""
    processes: int = 8
    """At once, threads too."""
    file_bytes: int = 8 << 20
    """Largest file."""
    tmp_bytes: int = 16 << 20
    """All of /tmp."""
    open_files: int = 64
    answer_bytes: int = 1 << 20
    """Largest value of one call, as JSON."""
    packages: tuple[str, ...] = ()
    """Of `packages.KNOWN`: numpy, pandas. They are shown as they are installed here, and can only be read."""

    def plain(self) -> dict[str, Any]:
        """As the process inside reads them."""
        cpu = math.ceil(self.seconds) + 1
        resources = {
            "AS": self.memory_bytes,
            "CPU": cpu,
            "FSIZE": self.file_bytes,
            "NOFILE": self.open_files,
            "CORE": 0,
            "MSGQUEUE": 0,
            "MEMLOCK": 0,
            "NPROC": self.processes,
        }
        return {"seconds": self.seconds, "tmp_bytes": self.tmp_bytes, "resources": resources}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ran."""

    answers: list[Answer]
    """One per call."""
    error: str = ""
    """If the program as a whole failed: why. Then no answer has a value."""


class Sandbox:
    """Runs programs, at most `size` at once; any thread may call it."""

    def __init__(
        self, backend: Backend, limits: ProgramLimits | None = None, size: int | None = None
    ) -> None:
        """`backend`: one that works, such as `choose()` finds. InputError: a package is not known, or not installed."""
        self.backend = backend
        self.limits = limits or ProgramLimits()
        try:
            self._shown = packages.found(self.limits.packages)
        except ImportError as error:
            raise InputError(str(error)) from error
        self.size = size or max(1, min(8, os.cpu_count() or 1))
        self._free: queue.LifoQueue[Zygote | Bubblewrapped | None] = queue.LifoQueue()
        for _ in range(self.size):
            self._free.put(None)  # started when it is first needed
        self._owner = os.getpid()
        atexit.register(self.close)

    def run(self, program: str, entry: str, calls: Sequence[ProgramCall]) -> Ran:
        """Load the program, call its function `entry` with each of `calls`, each in a process of its own.

        An empty entry runs it as a script, on each of `calls` as its input; the answers are what it prints.

        TypeError: an argument has no plain form. SandboxError: the sandbox broke, twice.
        """
        coded: list[Mapping[str, Any]] = [
            {"stdin": call}
            if isinstance(call, str)
            else {"args": encode(list(call[0])), "kwargs": encode(dict(call[1]))}
            for call in calls
        ]
        return self._run(program, entry, coded)

    def map(self, programs: Sequence[tuple[str, str, Sequence[ProgramCall]]]) -> list[Ran]:
        """`run` for several, as many at once as there are zygotes; in order."""
        with ThreadPoolExecutor(min(self.size, len(programs) or 1)) as threads:
            return list(threads.map(lambda given: self.run(*given), programs))

    def _run(self, program: str, entry: str, calls: Sequence[Mapping[str, Any]]) -> Ran:
        nonce = secrets.token_hex(16)
        request = {
            "nonce": nonce,
            "program": program,
            "entry": entry,
            "calls": calls,
            "seconds": self.limits.seconds,
            "call_seconds": self.limits.call_seconds,
            "max_answer_bytes": self.limits.answer_bytes,
        }
        data = json.dumps(request).encode("utf-8", "surrogatepass")
        limits = self.limits.plain()
        output, ended = self._confined(data, limits, 4096 + 2 * len(calls) * self.limits.answer_bytes)
        return _judged(read_answers(output, nonce, len(calls)), ended, self.limits.seconds)

    def _confined(self, data: bytes, limits: Mapping[str, Any], max_bytes: int) -> tuple[bytes, Ended]:
        """Give one request to a free zygote; one that broke is replaced, once."""
        if os.getpid() != self._owner:
            raise SandboxError("this sandbox was made in another process; make one after the fork")
        zygote = self._free.get()
        try:
            for attempt in range(2):
                try:
                    zygote = zygote or self._start()
                    return zygote.run(data, limits, max_bytes)
                except (SandboxError, OSError) as error:
                    if zygote is not None:
                        zygote.close()
                        zygote = None
                    if attempt:
                        raise SandboxError(f"the sandbox ({self.backend}) broke: {error}") from error
        finally:
            self._free.put(zygote)
        raise AssertionError("unreachable")

    def _start(self) -> Zygote | Bubblewrapped:
        return Bubblewrapped(self._shown) if self.backend == "bubblewrap" else Zygote(self._shown)

    def close(self) -> None:
        """End the zygotes, and with them whatever runs in them."""
        atexit.unregister(self.close)
        if os.getpid() != self._owner:
            return
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._free.get_nowait())
        for zygote in idle:
            if zygote is not None:
                zygote.close()
            self._free.put(None)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _judged(read: tuple[list[Answer | None], str], ended: Ended, seconds: float) -> Ran:
    """Put together what the program said and how it ended."""
    said, error = read
    if not error and ended.how == "too much":
        error = "it wrote more than its answers may have"
    late = ended.how == "timed out"
    if not error and all(answer is None for answer in said) and said:
        error = f"it timed out after {seconds:g} seconds" if late else "it ended before any call did"
    if error:
        return Ran([Answer(error=error)] * len(said), error)
    missing = Answer(error="it timed out before this call" if late else "it ended before this call")
    return Ran([answer or missing for answer in said])
