"""Resolve names of earlier versions of TRL and transformers, and names of TRL that are elsewhere: see `older.yaml`."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from ..config.yaml_file import read_yaml
from ..errors import InputError
from .options import INSTEAD, REFUSED, SAME, sections, unsaid

NAMES: dict[str, dict[str, Any]] = read_yaml(Path(__file__).with_name("older.yaml"))
HANDED_ON: dict[str, str] = {n: module for module, names in NAMES["handed_on"].items() for n in names.split()}
"""Name -> the module of TRL that has it."""
ABSENT: dict[str, str] = {name: why for why, names in NAMES["absent"].items() for name in names.split()}
"""Name of TRL that is not here -> what to use instead."""

# ------------------------------------------------------------ options


def renamed(config: str) -> dict[str, str]:
    """Older name of an option -> today's."""
    parts = [NAMES["renamed"].get(section, {}) for section in sections(config)]
    return {old: new for part in parts for old, new in part.items()}


@cache
def gone(config: str) -> dict[str, tuple[str, Any]]:
    """Option that is gone -> what becomes of it, and the value that says no more than leaving it out."""
    found: dict[str, tuple[str, Any]] = {}
    for section in sections(config):
        for what, options in NAMES["gone"].get(section, {}).items():
            for name, _, nothing in (option.partition("=") for option in options.split()):
                found[name] = (what, literal(nothing))
    return found


def older(config: str) -> set[str]:
    """All names of options that a configuration knows, other than its own."""
    return {*renamed(config), *gone(config)}


def translated(config: str, options: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options by today's names, with one warning that says what became of the older ones.

    TypeError: an option that never was, or two names of one. InputError: one that is gone, and did change numbers.
    """
    new_names, past = renamed(config), gone(config)
    said: list[str] = []
    options = _one_warmup(options, said)
    result: dict[str, Any] = {}
    refused: list[str] = []
    for option, value in options.items():
        if option not in known and option in past:
            what = _became(option, value, options, *past[option])
            (refused if what.startswith(REFUSED) else said).append(what.removeprefix(REFUSED))
            continue
        new = option if option in known else new_names.get(option)
        if new is None:
            raise TypeError(f"{config} has no option {option!r}{near(option, [*known, *new_names])}")
        if new != option:
            said.append(f"{option} (now {new})")
        if new in result or (new != option and new in options):
            raise TypeError(f"{config}: {option!r} is the older name of {new!r}; give one of the two")
        result[new] = value
    if refused:
        raise InputError(f"{config} asks for what is not done here:\n" + "\n".join(refused))
    if said:
        text = f"{config}: older names are still taken: {'; '.join(said)}"
        warnings.warn(text, FutureWarning, stacklevel=3)
    return result


def _became(option: str, value: Any, options: Mapping[str, Any], what: str, nothing: Any) -> str:
    same_as_policy = option == "ref_model_init_kwargs" and value == options.get("model_init_kwargs")
    if what.startswith(SAME):
        return f"{option} (gone: {what.removeprefix(SAME)})"
    if value is None or unsaid(value, nothing) or same_as_policy:
        return f"{option} (gone)"
    if what.startswith(INSTEAD):
        return f"{option}={value!r} (gone; instead: {what.removeprefix(INSTEAD)})"
    return f"{REFUSED}  {option}={value!r}: {what.removeprefix(REFUSED)}"


def _one_warmup(options: Mapping[str, Any], said: list[str]) -> dict[str, Any]:
    """Apply transformers' rule: the steps count if there are any, else the share."""
    share = options.get("warmup_ratio")
    left_out = "warmup_ratio" if share is None or options.get("warmup_steps") else "warmup_steps"
    if share is not None and left_out == "warmup_ratio":
        said.append("warmup_ratio (gone: warmup_steps says it)")
    both = "warmup_ratio" in options
    return {name: value for name, value in options.items() if not both or name != left_out}


def literal(text: str) -> Any:
    """A value of Python, also for `true` and `false`; other text as it is, and None for none.

    >>> [literal(text) for text in ("False", "true", "-100", "auto", "")]
    [False, True, -100, 'auto', None]
    """
    try:
        return ast.literal_eval({"true": "True", "false": "False", "": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def near(name: str, names: Iterable[str]) -> str:
    """A hint at the nearest name, if one is near."""
    found = get_close_matches(name, [*names], n=1, cutoff=0.8)
    return f"; did you mean {found[0]!r}?" if found else ""


# ------------------------------------------------------------ arguments and classes


def todays(trainer: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A trainer's arguments by today's names, with a warning for each older one."""
    names: dict[str, str] = NAMES["arguments"]["Trainer"] | NAMES["arguments"].get(trainer, {})
    found = dict(arguments)
    for old in [name for name in names if name in found]:
        found[names[old]] = found.pop(old)
        warnings.warn(f"{old} is the older name of {names[old]}", FutureWarning, stacklevel=4)
    return found


def older_class(name: str, today: type) -> type:
    """A class by its older name, whose constructor says today's."""

    def __init__(self: Any, *given: Any, **options: Any) -> None:
        warnings.warn(f"{name} is the older name of {today.__name__}", FutureWarning, stacklevel=2)
        today.__init__(self, *given, **options)  # type: ignore[misc]

    own = {"__init__": __init__, "__doc__": today.__doc__, "__module__": today.__module__}
    return type(name, (today,), own)


# ------------------------------------------------------------ names of TRL


def handed_on(name: str) -> Any:
    """TRL's own function or class. ImportError: TRL is not installed.

    Functions keep the row that they are given as it is, and take `tokenizer` for `processing_class`.
    """
    try:
        found = getattr(importlib.import_module(HANDED_ON[name]), name)
    except ImportError as error:
        raise ImportError(f"{name} is TRL's own, and TRL is missing ({error}): pip install trl") from error
    return found if isinstance(found, type) else _tolerant(found)


def _tolerant(function: Callable[..., Any]) -> Callable[..., Any]:
    takes_class = "processing_class" in inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*given: Any, **options: Any) -> Any:
        if takes_class and "tokenizer" in options:
            options["processing_class"] = options.pop("tokenizer")
        return function(*(deepcopy(x) if type(x) is dict else x for x in given), **options)

    return call


def why_not(name: str, here: Iterable[str]) -> str:
    """Why tieout.trl does not have a name."""
    if name in ABSENT:
        return f"tieout.trl has no {name!r}: {ABSENT[name]}"
    return f"module 'tieout.trl' has no attribute {name!r}{near(name, here)}"
