"""Encode values for another process: JSON that keeps Python's types, and nothing that could run code.

None, bool, int, str and finite floats stand for themselves; all else is an object with one key that names the
type: `{"list": [...]}`, `{"tuple": [...]}`, `{"set": [...]}`, `{"dict": [[key, value], ...]}`, `{"bytes": hex}`,
`{"float": "inf"}`.
"""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 64
MAX_DIGITS = 4000
"""Of an int: Python refuses to read more than 4300."""

LISTS: tuple[type, ...] = (list, tuple, set, frozenset)


def encode(value: Any, depth: int = 0) -> Any:
    """The JSON form of a value. TypeError: a type that has none, a subclass of one that has; too deep or long."""
    kind = type(value)  # a subclass may lie about what it is and equals
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        if value.bit_length() > MAX_DIGITS * 3:
            raise TypeError(f"an int of {value.bit_length()} bits")
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind is bytes:
        return {"bytes": value.hex()}
    if depth >= MAX_DEPTH:
        raise TypeError(f"nested deeper than {MAX_DEPTH}")
    if kind is dict:
        return {"dict": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}
    if kind in LISTS:
        name = "set" if kind is frozenset else kind.__name__
        return {name: [encode(item, depth + 1) for item in value]}
    raise TypeError(f"a {kind.__name__}")


def decode(value: Any) -> Any:
    """The value of a JSON form. TypeError, ValueError: it is not one."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("expected an object with one key, the type")
    ((name, content),) = value.items()
    if name == "float" and content in ("inf", "-inf", "nan"):
        return float(content)
    if name == "bytes" and isinstance(content, str):
        return bytes.fromhex(content)
    if not isinstance(content, list):
        raise ValueError(f"no value of type {name!r}")
    if name == "dict":
        return {decode(key): decode(item) for key, item in content}
    items = [decode(item) for item in content]
    if name not in ("list", "tuple", "set"):
        raise ValueError(f"no value of type {name!r}")
    return items if name == "list" else tuple(items) if name == "tuple" else set(items)


def same(given: Any, expected: Any, relative: float = 1e-9) -> bool:
    """Whether two decoded values have the same types and values.

    1 is neither True nor 1.0. Floats may differ by `relative`. A tuple stands for an expected list, as rows that
    come from JSON cannot say tuple; a list does not stand for an expected tuple.
    """
    if isinstance(expected, float):
        near = type(given) is float and math.isclose(given, expected, rel_tol=relative, abs_tol=1e-12)
        return near or (type(given) is float and math.isnan(given) and math.isnan(expected))
    if isinstance(expected, list | tuple):
        kinds: tuple[type, ...] = (tuple,) if isinstance(expected, tuple) else (list, tuple)
        if type(given) not in kinds or len(given) != len(expected):
            return False
        return all(same(g, e, relative) for g, e in zip(given, expected, strict=True))
    if isinstance(expected, dict):
        if type(given) is not dict or len(given) != len(expected):
            return False
        # 1, 1.0 and True are one key to a dict, so keys are compared with their types too.
        kinds_of = {(type(key), key) for key in expected}
        return all((type(k), k) in kinds_of and same(v, expected[k], relative) for k, v in given.items())
    if isinstance(expected, set | frozenset):
        return type(given) is set and {(type(v), v) for v in given} == {(type(v), v) for v in expected}
    return type(given) is type(expected) and bool(given == expected)
