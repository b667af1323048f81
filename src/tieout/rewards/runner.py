"""Calls a reward, and makes every completion end scored, abstained or errored. An error is never a number."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from numbers import Real
from typing import Any, Literal

from ..types import Prompt, Row
from . import Reward

GIVEN = ("completions", "prompts")
"""What every reward may ask for besides the columns of the row."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reward said of one completion."""

    status: Literal["scored", "abstained", "errored"]
    score: float | None = None
    """A finite number if scored, else None."""
    reason: str = ""
    """If errored: what happened."""


ABSTAINED = Outcome("abstained")


def score(reward: Reward, completions: Sequence[str], prompts: Sequence[Prompt], row: Row) -> list[Outcome]:
    """[K] outcomes for K completions of one row; never raises for what the reward does.

    A call that raises, or returns other than K values, makes all K errored; a value that is NaN, infinite or
    not a number, that one. None abstains. True and False are 1 and 0, as in TRL; NumPy scalars and tensors
    of one element are numbers.
    """
    # This call is the one place to put a worker process and a deadline around.
    name = reward_name(reward)
    if len(prompts) != len(completions):
        raise ValueError(
            f"{len(completions)} completions, but {len(prompts)} prompts: expected one prompt each"
        )
    columns = call_columns(row, len(completions))
    columns.update(completions=list(completions), prompts=list(prompts))
    try:
        returned = reward(**_accepted(reward, columns))
        if inspect.isawaitable(returned):
            returned = _wait_for(returned)
        values = _as_list(returned)
    except (Exception, asyncio.CancelledError) as error:
        return [_errored(f"reward {name!r} raised {type(error).__name__}: {error}")] * len(completions)
    if values is None:
        reason = f"reward {name!r} returned {_shown(returned)}; expected a list of {len(completions)} numbers"
        return [_errored(reason)] * len(completions)
    if len(values) != len(completions):
        reason = f"reward {name!r} returned {len(values)} values for {len(completions)} completions"
        return [_errored(reason)] * len(completions)
    return [_outcome(name, value) for value in values]


def check_reward(reward: Reward, columns: Iterable[str]) -> None:
    """Refuse, before any work, a reward that asks for a column that the rows do not have."""
    name, columns = reward_name(reward), list(columns)
    for column in columns:
        if column in GIVEN:
            raise ValueError(f"rows have a column {column!r}, which clashes with what rewards get; rename it")
    for parameter in _parameters(reward):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(f"reward {name!r} takes {parameter.name!r} by position only; columns go by name")
        wanted = parameter.default is parameter.empty and parameter.name not in GIVEN
        if wanted and parameter.name == "prompt":
            raise ValueError(f"reward {name!r} asks for 'prompt'; it is given as `prompts`, one a completion")
        if wanted and parameter.name not in columns:
            shown = ", ".join(c for c in columns if c != "prompt") or "no columns"
            raise ValueError(f"reward {name!r} needs column {parameter.name!r}; rows have: {shown}")


def call_columns(row: Row, num_completions: int) -> dict[str, list[Any]]:
    """Every column of the row except the prompt, repeated for each completion: TRL's way."""
    return {name: [value] * num_completions for name, value in row.items() if name != "prompt"}


def from_trl(function: Reward) -> Reward:
    """Adapt a reward written for conversations: each completion a list of messages, each prompt too."""

    @functools.wraps(function)  # keeps the signature, by which check_reward judges
    def adapted(completions: Sequence[str], **columns: Any) -> Any:
        if "prompts" in columns:
            columns["prompts"] = [
                [{"role": "user", "content": p}] if isinstance(p, str) else p for p in columns["prompts"]
            ]
        messages = [[{"role": "assistant", "content": text}] for text in completions]
        return function(completions=messages, **columns)

    return adapted


def reward_name(reward: Reward) -> str:
    """What messages call it: the function's name, or the class's."""
    while isinstance(reward, functools.partial):
        reward = reward.func
    return getattr(reward, "__name__", type(reward).__name__)


def _accepted(reward: Reward, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that the function takes: all if it has **kwargs, else those that it names."""
    parameters = _parameters(reward)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(columns)
    return {p.name: columns[p.name] for p in parameters if p.name in columns}


def _parameters(reward: Reward) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(reward).parameters.values())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"cannot read which columns reward {reward_name(reward)!r} asks for ({error}); "
            "wrap it: def reward(completions, **columns): ..."
        ) from error


def _wait_for(awaitable: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    # A loop runs already (a notebook): asyncio.run refuses to nest, so wait in another thread.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()


def _as_list(returned: Any) -> list[Any] | None:
    """The values of a list, tuple, array or tensor of one dimension; None for anything else."""
    if isinstance(returned, list | tuple):
        return list(returned)
    if getattr(returned, "ndim", None) == 1 and hasattr(returned, "tolist"):
        return list(returned.tolist())
    return None


def _outcome(name: str, value: Any) -> Outcome:
    if value is None:
        return ABSTAINED
    number = value
    if getattr(value, "shape", None) is not None and hasattr(value, "item"):
        with contextlib.suppress(RuntimeError, ValueError):  # more than one element: no number
            number = value.item()
    if not isinstance(number, Real | Decimal):
        return _errored(f"reward {name!r} returned {_shown(value)}; expected a number or None")
    try:
        number = float(number)
    except (OverflowError, ValueError):
        return _errored(f"reward {name!r} returned {_shown(value)}, which is no finite number")
    if not isfinite(number):
        return _errored(f"reward {name!r} returned {number}; expected a finite number or None")
    return Outcome("scored", number)


def _errored(reason: str) -> Outcome:
    return Outcome("errored", None, reason)


def _shown(value: Any) -> str:
    """A value in a message: its type, and as much of it as fits."""
    try:
        text = repr(value)
    except Exception:
        text = "?"
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
