"""Gold of a turn of ConvFinQA or FinQA: is the figure an amount, a share, or a number of per cent?

A program is one number, `60.94`, or steps, of which the last is the answer: `subtract(44, 40), divide(#0, 40)`. `#0` is
what the first step gave, `const_100` is 100, and `table_average(net sales, none)` is over a row of the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from ..rewards.text.figures import figure

Kind = Literal["amount", "share", "percent"]
"""`share`: 0.1 stands for 10%; `percent`: 10 does."""

_Argument = Kind | Literal["constant", "hundred"]
_STEP = re.compile(r"(?P<name>\w+)\((?P<left>.+?), (?P<right>[^,()]+)\)(?:, (?=\w+\()|$)")


class Turn(NamedTuple):
    """One question of a conversation."""

    question: str
    program: str
    value: str | int | Decimal
    """What the program gives; `yes` or `no` for a comparison."""


class Gold(NamedTuple):
    """The completion, and the columns that `numeric` reads."""

    completion: str
    answer: str
    scale: str = ""
    unit: str = ""
    tolerance: str | None = None


DISAGREE = "program and annotators disagree"
_ROUNDED = Decimal("0.000005")
"""Half a unit of the fifth decimal, to which the data set rounds."""


def gold_of(turn: Turn, published: str, table: Sequence[Sequence[str]]) -> Gold | str:
    """Gold, or in a few words why there is none.

    Args:
        turn: The question.
        published: What annotators answered, `12.5%`; empty: nothing that is known.
        table: The rows of the page's table, which programs name by their first cell.
    """
    if isinstance(turn.value, str):
        return "yes or no" if turn.value in ("yes", "no") else "no figure"
    value = Decimal(turn.value)
    kind = kind_of(turn.program, table)
    as_percent = "percent" in turn.question.casefold()
    if published.strip():
        read = figure(published, footnotes=False)
        if read is None or read.unit == "bps":
            return "no figure"
        given, off = read.value.scaleb(-read.scale), read.half_unit.scaleb(-read.scale)
        if read.unit == "percent":
            as_percent = True
            each: tuple[tuple[Kind, Decimal], ...] = (("share", 100 * value), ("percent", value))
            fits = [said for said, at in each if abs(given - at) <= off + 100 * _ROUNDED]
            kind = next((said for said in fits if kind in (None, "amount", said)), None)
            if kind is None:
                return DISAGREE
        elif abs(given - value) > off + _ROUNDED:
            return DISAGREE
        elif read.currency or read.scale:
            kind = "amount"
    if kind is None:
        return "a program that cannot be read"
    if kind == "amount" and as_percent:
        return "per cent or not"
    tolerance = "shown" if is_rounded(turn.program) else None
    if figure(plain(100 * value)) is None:
        return "no figure"  # too long a number
    if kind == "amount":
        return Gold(plain(value), plain(value), tolerance=tolerance)
    shown = plain(
        100 * value if kind == "share" else value
    )  # in per cent, so that two decimals are of per cent
    completion = plain(value) if kind == "share" and not as_percent else f"{shown}%"
    return Gold(completion, shown, "percent", "ratio", tolerance)


def plain(value: int | Decimal) -> str:
    """Without the zeros at its end, which the data set's floats have: 94.0 is 94."""
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def kind_of(program: str, table: Sequence[Sequence[str]]) -> Kind | None:
    """What a program gives; None if it cannot be read.

    >>> kind_of("subtract(44, 40), divide(#0, 40)", []), kind_of("add(44, 40), divide(#0, const_2)", [])
    ('share', 'amount')
    """
    if "(" not in program:
        return _as_kind(_literal(program))
    given: list[_Argument | None] = []
    end = 0
    while step := _STEP.match(program, end):
        name, left, right = step.group("name", "left", "right")
        if name.startswith("table_"):
            given.append(_of_row(left, table))
        else:
            given.append(_result(name, _argument(left, given), _argument(right, given)))
        end = step.end()
    return _as_kind(given[-1]) if given and end == len(program) else None


def is_rounded(program: str) -> bool:
    """Whether its answer was divided or multiplied, and may be given in fewer digits than it has.

    >>> is_rounded("divide(44, 40), subtract(44, 40)"), is_rounded("divide(44, 40), subtract(#0, const_1)")
    (False, True)
    """
    steps = list(_STEP.finditer(program))
    needed = {f"#{len(steps) - 1}"}  # a conversation's programs repeat the steps of earlier turns
    for place, step in reversed(list(enumerate(steps))):
        if f"#{place}" in needed:
            if step["name"] in ("divide", "multiply", "exp", "table_average"):
                return True
            needed |= {step["left"], step["right"]}
    return False


def _as_kind(given: _Argument | None) -> Kind | None:
    return "amount" if given in ("constant", "hundred") else given  # type: ignore[return-value]


def _argument(text: str, given: Sequence[_Argument | None]) -> _Argument | None:
    if step := re.fullmatch(r"#([0-9]{1,3})", text):
        place = int(step[1])
        return given[place] if place < len(given) else None
    return _literal(text)


def _literal(text: str) -> _Argument | None:
    if text == "const_100":
        return "hundred"
    if re.fullmatch(r"const_m?[0-9.]+", text):
        return "constant"
    read = figure(text, footnotes=False)
    return None if read is None else "share" if read.unit == "percent" else "amount"


def _of_row(name: str, table: Sequence[Sequence[str]]) -> _Argument | None:
    cells = next((row[1:] for row in table if row and row[0] == name), None)
    return None if cells is None else "share" if any("%" in cell for cell in cells) else "amount"


def _result(name: str, left: _Argument | None, right: _Argument | None) -> _Argument | None:
    if left is None or right is None:
        return None
    both = {left, right}
    fixed = both <= {"constant", "hundred"}
    if name in ("add", "subtract"):
        if both == {"share", "percent"}:
            return None
        ranks: tuple[_Argument, ...] = ("percent", "share", "amount", "constant", "hundred")
        return "constant" if fixed else next(kind for kind in ranks if kind in both)
    if name == "multiply":
        if "percent" in both:
            return None
        if "share" in both:
            return "percent" if "hundred" in both else "amount" if "amount" in both else "share"
        return "constant" if fixed else "amount"
    if name == "divide":
        if right == "hundred":
            return "share"
        if right == "constant" or left == "share":
            return left
        if left == "percent" or right == "percent":
            return "share" if left == right else None
        return "amount" if right == "share" else "share"
    if name == "exp":
        return left if left in ("amount", "share", "constant") else None
    return None
