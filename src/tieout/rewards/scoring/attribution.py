"""Attribute a reward failure to the service, the reward or the completion.

A service that fails is asked again. A reward that returns what is no score is wrong. Where it raises, hangs or dies,
each completion is tried alone, next to a few harmless controls. If the reward works on this row for any of the
others, a completion that failed twice made it fail: a wrong answer, or crashing the verifier would be a way to skip
hard prompts. If it works for none, no completion can be said to be wrong: all of them leave the group.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from ...errors import InputError
from .call import Call
from .outcomes import Outcome

CONTROLS = ("", "0", "I do not know.")
"""Harmless completions, in addition to the row's own."""


@dataclass(frozen=True)
class Limits:
    """How long a reward may take, and how often it is asked again."""

    deadline_seconds: float = 10.0
    """Of one group, everything included: half for the first call, the rest to find out which completion hung."""
    retries: int = 2
    """Further calls where a service failed."""
    backoff_seconds: float = 0.1
    """Before the first of them; doubled each time."""

    def __post_init__(self) -> None:
        if not self.deadline_seconds > 0:
            raise InputError(f"deadline_seconds is {self.deadline_seconds}; it must be above 0")


@dataclass(frozen=True)
class Tries:
    """Calls to be made now, in any order or at once."""

    calls: Sequence[Call]
    share: float
    """Of the time that is left for the group; all calls together."""
    wait_seconds: float = 0.0


Attribution = Generator[Tries, list[list[Outcome]], list[Outcome]]
"""Asks for calls, is sent their outcomes in the same order, returns the [K] outcomes of the group."""


def attribute(call: Call, limits: Limits, bounds: tuple[float, float] | None) -> Attribution:
    """The outcomes of one group; the caller makes the calls it asks for, in this process or in others.

    Args:
        call: the group.
        limits: how often to ask again.
        bounds: the range that the reward declares.
    """
    outcomes = (yield Tries([call], 0.5))[0]
    for retry in range(limits.retries):
        if not any(o.cause == "infrastructure" for o in outcomes):
            break
        outcomes = (yield Tries([call], 0.5, limits.backoff_seconds * 2**retry))[0]
    unknown = [i for i, o in enumerate(outcomes) if o.status == "errored" and not o.cause]
    if not unknown:
        return outcomes
    own = call.row.get("completion")
    controls = [*CONTROLS, *([own] if isinstance(own, str) else [])]
    tried = yield Tries([*(call.alone(i) for i in unknown), *(call.instead(text) for text in controls)], 1.0)
    alone, of_controls = tried[: len(unknown)], tried[len(unknown) :]
    first, outcomes = outcomes, list(outcomes)
    for i, (outcome,) in zip(unknown, alone, strict=True):
        outcomes[i] = outcome
    evidence = [o for o in [*outcomes, *(o for (o,) in of_controls)] if o.status != "errored"]
    scores = [o.score for o in evidence if o.score is not None]
    for i in unknown:
        if outcomes[i].status == "errored" and not outcomes[i].cause:
            if scores:
                lowest = bounds[0] if bounds else min(0.0, *scores)
                outcomes[i] = replace(first[i], cause="completion", as_wrong=lowest)
            else:
                outcomes[i] = replace(first[i], cause="reward")
    return outcomes
