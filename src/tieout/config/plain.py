"""Plain values, as YAML and JSON hold them: made from objects, fingerprinted, compared."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

_ABSENT = "(absent)"


def to_plain(value: Any) -> Any:
    """Dataclasses, mappings, tuples, sets, enums and paths as dicts, lists and strings, for YAML or JSON.

    TypeError: a value that has no plain form, such as a function.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_plain(item) for item in value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return to_plain(value.tolist())
    raise TypeError(
        f"{value!r} ({type(value).__name__}) is not a plain value and cannot be written to a file"
    )


def usual(value: Any) -> dict[str, Any]:
    """Plain values of a dataclass, and of those inside it, where every option that has a default has that.

    >>> from dataclasses import make_dataclass
    >>> usual(make_dataclass("Options", [("rows", int), ("size", int, 8)])(2, 3))
    {'size': 8}
    """
    found: dict[str, Any] = {}
    for field in fields(value) if is_dataclass(value) else ():
        own = getattr(value, field.name)
        if is_dataclass(own):
            found[field.name] = usual(own)
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if default is not MISSING:
            with suppress(TypeError):  # a function: it has no plain form
                found[field.name] = to_plain(default)
    return found


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain values or config dataclasses: the same on every machine."""
    text = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """`key: old -> new` for every leaf that differs between two plain values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            below = f"{path}.{key}" if path else str(key)
            lines += changes(old.get(key, _ABSENT), new.get(key, _ABSENT), below)
        return lines
    if isinstance(old, list) and isinstance(new, list) and any(isinstance(x, Mapping) for x in [*old, *new]):
        pairs = enumerate(zip_longest(old, new, fillvalue=_ABSENT))
        return [line for i, (a, b) in pairs for line in changes(a, b, f"{path}[{i}]")]
    if old == new and type(old) is type(new):
        return []
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = value if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
