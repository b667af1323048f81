"""Call a reward with one completion at a time, in a process that may hang, exit or die without harm to this one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ...rewards.processes.forked import forked
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


def pay(
    reward: Reward, rows: Sequence[Row], asks: Sequence[Ask], deadline_seconds: float, ends: float
) -> list[Paid | None]:
    """What the reward says of each; None for those that came after `ends` (by time.monotonic).

    A worker, forked so that any function can be called, does them in turn and is replaced where one takes longer than
    the deadline, or ends it.
    """
    said: list[Paid | None] = []
    late: list[int] = []
    while len(said) < len(asks) and time.monotonic() < ends:
        long = [len(asks[i][1]) for i in late]
        if len(long) >= MAX_LONG and len(asks[len(said)][1]) >= min(long) >= LONG:
            said.append(None)
            continue
        said += _one_worker(reward, rows, asks[len(said) :], deadline_seconds, ends)
        if said and said[-1] is not None and said[-1].late:
            late.append(len(said) - 1)
    if late and deadline_seconds < PATIENCE_SECONDS:
        # Once more, alone and for longer: to be slow, or called on a busy machine, is no hole.
        shortest = min(late, key=lambda i: len(asks[i][1]))
        (again,) = _one_worker(reward, rows, [asks[shortest]], PATIENCE_SECONDS, time.monotonic() + 60.0)
        for i in late:
            if again is None or not again.late:
                said[i] = None
        said[shortest] = again
    return [*said, *[None] * (len(asks) - len(said))]


def _one_worker(
    reward: Reward, rows: Sequence[Row], asks: Sequence[Ask], deadline_seconds: float, ends: float
) -> list[Paid | None]:
    """What one worker says of them, up to the first that ends it or takes too long."""

    def answer(ask: Ask) -> list[Outcome]:
        row, completion = ask
        try:
            return score(reward, [completion], [rows[row]["prompt"]], rows[row])
        except BaseException as error:  # a reward that runs programs may pass on their SystemExit
            return [errored(f"it raised {type(error).__name__}: {str(error)[:200]}")]

    said: list[Paid | None] = []
    with forked(answer) as worker:
        for ask in asks:
            if time.monotonic() >= ends:
                break
            try:
                (outcome,) = worker.ask(ask, deadline_seconds)
            except TimeoutError:
                return [*said, Paid(None, f"it gave nothing within {deadline_seconds:g} seconds", late=True)]
            except EOFError:
                return [*said, Paid(None, "it ended the process that called it")]
            said.append(_paid(outcome))
    return said


def _paid(outcome: Outcome) -> Paid:
    failed = (outcome.reason[:300] or "it failed") if outcome.status == "errored" else ""
    elsewhere = bool(failed) and outcome.cause == "infrastructure"
    return Paid(outcome.score, failed, elsewhere, dict(outcome.parts) or None)
