"""Calls of an `async def` for many groups at the same time, each group with its own time and attribution."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ...types import Reward
from .attribution import Limits, attribute
from .call import Call
from .outcomes import Outcome, attempt_async, reward_range, run_loop


def score_together(reward: Reward, calls: Sequence[Call], limits: Limits) -> list[list[Outcome]]:
    """[call][K] outcomes. A group that hangs, or is asked again, takes no time from another."""

    async def every() -> list[list[Outcome]]:
        return list(await asyncio.gather(*(_score(reward, call, limits) for call in calls)))

    outcomes: list[list[Outcome]] = run_loop(every)
    return outcomes


async def _score(reward: Reward, call: Call, limits: Limits) -> list[Outcome]:
    attribution, ends = (
        attribute(call, limits, reward_range(reward)),
        time.monotonic() + limits.deadline_seconds,
    )
    try:
        tries = next(attribution)
        while True:
            await asyncio.sleep(tries.wait_seconds)
            seconds = max(0.0, ends - time.monotonic()) * tries.share
            tried = (attempt_async(reward, one, seconds) for one in tries.calls)
            tries = attribution.send(list(await asyncio.gather(*tried)))
    except StopIteration as stop:
        outcomes: list[Outcome] = stop.value
        return outcomes
