"""The loop inside a worker process: answer calls, one line of JSON each, until the other end closes.

A call is `[number, message]`, its answer `[number, outcomes]`: whatever else is written to the socket is no answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..scoring.outcomes import Outcome
from .descendants import adopt_orphans, kill_below

Answer = Callable[[Any], Sequence[Outcome]]
"""From one message to the outcomes of its completions."""


def serve(number: int, answer: Answer) -> NoReturn:
    """In a process that was forked for it: answer what comes on this descriptor, in a session of its own."""
    status = 1
    try:
        os.setsid()
        adopt_orphans()
        with socket.socket(fileno=number) as line, line.makefile("rb") as messages:
            for message in messages:
                call, asked = json.loads(message)
                said = [_plain(outcome) for outcome in answer(asked)]
                line.sendall(json.dumps([call, said]).encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


def _plain(outcome: Outcome) -> list[Any]:
    """The fields of an outcome, in their order."""
    head = [outcome.status, outcome.score, outcome.reason, outcome.cause, outcome.as_wrong]
    return [*head, dict(outcome.parts)]


def kill(pid: int) -> None:
    """Kill a worker, a child of this process that was not waited for, with whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # what it started is looked for, and it must not start more
    kill_below(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
