"""Call a reward with one completion at a time, in a process that may hang, exit or die without harm to this one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from ...rewards.processes.forked import forked
from ...rewards.processes.handle import Worker
from ...rewards.scoring.outcomes import Outcome, errored
from ...rewards.scoring.runner import score
from ...types import Reward, Row


@dataclass(frozen=True, slots=True)
class Paid:
    """The answer of a reward to one completion."""

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


class Caller:
    """Calls a reward in a worker that is forked, so that any function can be called; the context ends it.

    The worker answers call after call, and is replaced where one takes longer than the deadline, or ends it: to fork a
    program that holds a model takes as long as a hundred calls.
    """

    def __init__(self, reward: Reward, rows: Sequence[Row]) -> None:
        self.reward, self.rows = reward, rows
        self._worker: Worker | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def pay(self, asks: Sequence[Ask], deadline_seconds: float, ends: float) -> list[Paid | None]:
        """What the reward says of each; None for those that came after `ends` (by time.monotonic)."""
        said: list[Paid | None] = []
        late: list[int] = []
        for i, ask in enumerate(asks):
            long = [len(asks[k][1]) for k in late]
            if time.monotonic() >= ends or (len(long) >= MAX_LONG and len(ask[1]) >= min(long) >= LONG):
                said.append(None)
                continue
            said.append(paid := self._call(ask, deadline_seconds))
            if paid.late:
                late.append(i)
        if late and deadline_seconds < PATIENCE_SECONDS:
            # Once more, alone and for longer: to be slow, or called on a busy machine, is no hole.
            shortest = min(late, key=lambda i: len(asks[i][1]))
            self._end()
            again = self._call(asks[shortest], PATIENCE_SECONDS)
            for i in late:
                if not again.late:
                    said[i] = None
            said[shortest] = again
        return said

    def _call(self, ask: Ask, deadline_seconds: float) -> Paid:
        """What it says of one, by the worker that there is or a new one."""
        worker = self._worker = self._worker or self._open.enter_context(forked(self._answer))
        try:
            (outcome,) = worker.ask(ask, deadline_seconds)
        except TimeoutError:
            self._end()
            return Paid(None, f"it gave nothing within {deadline_seconds:g} seconds", late=True)
        except EOFError:
            self._end()
            return Paid(None, "it ended the process that called it")
        return _paid(outcome)

    def _end(self) -> None:
        self._open.close()
        self._worker = None

    def _answer(self, ask: Ask) -> list[Outcome]:
        row, completion = ask
        try:
            return score(self.reward, [completion], [self.rows[row]["prompt"]], self.rows[row])
        except BaseException as error:  # a reward that runs programs may pass on their SystemExit
            return [errored(f"it raised {type(error).__name__}: {str(error)[:200]}")]


def pay(
    reward: Reward, rows: Sequence[Row], asks: Sequence[Ask], deadline_seconds: float, ends: float
) -> list[Paid | None]:
    """`Caller.pay` by a worker of its own."""
    with Caller(reward, rows) as caller:
        return caller.pay(asks, deadline_seconds, ends)


def _paid(outcome: Outcome) -> Paid:
    failed = (outcome.reason[:300] or "it failed") if outcome.status == "errored" else ""
    elsewhere = bool(failed) and outcome.cause == "infrastructure"
    return Paid(outcome.score, failed, elsewhere, dict(outcome.parts) or None)
