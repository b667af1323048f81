"""One call of a reward, and the outcome of each completion: scored, abstained or errored. An error is no number."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from numbers import Real
from typing import Any, Literal, TypeVar

from ...errors import InputError, TieoutError
from ...types import Messages, Reward, Row
from .adapt import as_messages, reads_messages
from .call import Call
from .redaction import redacted

Cause = Literal["", "infrastructure", "reward", "completion"]
"""Of an error: a service was down; the reward gave no score, or fails on this row whatever the completion; this
completion made it crash or hang."""

F = TypeVar("F", bound=Callable[..., Any])


class RewardError(TieoutError, RuntimeError):
    """A combined reward was called as a function, and one of its parts failed."""


class RewardUnavailable(TieoutError, RuntimeError):
    """Raise it in a reward when what it needs (a judge, a server) failed: the call is repeated, never scored."""


class WorkerLost(TieoutError, RuntimeError):
    """A worker that made several calls at the same time is gone: nothing is known of any of them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one completion."""

    status: Literal["scored", "abstained", "errored"]
    score: float | None = None
    """A finite number if scored, else None."""
    reason: str = ""
    """If errored: what happened."""
    cause: Cause = ""
    """If errored: whose fault it is; empty while that is not known."""
    as_wrong: float | None = None
    """If the completion itself made the reward fail: what a wrong answer gets."""
    parts: Mapping[str, float | None] = field(default_factory=dict)
    """Of a combined reward: the score of each part; None where it abstained or errored."""

    @property
    def worth(self) -> float | None:
        """What counts in training and evaluation; None: the completion leaves its group.

        The score; and where the completion itself made the reward fail, what a wrong answer gets: otherwise
        crashing the verifier would be a way out of hard prompts.
        """
        return self.score if self.status == "scored" else self.as_wrong


ABSTAINED = Outcome("abstained")


def ranged(low: float, high: float, *, form: bool = False) -> Callable[[F], F]:
    """Declare that a reward's scores lie in [low, high]: one outside is an error, and a wrong answer gets `low`.

    `form`: it judges the form only, so any well-formed completion is as good as gold.

    >>> @ranged(-1, 1)
    ... def signed(completions, **_):
    ...     return [1.0 if c else -1.0 for c in completions]
    >>> reward_range(signed)
    (-1.0, 1.0)
    """
    if not (isfinite(low) and isfinite(high) and low < high):
        raise InputError(f"range {low} to {high}; expected two finite numbers, the lower one first")

    def declare(reward: F) -> F:
        reward.__reward_range__ = (float(low), float(high))  # type: ignore[attr-defined]
        reward.__judges_form__ = form  # type: ignore[attr-defined]
        return reward

    return declare


def reward_range(reward: Reward) -> tuple[float, float] | None:
    """The declared range of a reward's scores; None if it declares none."""
    found: tuple[float, float] | None = getattr(_bare(reward), "__reward_range__", None)
    return found


def judges_form(reward: Reward) -> bool:
    """Whether a reward says of itself that it judges the form only."""
    return bool(getattr(_bare(reward), "__judges_form__", False))


def is_judge(reward: Reward) -> bool:
    """Whether a model with a rubric decides the score: its attribute `is_judge`."""
    return bool(getattr(_bare(reward), "is_judge", False))


def reward_name(reward: Reward) -> str:
    """Its name in messages: the function's, or the class's."""
    bare = _bare(reward)
    return getattr(bare, "__name__", type(bare).__name__)


def _bare(reward: Reward) -> Reward:
    """Without the options that `functools.partial` fixes."""
    while isinstance(reward, functools.partial):
        reward = reward.func
    return reward


def parameters(reward: Reward) -> list[inspect.Parameter]:
    """The function's parameters. InputError: they cannot be read."""
    try:
        return list(inspect.signature(reward).parameters.values())
    except (TypeError, ValueError) as error:
        raise InputError(
            f"cannot read which columns reward {reward_name(reward)!r} asks for ({error}); "
            "wrap it: def reward(completions, **columns): ..."
        ) from error


