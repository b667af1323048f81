"""Call rewards, so that every completion ends scored, abstained or errored. An error is never a number.

Here rewards run inside this process; give `Workers` to run them in others, under a deadline that kills.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from ...errors import InputError
from ...types import Prompt, Reward, Row
from .attribution import CONTROLS, Attribution, Limits, attribute
from .call import Call, Encode
from .combine import Combined, combine
from .outcomes import (
    Outcome,
    RewardUnavailable,
    WorkerLost,
    attempt,
    call_columns,
    parameters,
    ranged,
    reward_name,
    reward_range,
)
from .together import score_together

__all__ = [
    "Call",
    "Combined",
    "Encode",
    "Limits",
    "Outcome",
    "RewardUnavailable",
    "call_columns",
    "check_call",
    "check_reward",
    "combine",
    "ranged",
    "reward_name",
    "reward_range",
    "score",
    "score_groups",
]

GIVEN = ("completions", "prompts", "completion_ids", "completion_turns")
"""Names that every reward may ask for in addition to the columns of the row."""


class RewardCaller(Protocol):
    """Calls rewards somewhere else, under a deadline: `processes.workers.Workers`."""

    @property
    def limits(self) -> Limits:
        """How long a reward may take, and how often it is asked again."""

    def run(self, reward: Reward, calls: Sequence[Call]) -> list[list[Outcome]]:
        """[call][K] outcomes."""

    def imports(self, reward: Reward) -> bool:
        """Whether the reward can be called there."""

    def together(self, reward: Reward, calls: Sequence[Call], limits: Limits) -> list[list[Outcome]]:
        """[call][K] outcomes of calls of an `async def`, at the same time. WorkerLost: one of them blocked, or ended
        its process."""


def score(
    reward: Reward,
    completions: Sequence[str],
    prompts: Sequence[Prompt],
    row: Row,
    workers: RewardCaller | None = None,
    encode: Encode | None = None,
) -> list[Outcome]:
    """[K] outcomes for K texts of one row; never raises for what the reward does."""
    return score_groups(reward, [Call.of_texts(completions, prompts, row, encode)], workers)[0]


def score_groups(
    reward: Reward, calls: Sequence[Call], workers: RewardCaller | None = None, limits: Limits | None = None
) -> list[list[Outcome]]:
    """[call][K] outcomes of many groups, at the same time where that is possible.

    A group is one call of the reward, repeated where a service failed, and taken apart where it raised, hung or gave
    no number, to find out why: see `attribution`. With workers, rewards run there. An `async def` waits for all groups
    at once, in one of them; one that they cannot import does so in this process, where nothing stops it if it blocks.
    Without workers, others run one after the other in this process; a reward with a method `ahead` is shown all calls
    first, to ask a service about them at the same time.
    """
    if isinstance(reward, Combined):
        said = {name: score_groups(part, calls, workers, limits) for name, part in reward.parts.items()}
        return [
            [reward.merge({name: said[name][i][k] for name in said}) for k in range(len(call.completions))]
            for i, call in enumerate(calls)
        ]
    limits = limits or (workers.limits if workers else Limits())
    if inspect.iscoroutinefunction(reward):
        if workers is None or not workers.imports(reward):
            return score_together(reward, calls, limits)
        try:
            return workers.together(reward, calls, limits)
        except WorkerLost:  # call by call, to find out which one it was
            return workers.run(reward, calls)
    if workers is not None:
        return workers.run(reward, calls)
    if (ahead := getattr(reward, "ahead", None)) is not None:
        ahead(calls)
    return [_in_turn(reward, attribute(call, limits, reward_range(reward))) for call in calls]


def _in_turn(reward: Reward, attribution: Attribution) -> list[Outcome]:
    try:
        tries = next(attribution)
        while True:
            if tries.wait_seconds:
                time.sleep(tries.wait_seconds)
            tries = attribution.send([attempt(reward, call) for call in tries.calls])
    except StopIteration as stop:
        outcomes: list[Outcome] = stop.value
        return outcomes


# --- before the first step ----------------------------------------------------------------------------------


def check_reward(reward: Reward, columns: Iterable[str], *, tokens: bool = True) -> None:
    """Refuse, before any work, a reward that asks for a column that the rows do not have.

    `tokens`: completions have tokens, so that it may ask for `completion_ids`.
    """
    name, columns = reward_name(reward), list(columns)
    for column in columns:
        if column in GIVEN:
            raise InputError(f"rows have a column {column!r}, which clashes with what rewards get; rename it")
    if isinstance(reward, Combined):
        for part in reward.parts.values():
            check_reward(part, columns, tokens=tokens)
        return
    for parameter in parameters(reward):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InputError(f"reward {name!r} takes {parameter.name!r} by position only; columns go by name")
        required = parameter.default is parameter.empty
        if required and parameter.name == "completion_ids" and not tokens:
            raise InputError(
                f"reward {name!r} asks for tokens ('completion_ids'), and here completions are texts; give the "
                "parameter a default for texts (completion_ids=None)"
            )
        wanted = required and parameter.name not in GIVEN
        if wanted and parameter.name == "prompt":
            raise InputError(
                f"reward {name!r} asks for 'prompt'; it is given as `prompts`, one per completion"
            )
        if wanted and parameter.name not in columns:
            shown = ", ".join(c for c in columns if c != "prompt") or "no columns"
            raise InputError(f"reward {name!r} needs column {parameter.name!r}; rows have: {shown}")


def check_call(
    reward: Reward,
    rows: Sequence[Row],
    workers: RewardCaller | None = None,
    num_rows: int = 2,
    encode: Encode | None = None,
) -> None:
    """Refuse, before any work, a reward that fails whatever it is given: it raises, hangs, gives the wrong length,
    no numbers, or numbers outside its range. The first rows are tried, with harmless completions.

    A service that is down is refused too: a run that cannot score should not start.
    """
    for number, row in enumerate(rows[:num_rows], 1):
        own = row.get("completion")
        texts = [*CONTROLS, *([own] if isinstance(own, str) else [])]
        outcomes = score(reward, texts, [row.get("prompt", "")] * len(texts), row, workers, encode)
        if all(o.status == "errored" for o in outcomes):
            columns = ", ".join(name for name in row if name != "prompt") or "no columns"
            raise InputError(
                f"{outcomes[0].reason}. This is row {number}, with harmless completions; rows have: {columns}"
            )
