"""Plain values (YAML, JSON, the command line) to frozen dataclasses and back. The dataclass is the schema."""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ..errors import InputError
from . import elsewhere
from .docs import field_docs
from .plain import to_plain

__all__ = ["ConfigError", "field_docs", "from_plain", "nearest", "to_plain"]

T = TypeVar("T")

EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
"""Numbers that YAML 1.1 readers hand over as text, such as 1e-4."""


class ConfigError(InputError):
    """A value that does not fit its field; the message says where, what was given and what is expected."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if no known name is close; for a name of TRL's, ours."""
    known = list(known)
    if said := elsewhere.hint(name, known):
        return f"{said}."
    found = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def from_plain(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls`, and the dataclasses inside it, from plain values.

    where: what to name in errors, such as `recipe.yaml`.
    Numbers stay numbers and text stays text: only whole numbers for float fields, and text such as "1e-4"
    (which YAML reads as text), are converted; lists become tuples where the field says so.
    ConfigError: an unknown or missing key, a value of the wrong type, or one that the dataclass refuses.
    """
    result: T = _dataclass(cls, values, where, "")
    return result


def checked_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Named arguments as the function annotates them; those that it does not annotate, as they are.

    ConfigError: one is of another type.
    """
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # names that only a type checker imports; no plain function
        hints = {}
    return {
        name: _value(hints[name], value, where, name) if name in hints else value
        for name, value in values.items()
    }


def _dataclass(cls: Any, values: Any, where: str, path: str) -> Any:
    if isinstance(values, cls):
        return values
    place = f" in {path!r}" if path else ""
    known = {field.name: field for field in fields(cls) if field.init}
    if not isinstance(values, Mapping):
        raise _wrong(where, path or cls.__name__, values, f"keys and values ({', '.join(known)})")
    for key in values:
        if key not in known:
            hint = nearest(str(key), known)
            raise ConfigError(
                f"{where}: unknown key {str(key)!r}{place}{hint or ';'} known: {', '.join(known)}"
            )
    missing = [name for name, field in known.items() if name not in values and _required(field)]
    if missing:
        names, listed = ", ".join(map(repr, missing)), ", ".join(values) or "nothing"
        raise ConfigError(f"{where}: missing {names}{place}; given: {listed}")
    hints = get_type_hints(cls)
    given = {
        name: _value(hints[name], value, where, f"{path}.{name}" if path else name)
        for name, value in values.items()
    }
    try:
        return cls(**given)
    except ConfigError:
        raise
    except ValueError as error:  # from __post_init__
        raise ConfigError(f"{where}: {f'{path}: ' if path else ''}{error}") from error


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _has_dataclass(annotation: Any) -> bool:
    """Whether a dataclass stands anywhere in a type: those are built here, where keys are known."""
    if is_dataclass(annotation):
        return True
    return any(_has_dataclass(argument) for argument in get_args(annotation))


def _value(annotation: Any, value: Any, where: str, path: str) -> Any:
    if annotation is Any:
        return value
    if not _has_dataclass(annotation):
        return _leaf(annotation, value, where, path)
    if is_dataclass(annotation):
        return _dataclass(annotation, value, where, path)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union(annotation, value, where, path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, path, value, "keys and values")
        return {key: _value(arguments[1], item, where, f"{path}.{key}") for key, item in value.items()}
    if not isinstance(value, list | tuple):
        raise _wrong(where, path, value, "a list")
    if origin is tuple and arguments[-1] is not Ellipsis:
        raise TypeError(f"{path}: {annotation} is not supported in configs; use tuple[X, ...]")
    items = [_value(arguments[0], item, where, f"{path}[{i}]") for i, item in enumerate(value)]
    return tuple(items) if origin is tuple else items


def _union(annotation: Any, value: Any, where: str, path: str) -> Any:
    """A union that holds a dataclass: keys and values are for that dataclass, all else for the rest."""
    members = get_args(annotation)
    classes = [member for member in members if is_dataclass(member)]
    if isinstance(value, tuple(c for c in classes if isinstance(c, type))):
        return value
    if len(classes) == 1 and isinstance(value, Mapping):
        return _dataclass(classes[0], value, where, path)
    others = [member for member in members if member not in classes]
    for member in others:
        try:
            return _value(member, value, where, path)
        except ConfigError:
            continue
    raise _wrong(where, path, value, _describe(annotation))


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
    except PydanticUserError:
        return TypeAdapter(annotation)


def _leaf(annotation: Any, value: Any, where: str, path: str) -> Any:
    """Strict validation as JSON: text is never a number, a bool never an int, but a list may be a tuple."""
    if isinstance(value, str) and EXPONENT.fullmatch(value) and _wants_float(annotation):
        value = float(value)
    adapter = _adapter(annotation)
    try:
        try:
            text = json.dumps(value, default=_as_text)
        except TypeError:  # not a plain value, such as a function given by Python code
            return adapter.validate_python(value, strict=True)
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
    # Locations inside unions name the member that was tried, which is not a place in the user's file.
    if get_origin(annotation) in (Union, types.UnionType) or not first["loc"]:
        raise _wrong(where, path, value, _describe(annotation))
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    raise _wrong(where, path + inside, first["input"], first["msg"].removeprefix("Input should be "))


def _as_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, enum.Enum):
        return str(value.value)
    raise TypeError(type(value).__name__)


def _wants_float(annotation: Any) -> bool:
    arguments = get_args(annotation)
    return annotation is float or (float in arguments and str not in arguments)


def _wrong(where: str, path: str, value: Any, expected: str) -> ConfigError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    hint = ""
    if isinstance(value, str) and expected.startswith("one of "):
        hint = nearest(value, re.findall(r"'([^']*)'", expected))
    if expected == "bool" and isinstance(value, str):
        hint = "; write true or false"
    return ConfigError(f"{where}: {path!r} is {shown} ({type(value).__name__}); expected {expected}{hint}")


def _describe(annotation: Any) -> str:
    """A type as a person would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    if annotation is type(None):
        return "null"
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(repr(member.value) for member in annotation)
    if origin is not None:
        return str(annotation).replace("typing.", "").replace("collections.abc.", "")
    return getattr(annotation, "__name__", str(annotation))
