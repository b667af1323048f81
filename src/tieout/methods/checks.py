"""Checks of a method's settings, made when it is constructed."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..config.method_table import EVERY, TABLE
from ..errors import InputError


def check_choices(method: Any) -> None:
    """ValueError: a field that is one of a few names has another."""
    for name, hint in get_type_hints(type(method)).items():
        if get_origin(hint) is Literal and getattr(method, name) not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise InputError(f"{name} is {getattr(method, name)!r}; it must be one of {choices}")


def at_least(limit: float, method: Any, *names: str) -> None:
    """ValueError: one of these fields is smaller than the limit."""
    for name in names:
        if not getattr(method, name) >= limit:  # NaN is not
            raise InputError(f"{name} is {getattr(method, name)}; it must be at least {limit}")


def check_ranges(method: Any, name: str) -> None:
    """InputError: a field is outside the range that the table of methods has for the method of this name."""
    for field, values in TABLE[name].own.items():
        values.check(field, getattr(method, field))


def check_rollouts(method: Any, group_size: int = 1) -> None:
    """ValueError: rollouts cannot be sampled so, or their groups are smaller than the method needs."""
    for name in ("max_new_tokens", "temperature"):
        EVERY[name].check(name, getattr(method, name))
    if method.group_size < group_size:
        few = "at least 2 completions to compare" if group_size > 1 else "at least 1 completion"
        raise InputError(f"group_size is {method.group_size}; a group needs {few}")
