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

from ...rewards import Reward
from ...rewards.outcomes import Outcome
from ...rewards.runner import score
from ...types import Row


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
    gone: bool = False
    """It hung, or ended its process."""


MAX_HANGS = 3
"""After so many, completions as long as the shortest of them are left out: each costs its deadline."""

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
    hung: list[int] = []
    while len(said) < len(asks) and time.monotonic() < ends:
        if len(hung) >= MAX_HANGS and len(asks[len(said)][1]) >= min(hung):
            said.append(None)
            continue
        some = _one_child(reward, rows, asks[len(said) :], deadline_seconds, ends)
        if some and some[-1] is not None and some[-1].gone:
            # Once more, alone and longer: a busy machine is no hole.
            ask = asks[len(said) + len(some) - 1]
            again = _one_child(reward, rows, [ask], 2.5 * deadline_seconds, ends)
            some[-1] = again[0] if again else None
            if again and again[0] is not None and again[0].gone:
                hung.append(len(ask[1]))
        said += some
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
    buffer, failed = b"", ""
    with selectors.DefaultSelector() as events:
        events.register(reading, selectors.EVENT_READ)
        while len(said) < len(asks) and time.monotonic() < ends:
            if not events.select(deadline_seconds):
                failed = f"it gave nothing within {deadline_seconds:g} seconds"
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
    return [*said, Paid(None, failed, gone=True)] if failed and len(said) < len(asks) else said


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
