"""Call a reward with one completion at a time, in a process that may hang, exit or die without harm to this one."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ...rewards.scoring.outcomes import Outcome
from ...rewards.scoring.runner import score
from ...types import Reward, Row


@dataclass(frozen=True, slots=True)
class Paid:
    """What a reward said of one completion."""

    score: float | None
    """None: it abstained or failed."""
    failed: str = ""
    """If it raised, hung, ended its process or gave no number: how."""
    elsewhere: bool = False
    """It failed because a service did, which says nothing about the completion."""
    parts: dict[str, float | None] | None = None
    """Of a combined reward."""
    late: bool = False
    """It gave nothing in time."""


PATIENCE_SECONDS = 8.0
"""A call that takes longer hangs; one that takes longer than its deadline, which is less, is suspected to."""
MAX_LONG, LONG = 2, 1000
"""After so many suspects of so many characters, completions as long are left out: each costs its deadline."""

Ask = tuple[int, str]
"""Which row, and the completion."""


def pay(
    reward: Reward, rows: Sequence[Row], asks: Sequence[Ask], deadline_seconds: float, ends: float
) -> list[Paid | None]:
    """What the reward says of each; None for those that came after `ends` (by time.monotonic).

    A child process, forked so that any function can be called, does them in turn and is replaced where one takes
    longer than the deadline, or ends it.
    """
    said: list[Paid | None] = []
    late: list[int] = []
    while len(said) < len(asks) and time.monotonic() < ends:
        long = [len(asks[i][1]) for i in late]
        if len(long) >= MAX_LONG and len(asks[len(said)][1]) >= min(long) >= LONG:
            said.append(None)
            continue
        said += _one_child(reward, rows, asks[len(said) :], deadline_seconds, ends)
        if said and said[-1] is not None and said[-1].late:
            late.append(len(said) - 1)
    if late and deadline_seconds < PATIENCE_SECONDS:
        # Once more, alone and for longer: to be slow, or called on a busy machine, is no hole.
        shortest = min(late, key=lambda i: len(asks[i][1]))
        (again,) = _one_child(reward, rows, [asks[shortest]], PATIENCE_SECONDS, time.monotonic() + 60.0)
        for i in late:
            if again is None or not again.late:
                said[i] = None
        said[shortest] = again
    return [*said, *[None] * (len(asks) - len(said))]


def _one_child(
    reward: Reward, rows: Sequence[Row], asks: Sequence[Ask], deadline_seconds: float, ends: float
) -> list[Paid | None]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(reward, rows, asks, writing)
    os.close(writing)
    said: list[Paid | None] = []
    buffer, failed, late = b"", "", False
    with selectors.DefaultSelector() as events:
        events.register(reading, selectors.EVENT_READ)
        while len(said) < len(asks) and time.monotonic() < ends:
            if not events.select(deadline_seconds):
                failed, late = f"it gave nothing within {deadline_seconds:g} seconds", True
                break
            piece = os.read(reading, 1 << 16)
            if not piece:
                failed = "it ended the process that called it"
                break
            buffer += piece
            *lines, buffer = buffer.split(b"\n")
            said += [Paid(**json.loads(line)) for line in lines]
    os.close(reading)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return [*said, Paid(None, failed, late=late)] if failed and len(said) < len(asks) else said


def _answer(reward: Reward, rows: Sequence[Row], asks: Sequence[Ask], writing: int) -> NoReturn:
    """In the child: a line of JSON for each. Never returns."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        for row, completion in asks:
            _write(writing, _paid(reward, rows[row], completion))
    finally:
        os._exit(0)


def _paid(reward: Reward, row: Row, completion: str) -> dict[str, Any]:
    try:
        outcome: Outcome = score(reward, [completion], [row["prompt"]], row)[0]
    except BaseException as error:  # a reward that runs programs may pass on their SystemExit
        return {"score": None, "failed": f"it raised {type(error).__name__}: {str(error)[:200]}"}
    failed = (outcome.reason[:300] or "it failed") if outcome.status == "errored" else ""
    elsewhere = bool(failed) and outcome.cause == "infrastructure"
    parts = dict(outcome.parts) or None
    return {"score": outcome.score, "failed": failed, "elsewhere": elsewhere, "parts": parts}


def _write(descriptor: int, value: dict[str, Any]) -> None:
    data = memoryview(json.dumps(value).encode() + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]
