"""Encode values for another process: JSON that keeps Python's types, and nothing that could run code.

None, bool, int, str and finite floats stand for themselves; all else is an object with one key that names the
type: `{"list": [...]}`, `{"tuple": [...]}`, `{"set": [...]}`, `{"frozenset": [...]}`, `{"dict": [[key, value], ...]}`,
`{"bytes": hex}`, `{"float": "inf"}`, `{"decimal": "0.5"}`, `{"fraction": [1, 2]}`.
"""

from __future__ import annotations

import math
import re
from collections import UserList, UserString
from collections.abc import Callable, Mapping, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 64
MAX_DIGITS = 4000
"""Of an int: Python refuses to read more than 4300."""

LISTS: tuple[type, ...] = (list, tuple, set, frozenset)
_DECIMAL = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:E[+-]?[0-9]{1,3})?", re.ASCII)


def plain(value: Any, depth: int = 0) -> Any:
    """The plain value that `==` calls equal to this one; itself, where there is none.

    An object of a subclass is what its base class holds, whatever it says of itself: a Counter a dict, a named tuple
    a tuple, a member of an IntEnum an int. Mappings and sets of other kinds are dicts and sets, and what numpy and
    pandas hold in one dimension or more are lists of plain values.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes) or depth >= MAX_DEPTH:
        return value
    for base, read in _PLAIN.items():
        if issubclass(kind, base):
            return read(value)
    if kind.__module__.partition(".")[0] in ("numpy", "pandas") and hasattr(kind, "tolist"):
        return plain(value.tolist(), depth + 1)
    if isinstance(value, UserString):
        return str(value)
    if issubclass(kind, dict) or isinstance(value, Mapping):
        items = dict.items(value) if issubclass(kind, dict) else value.items()
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in items}
    for base in LISTS:
        if issubclass(kind, base):
            return base(plain(item, depth + 1) for item in base.__iter__(value))  # type: ignore[attr-defined]
    if isinstance(value, Set | UserList):
        return (list if isinstance(value, UserList) else set)(plain(item, depth + 1) for item in value)
    return value


_PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytes(memoryview(value)),
    Decimal: lambda value: Decimal(Decimal.__str__(value)),
    Fraction: lambda value: Fraction(value._numerator, value._denominator),
}


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
    if kind is Decimal and _DECIMAL.fullmatch(str(value)):
        return {"decimal": str(value)}
    if kind is Fraction:
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    if depth >= MAX_DEPTH:
        raise TypeError(f"nested deeper than {MAX_DEPTH}")
    if kind is dict:
        return {"dict": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}
    if kind in LISTS:
        return {kind.__name__: [encode(item, depth + 1) for item in value]}
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
    if name == "decimal" and isinstance(content, str) and _DECIMAL.fullmatch(content):
        return Decimal(content)
    if not isinstance(content, list):
        raise ValueError(f"no value of type {name!r}")
    if name == "dict":
        return {decode(key): decode(item) for key, item in content}
    items = [decode(item) for item in content]
    if name == "fraction" and len(items) == 2 and all(type(item) is int for item in items) and items[1] > 0:
        return Fraction(*items)
    kinds = {kind.__name__: kind for kind in LISTS}
    if name not in kinds:
        raise ValueError(f"no value of type {name!r}")
    return kinds[name](items)


def same(given: Any, expected: Any, tolerance: float | None = None, ints_for_floats: bool = False) -> bool:
    """Whether a decoded value is what was expected: equal as Python has it, and of the same type where that can tell.

    1 is neither True nor 1.0. A tuple stands for an expected list, as rows that come from JSON cannot say tuple; a list
    does not stand for an expected tuple. Decimals and fractions stand for the numbers that they equal.

    Args:
        given: of the program.
        expected: of the row, or of a subclass of such a type.
        tolerance: floats may differ by so much, or by so much of themselves; None: by 1e-9 of themselves.
        ints_for_floats: 1 stands for 1.0, and 1.0 for 1.
    """
    rest = (tolerance, ints_for_floats)
    if not isinstance(expected, (list, tuple, dict, set, frozenset)):
        expected = plain(expected)
    if isinstance(expected, float) or (ints_for_floats and type(expected) is int and type(given) is float):
        kinds: tuple[type, ...] = (float, Decimal, Fraction, *([int] if ints_for_floats else []))
        return type(given) in kinds and _near(given, expected, tolerance)
    if isinstance(expected, list | tuple):
        kinds = (tuple,) if isinstance(expected, tuple) else (list, tuple)
        if type(given) not in kinds or len(given) != len(expected):
            return False
        return all(same(g, e, *rest) for g, e in zip(given, expected, strict=True))
    if isinstance(expected, dict):
        if type(given) is not dict or len(given) != len(expected):
            return False
        # 1, 1.0 and True are one key to a dict, so keys are compared with their types too.
        wanted = {_typed(key, ints_for_floats): item for key, item in expected.items()}
        found = {_typed(key, ints_for_floats): item for key, item in given.items()}
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k], *rest) for k in wanted)
    if isinstance(expected, set | frozenset):
        of = [
            {_typed(item, ints_for_floats) for item in items}
            for items in (expected, given if _is_set(given) else [])
        ]
        return _is_set(given) and of[0] == of[1]
    numbers = (Decimal, Fraction)
    if type(given) in numbers and type(expected) in (int, *numbers):
        return bool(given == expected)
    return type(given) is type(expected) and bool(given == expected)


def same_output(given: str, expected: str, tolerance: float | None = None) -> bool:
    """Whether two printed texts are the same, but for white space at the ends of lines and blank lines at the end.

    With a tolerance, words that are numbers may differ by it, and the white space between words does not count.
    """
    one, other = ([line.rstrip() for line in text.rstrip().splitlines()] for text in (given, expected))
    if one == other or tolerance is None or len(one) != len(other):
        return one == other
    pairs = [(a.split(), b.split()) for a, b in zip(one, other, strict=True)]
    return all(
        len(a) == len(b) and all(x == y or _near_words(x, y, tolerance) for x, y in zip(a, b, strict=True))
        for a, b in pairs
    )


_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,400}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)


def _near_words(given: str, expected: str, tolerance: float) -> bool:
    both = _NUMBER.fullmatch(given) and _NUMBER.fullmatch(expected)
    return bool(both) and _near(float(given), float(expected), tolerance)


def _near(given: Any, expected: Any, tolerance: float | None) -> bool:
    try:
        given, expected = float(given), float(expected)
    except OverflowError:
        return False
    if math.isnan(given) or math.isnan(expected):
        return math.isnan(given) and math.isnan(expected)
    relative, absolute = (1e-9, 1e-12) if tolerance is None else (tolerance, tolerance)
    return math.isclose(given, expected, rel_tol=relative, abs_tol=absolute)


def _is_set(value: Any) -> bool:
    return type(value) in (set, frozenset)


def _typed(value: Any, ints_for_floats: bool) -> Any:
    """A key that is equal only for values of the same types."""
    if isinstance(value, tuple):
        return (tuple, tuple(_typed(item, ints_for_floats) for item in value))
    if isinstance(value, frozenset):
        return (frozenset, frozenset(_typed(item, ints_for_floats) for item in value))
    value = plain(value)
    return (float if ints_for_floats and type(value) is int else type(value), value)
