"""References to rewards as plain values that another process can import: no pickle, no code sent."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from typing import Any

from ...config.attribute import FILE_MODULE, imported_digest, load_attribute
from ...errors import InputError
from ...types import Reward
from ..scoring.adapt import from_trl
from ..scoring.outcomes import reward_name

Reference = Mapping[str, Any]
"""`{"spec": "module:function" or "file.py:function", "file": its digest, "options": {...}, "functions": {option:
reference}, "messages": bool}`"""


def refer(reward: Reward) -> Reference:
    """How another process may load the reward.

    A function of a module or of a file, also with options fixed by `functools.partial` (plain values, or functions as
    importable as itself) and adapted by `from_trl`.

    Raises:
        ValueError: it can be loaded nowhere else (a lambda, a closure, an object, a function of a notebook).
    """
    options: dict[str, Any] = {}
    target = reward
    while isinstance(target, functools.partial):
        if target.args:
            raise _not_importable(reward, "it fixes arguments by position; fix them by name")
        options = {**target.keywords, **options}
        target = target.func
    # Decorated where it is defined, it is imported as it is; adapted later, both are needed.
    messages = getattr(target, "__from_trl__", False) and not getattr(_at(target), "__from_trl__", False)
    if messages:
        target = target.__wrapped__  # type: ignore[attr-defined]
    functions = {key: refer(options.pop(key)) for key in list(options) if callable(options[key])}
    try:
        if json.loads(json.dumps(options, allow_nan=False)) != options:
            raise ValueError
    except (TypeError, ValueError):
        raise _not_importable(reward, f"its options are not plain values: {options!r}") from None
    plain = {"spec": _spec(target, reward), "file": imported_digest(target)}
    return {**plain, "options": options, "functions": functions, "messages": messages}


def resolve(reference: Reference) -> Reward:
    """The reward of a reference. InputError: its file is another by now than where the reference was made."""
    reward: Reward = load_attribute(reference["spec"])
    if reference["file"] != imported_digest(reward):
        raise InputError(
            f"{reference['spec'].rpartition(':')[0]} has changed since the run began; restore it"
        )
    if reference["messages"]:
        reward = from_trl(reward)
    functions = {key: resolve(function) for key, function in reference["functions"].items()}
    options = {**reference["options"], **functions}
    return functools.partial(reward, **options) if options else reward


def _spec(target: Reward, reward: Reward) -> str:
    module = sys.modules.get(getattr(target, "__module__", None) or "")
    name = getattr(target, "__qualname__", "")
    if module is None or not name or "<" in name:
        raise _not_importable(reward, "it is not a function at the top of a module")
    if module.__name__ == "__main__":
        raise _not_importable(reward, "it is defined in the program itself, which cannot be run twice")
    found = _at(target)
    # A file that was loaded twice has two functions with equal code; either stands for the other.
    if found is not target and (not (codes := _codes(target)) or codes != _codes(found)):
        raise _not_importable(reward, f"{module.__name__}:{name} is something else")
    in_file = module.__name__.startswith(FILE_MODULE)
    return f"{module.__file__ if in_file else module.__name__}:{name}"


def _at(target: Any) -> Any:
    """What stands in its module under its name; None: nothing."""
    found: Any = sys.modules.get(getattr(target, "__module__", None) or "")
    for step in getattr(target, "__qualname__", "").split("."):
        found = getattr(found, step, None)
    return found


def _codes(function: Any) -> list[Any]:
    """Its code, and that of each function which it wraps."""
    found = []
    while function is not None:
        found += [code] if (code := getattr(function, "__code__", None)) is not None else []
        function = getattr(function, "__wrapped__", None)
    return found


def _not_importable(reward: Reward, reason: str) -> InputError:
    return InputError(
        f"reward {reward_name(reward)!r} cannot run in a worker process: {reason}. Put it into a file of its own "
        "(file.py:function), or run it without workers, inside this process and without a deadline"
    )