def asks_for(reward: Reward, name: str) -> bool:
    """Whether the function names a parameter, such as `completion_ids` or `completion_turns`."""
    return any(p.name == name for p in parameters(reward))


def call_columns(row: Row, num_completions: int) -> dict[str, list[Any]]:
    """Every column of the row except the prompt, for each completion: TRL's way.

    Each has lists and dicts of its own: what a reward changes in them, no other completion, part or epoch sees.
    """
    columns = {name: value for name, value in row.items() if name != "prompt"}
    return {name: [_copy(value) for _ in range(num_completions)] for name, value in columns.items()}


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copy(inner) for key, inner in value.items()}
    if type(value) is Messages:
        return Messages(map(_copy, value), value.told)
    return [_copy(inner) for inner in value] if type(value) is list else value


def attempt(reward: Reward, call: Call) -> list[Outcome]:
    """[K] outcomes of one call; never raises for what the reward does.

    A call that raises, or returns other than K values, makes all K errored; a value that is NaN, infinite, not a
    number or outside the declared range, that one. None abstains. True and False are 1 and 0, as in TRL; NumPy
    scalars and tensors of one element are numbers.
    """
    process = os.getpid()
    try:
        returned = reward(**_arguments(reward, call))
        _end_child(process)
        if inspect.isawaitable(returned):
            returned = _wait_for(returned)
        return _judged(reward, returned, len(call.completions))
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        _end_child(process)
        return _failed(reward, error, len(call.completions))


def _end_child(process: int) -> None:
    """End a process that the reward forked and returned in: it would answer, or train, a second time."""
    if os.getpid() != process:
        os._exit(1)


async def attempt_async(reward: Reward, call: Call, seconds: float) -> list[Outcome]:
    """The same for an `async def`, given up after so many seconds."""
    try:
        async with asyncio.timeout(seconds) as limit:
            returned = await reward(**_arguments(reward, call))
        return _judged(reward, returned, len(call.completions))
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise  # the reward did not give up: this program is being ended
        if limit.expired():
            return [late(reward, seconds)] * len(call.completions)
        return _failed(reward, error, len(call.completions))


def late(reward: Reward, seconds: float) -> Outcome:
    """The outcome of completions whose call took too long."""
    return errored(f"reward {reward_name(reward)!r} gave nothing within {seconds:.3g} seconds")


def errored(reason: str, cause: Cause = "") -> Outcome:
    """An outcome without a score."""
    return Outcome("errored", None, reason, cause)


# --- errors -------------------------------------------------------------------------------------------------

