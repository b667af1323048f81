"""Run programs in the sandbox: some zygotes, each with one program at a time, started on first use."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import queue
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .answers import FAILED, Answer, read_answers
from .isolation import Backend, SandboxError, choose
from .launch import Bubblewrapped, Ended, Zygote
from .values import encode

Call = tuple[Sequence[Any], Mapping[str, Any]]
"""Positional arguments, and those by name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. Where a limit is a process's own, it is that of each of its processes."""

    seconds: float = 6.0
    """Wall time in all."""
    call_seconds: float = 2.0
    """Wall time of one call."""
    memory_bytes: int = 512 << 20
    """Address space of a process."""
    processes: int = 8
    """At once, threads too; where there are no namespaces, no process may be started at all."""
    file_bytes: int = 8 << 20
    """Largest file."""
    tmp_bytes: int = 16 << 20
    """All of /tmp; where there are no namespaces, nothing can be written."""
    open_files: int = 64
    answer_bytes: int = 1 << 20
    """Largest value of one call, as JSON."""

    def plain(self, backend: Backend) -> dict[str, Any]:
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
        if backend == "landlock":
            del resources["NPROC"]  # the kernel would count all of the user's; the filter forbids new ones
        return {"seconds": self.seconds, "tmp_bytes": self.tmp_bytes, "resources": resources}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ran."""

    answers: list[Answer]
    """One a call."""
    error: str = ""
    """If the program as a whole failed: why. Then no answer has a value."""


class Sandbox:
    """Runs programs, at most `size` at once; any thread may call it."""

    def __init__(
        self,
        at_least: Backend | None = None,
        limits: Limits | None = None,
        size: int | None = None,
        backend: Backend | None = None,
    ) -> None:
        """SandboxError: no isolation as strong as `at_least` is to be had. `backend` takes exactly that one."""
        self.backend: Backend = backend or choose(at_least)
        self.limits = limits or Limits()
        self.size = size or max(1, min(8, os.cpu_count() or 1))
        self._free: queue.LifoQueue[Zygote | Bubblewrapped | None] = queue.LifoQueue()
        for _ in range(self.size):
            self._free.put(None)  # started when it is first needed
        self._owner = os.getpid()
        atexit.register(self.close)

    def run(self, program: str, entry: str, calls: Sequence[Call]) -> Ran:
        """Load the program, call its function `entry` with each of `calls`, each in a process of its own.

        TypeError: an argument has no plain form. SandboxError: the sandbox broke, twice.
        """
        coded = [{"args": encode(list(args)), "kwargs": encode(dict(kwargs))} for args, kwargs in calls]
        if self.backend != "landlock":
            return self._run(program, entry, coded, self.limits.seconds)
        # It may not fork there: one run a call gives each call a process of its own all the same.
        answers: list[Answer] = []
        errors, left = set(), self.limits.seconds
        for call in coded:
            began = time.monotonic()
            ran = self._run(program, entry, [call], min(self.limits.call_seconds, max(left, 0.0)))
            if ran.error.startswith(FAILED):
                return Ran([Answer(error=ran.error)] * len(calls), ran.error)
            answers += ran.answers
            errors.add(ran.error)
            left -= time.monotonic() - began
        return Ran(answers, errors.pop() if len(errors) == 1 else "")

    def map(self, programs: Sequence[tuple[str, str, Sequence[Call]]]) -> list[Ran]:
        """`run` for several, as many at once as there are zygotes; in order."""
        with ThreadPoolExecutor(min(self.size, len(programs) or 1)) as threads:
            return list(threads.map(lambda given: self.run(*given), programs))

    def _run(self, program: str, entry: str, calls: Sequence[Mapping[str, Any]], seconds: float) -> Ran:
        nonce = secrets.token_hex(16)
        request = {
            "nonce": nonce,
            "program": program,
            "entry": entry,
            "calls": calls,
            "fork": self.backend != "landlock",
            "call_seconds": self.limits.call_seconds,
            "max_answer_bytes": self.limits.answer_bytes,
        }
        data = json.dumps(request).encode("utf-8", "surrogatepass")
        limits = {**self.limits.plain(self.backend), "seconds": seconds}
        output, ended = self._confined(data, limits, 4096 + 2 * len(calls) * self.limits.answer_bytes)
        return _judged(read_answers(output, nonce, len(calls)), ended, seconds)

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
        return Bubblewrapped() if self.backend == "bubblewrap" else Zygote(self.backend)

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
