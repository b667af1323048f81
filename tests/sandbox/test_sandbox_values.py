"""Values between processes: whatever has a plain form comes back equal and of the same type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.sandbox.answers import read_answers
from tieout.sandbox.values import decode, encode, same

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