TRANSIENT = {
    getattr(errno, name)
    for name in ("EAGAIN", "EBUSY", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ENOSPC")
}
"""Of plain OSErrors, these say that the machine is in trouble; others may come from what a completion says."""
_AS_MESSAGES = re.compile(
    r"string indices must be integers|string index out of range|'str' object has no attribute '(?:get|content|role)'"
)
"""What Python says where a text is read as a list of messages."""
NETWORK = {"aiohttp", "http", "httpcore", "httpx", "openai", "requests", "socket", "ssl", "urllib", "urllib3"}
"""Packages whose exceptions are about a connection or a server."""


def is_infrastructure(error: BaseException) -> bool:
    """Whether an exception comes from the infrastructure (server, network, machine), not from a completion."""
    if isinstance(error, RewardUnavailable | ConnectionError | TimeoutError | asyncio.CancelledError):
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT:
        return True
    # A ValueError is about a value, also where a network package raises it: for a bad URL, or no JSON.
    own = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(own & NETWORK) and not isinstance(error, ValueError)


def _failed(reward: Reward, error: BaseException, count: int) -> list[Outcome]:
    reason = f"reward {reward_name(reward)!r} raised {type(error).__name__}: {_text(error)}"
    if isinstance(error, TypeError | AttributeError | IndexError) and _AS_MESSAGES.search(reason):
        reason += (
            ". Here completions are texts; of a reward that reads TRL's lists of messages give "
            "tieout.rewards.scoring.adapt.from_trl(function)"
        )
    return [errored(reason, "infrastructure" if is_infrastructure(error) else "")] * count


def _text(error: BaseException) -> str:
    try:
        return redacted(str(error))[:500]
    except Exception:
        return "?"


# --- values -------------------------------------------------------------------------------------------------


def _arguments(reward: Reward, call: Call) -> dict[str, Any]:
    """What the function takes: every column if it has **kwargs, else those that it names."""
    columns = call_columns(call.row, len(call.completions))
    columns.update(completions=call.texts, prompts=[_copy(prompt) for prompt in call.prompts])
    if reads_messages(_bare(reward)):
        columns = as_messages(columns)
    taken = parameters(reward)
    columns.update(tokens_and_turns(reward, call))
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return columns
    return {p.name: columns[p.name] for p in taken if p.name in columns}


def tokens_and_turns(reward: Reward, call: Call) -> dict[str, Any]:
    """`completion_ids` and `completion_turns`, where the function names them."""
    found: dict[str, Any] = {}
    if asks_for(reward, "completion_ids") and (ids := call.completion_ids) is not None:
        found["completion_ids"] = ids
    if asks_for(reward, "completion_turns"):
        found["completion_turns"] = _copy(call.completion_turns)
    return found


def _judged(reward: Reward, returned: Any, count: int) -> list[Outcome]:
    name, values = reward_name(reward), _as_list(returned)
    if values is None:
        reason = f"reward {name!r} returned {_shown(returned)}; expected a list of {count} numbers"
        return [errored(reason, "reward")] * count
    if len(values) != count:
        reason = f"reward {name!r} returned {len(values)} values for {count} completions; expected one each"
        return [errored(reason, "reward")] * count
    return [_outcome(name, value, reward_range(reward)) for value in values]


def _wait_for(awaitable: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await awaitable

    return run_loop(wait)


def run_loop(function: Callable[[], Any]) -> Any:
    """`asyncio.run(function())`, also where a loop runs already (a notebook): then in another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(function())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(function())).result()


def _as_list(returned: Any) -> list[Any] | None:
    """The values of a list, tuple, array or tensor of one dimension; None for anything else."""
    if isinstance(returned, list | tuple):
        return list(returned)
    if getattr(returned, "ndim", None) == 1 and hasattr(returned, "tolist"):
        return list(returned.tolist())
    return None


def _outcome(name: str, value: Any, bounds: tuple[float, float] | None) -> Outcome:
    if value is None:
        return ABSTAINED
    if isinstance(value, Outcome):  # a judge knows which of its calls failed, and why
        if value.status != "scored":
            return value
        value = value.score
    number = value
    if getattr(value, "shape", None) is not None and hasattr(value, "item"):
        with contextlib.suppress(RuntimeError, ValueError):  # more than one element: no number
            number = value.item()
    if not isinstance(number, Real | Decimal):
        return errored(f"reward {name!r} returned {_shown(value)}; expected a number or None", "reward")
    try:
        number = float(number)
    except (OverflowError, ValueError):
        return errored(f"reward {name!r} returned {_shown(value)}, which is no finite number", "reward")
    if not isfinite(number):
        return errored(f"reward {name!r} returned {number}; expected a finite number or None", "reward")
    if bounds and not bounds[0] <= number <= bounds[1]:
        wrong = f"returned {number}; its range is {bounds[0]:g} to {bounds[1]:g}"
        return errored(f"reward {name!r} {wrong}", "reward")
    return Outcome("scored", number)


def _shown(value: Any) -> str:
    """A value in a message: its type, and as much of it as fits."""
    try:
        text = repr(value)
    except Exception:
        text = "?"
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
