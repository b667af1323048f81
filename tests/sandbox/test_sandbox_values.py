"""Values between processes: whatever has a plain form comes back equal and of the same type."""

from __future__ import annotations

import json
from collections import ChainMap, Counter, OrderedDict, UserList, UserString, defaultdict, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.sandbox.answers import read_answers
from tieout.sandbox.values import decode, encode, plain, same, same_output

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(KEYS, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_survives_the_way(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert same(back, value)


@given(VALUES, VALUES)
def test_same_is_never_more_than_equal(one: Any, other: Any) -> None:
    if same(one, other) and not any(isinstance(v, float | list | tuple | dict) for v in (one, other)):
        assert one == other
        assert type(one) is type(other)


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (True, 1),
        (1, True),
        (1, 1.0),
        (1.0, 1),
        ("1", 1),
        (None, False),
        ([1], (1,)),
        ([1, 2], [2, 1]),
        ({1}, [1]),
        ({1: 0}, {True: 0}),
        ({1: 0}, {"1": 0}),
        ([True], [1]),
        (0.3, 0.30001),
        (float("nan"), 1.0),
        ("", None),
    ],
)
def test_other_types_and_values_differ(given_value: Any, expected: Any) -> None:
    assert not same(given_value, expected)


@pytest.mark.parametrize(("given_value", "expected"), [(0.1 + 0.2, 0.3), ((1, 2), [1, 2]), ((1, 2), (1, 2))])
def test_rounding_and_tuples_for_lists_are_forgiven(given_value: Any, expected: Any) -> None:
    assert same(given_value, expected)


Point = namedtuple("Point", "x y")
Level = IntEnum("Level", "LOW HIGH")
NUMBERS = st.integers(-5, 5) | st.floats(-5, 5).map(lambda x: round(x, 1))
HASHABLE = st.recursive(
    NUMBERS | st.text("ab", max_size=2) | st.just(Level.HIGH) | st.fractions(max_denominator=4),
    lambda inner: st.tuples(inner, inner) | st.builds(Point, inner, inner) | st.frozensets(inner, max_size=2),
    max_leaves=4,
)
WRITTEN = st.recursive(
    HASHABLE | st.just(Decimal("0.5")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(UserList)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(lambda d: defaultdict(list, d))
        | st.dictionaries(HASHABLE, inner, max_size=3).map(MappingProxyType)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(ChainMap)
        | st.dictionaries(HASHABLE, st.integers(0, 3), max_size=3).map(Counter)
        | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=8,
)


@given(WRITTEN)
def test_the_plain_value_is_equal_and_is_the_same(value: Any) -> None:
    flat = plain(value)
    assert flat == value
    assert same(decode(json.loads(json.dumps(encode(flat)))), value)


@given(WRITTEN, WRITTEN)
def test_what_is_the_same_is_equal(one: Any, other: Any) -> None:
    given_value = plain(one)
    if same(given_value, other, tolerance=0.0):
        assert _tuples(given_value) == _tuples(other)


def _tuples(value: Any) -> Any:
    """Lists as tuples, as a tuple stands for a list; a fraction of a float as that float."""
    value = plain(value)
    if isinstance(value, list | tuple):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return float(value) if isinstance(value, int | float | Fraction | Decimal) else value


def test_equal_values_of_other_types_are_the_same() -> None:
    pairs = [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (Point(1, 2), (1, 2)),
        ([Point(1, 2)], [[1, 2]]),
        (frozenset({1}), {1}),
        ({"a": 1}.keys(), {"a"}),
        ({frozenset({1}): 2}, {frozenset({1}): 2}),
        (Level.HIGH, 2),
        (UserString("a"), "a"),
        (bytearray(b"a"), b"a"),
        (Decimal("0.5"), 0.5),
        (Fraction(6, 2), 3),
        (type("Text", (str,), {"__eq__": lambda a, b: False, "__hash__": str.__hash__})("a"), "a"),
        (type("Floats", (list,), {"__iter__": lambda self: iter(())})([1.5]), [1.5]),
    ]
    for value, expected in pairs:
        assert same(decode(json.loads(json.dumps(encode(plain(value))))), expected), value
        assert not same(plain(value), [expected])


def test_numpy_holds_plain_values() -> None:
    numpy = pytest.importorskip("numpy")
    made = {
        "n": numpy.int64(2),
        "x": numpy.float32(0.5),
        "b": numpy.bool_(True),
        "s": numpy.str_("a"),
        "a": numpy.eye(2),
    }
    assert same(plain(made), {"n": 2, "x": 0.5, "b": True, "s": "a", "a": [[1.0, 0.0], [0.0, 1.0]]})
    assert not same(plain(numpy.bool_(True)), 1)
    assert same(
        [0.5, {"a": 0.3001}, 2], [numpy.float64(0.5), {"a": numpy.float64(0.3)}, numpy.int64(2)], 1e-3
    )
    assert same([[0.3001, 2.0]], numpy.array([[0.3, 2.0]]), 1e-3)
    assert same({"a": 1}, MappingProxyType({"a": 1}))


def test_tolerance_and_ints_for_floats() -> None:
    assert same({"x": [0.3001]}, {"x": [0.3]}, 1e-3)
    assert not same({"x": [0.302]}, {"x": [0.3]}, 1e-3)
    assert not same(3, 3.0, 1e-3)
    assert not same(True, 1.0, 1e-3, True)
    assert same([3, {1: 2.0}, {1}], [3.0, {1.0: 2}, {1.0}], None, True)
    assert not same([True], [1], None, True)
    assert not same({(1,)}, {(True,)})


@pytest.mark.parametrize(
    ("printed", "expected", "tolerance", "passes"),
    [
        ("3\n", "3", None, True),
        ("3 \r\n4\n\n", "3\n4", None, True),
        ("3", "3.0", None, False),
        ("3", "3.0", 1e-9, True),
        ("x 0.3333 b", "x  0.33333  b", 1e-3, True),
        ("x 0.33 b", "x 0.35 b", 1e-3, False),
        ("1\n2", "1 2", 1e-3, False),
        ("nan", "1", 1e-3, False),
        ("inf", "1", 0.5, False),
        ("", "1", 1e-3, False),
        (" 1", "1", None, False),
    ],
)
def test_printed_texts(printed: str, expected: str, tolerance: float | None, passes: bool) -> None:
    assert same_output(printed, expected, tolerance) is passes


REFUSED = [object(), lambda: 1, type("Int", (int,), {})(1), 10**20_000, 1j]


@pytest.mark.parametrize("value", REFUSED, ids=["object", "function", "subclass", "long", "complex"])
def test_what_has_no_plain_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(TypeError, match="nested deeper"):
        encode(deep)


def line(**said: Any) -> bytes:
    return json.dumps({"nonce": "n", **said}).encode() + b"\n"


def test_answers_are_read_in_order() -> None:
    answers, error = read_answers(line(index=0, value=1) + line(index=1, error="E"), "n", 3)
    assert not error
    assert [a and (a.value, a.error) for a in answers] == [(1, ""), (None, "E"), None]


@pytest.mark.parametrize(
    "output",
    [
        b"hello\n",
        b"1\n",
        b'{"index": 0, "value": 1}\n',
        json.dumps({"nonce": "other", "index": 0, "value": 1}).encode() + b"\n",
        line(index=1, value=1),
        line(index=0, value=1) + line(index=0, value=2),
        line(index=0, value=1) + line(index=1, value=1),
        line(index=0, value=1, error=""),
        line(index=0, value={"object": []}),
        line(index=0, value={"fraction": [1, 0]}),
        line(index=0, value={"fraction": [1, True]}),
        line(index=0, value={"decimal": "sNaN"}),
        line(index=0, value={"decimal": "1e999999999"}),
        line(index=0, value={"set": [{"set": [1]}]}),
        line(index=0, value=1, passed=True),
        b'{"nonce": "n", "index": 0, "value": NaN}\n',
        b'{"nonce": "n", "nonce": "n", "index": 0, "value": 1}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        line(index=True, error=1),
    ],
)
def test_anything_else_spoils_all_of_it(output: bytes) -> None:
    answers, error = read_answers(output, "n", 1)
    assert error
    assert answers == [None]


@given(st.binary(max_size=200))
def test_no_output_makes_the_reader_raise(output: bytes) -> None:
    read_answers(output, "n", 2)
