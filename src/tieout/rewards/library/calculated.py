"""The reward of a calculation as the answer: 1 if what it comes to, worked out exactly, is the gold figure.

For models that find the figures and get the division wrong. The answer stands where `numeric` finds it: numbers with
+ - * / (and x, ×, ÷) and parentheses, then scale or unit, as in `The answer is 450 / 1,250 x 100 percent.` It is worked
out in exact fractions and compared as `numeric` compares; a figure alone is one, too. With `= 36.0 percent` after it,
both must be right. Answers as programs: Chen et al. 2021, FinQA, https://arxiv.org/abs/2109.00122, section 3.

A negative figure has a minus. One alone in parentheses, `3 + (13)`, is negative to accountants and positive to others:
such a calculation is none, but after x and /, where both mean the same. What is not caught is a calculation that comes
to the gold figure by other figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ..scoring.outcomes import ranged
from ..text.figures import EXACT, NUMBER, Figure, Unit
from ..text.final_answers import MAX_CHARS, final_text, split_unit
from ..text.thinking import after_thinking
from .numeric import Tolerance, compared, given_figure

__all__ = ["calculated", "calculation"]

_NUMBER = re.compile(NUMBER)
_SIGNS = str.maketrans("X×x·÷−–", "****/--")
_FACTOR = re.compile(r"[-+]? ?[(\[]*[-+]? ?[(\[.0-9]")
"""How one begins."""
_CLOSING = {"(": ")", "[": "]"}


class _NoCalculationError(Exception):
    """What is read is none."""


class _Reader:
    """Recursive descent over a calculation at the beginning of a text; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.operations = text, 0, 0

    def sum(self) -> Fraction:
        found = self.product()
        while (sign := self.operation("+-")) is not None:
            found += self.product() * (1 if sign == "+" else -1)
        return found

    def product(self) -> Fraction:
        found = self.factor(alone=False)
        while (sign := self.operation("*/")) is not None:
            other = self.factor(alone=True)
            if sign == "/" and not other:
                raise _NoCalculationError
            found = found * other if sign == "*" else found / other
        return found

    def factor(self, alone: bool) -> Fraction:
        """`alone`: whether a number may stand alone in parentheses here."""
        sign = self.taken("+-")
        opening = self.taken("([")
        if opening is None:
            number = _NUMBER.match(self.text, self.after_space())
            if number is None:
                raise _NoCalculationError
            self.at = number.end()
            found = Fraction(number[0].replace(",", ""))
        else:
            begins, before = self.after_space(), self.operations
            found = self.sum()
            signed = self.text[begins] in "+-"
            if self.taken(_CLOSING[opening]) is None:
                raise _NoCalculationError
            if self.operations == before and not signed and (sign or not alone) and opening == "(":
                raise _NoCalculationError
        return -found if sign == "-" else found

    def operation(self, signs: str) -> str | None:
        """The next sign, if a factor can follow it: the `x` of `2.5 x` is a unit."""
        before = self.at
        sign = self.taken(signs)
        if sign is not None and _FACTOR.match(self.text, self.after_space()):
            self.operations += 1
            return sign
        self.at = before
        return None

    def taken(self, characters: str) -> str | None:
        at = self.after_space()
        if at < len(self.text) and self.text[at] in characters:
            self.at = at + 1
            return self.text[at]
        return None

    def after_space(self) -> int:
        return self.at + self.text.startswith(" ", self.at)


def calculation(answer: str) -> tuple[Fraction, str] | None:
    """What the calculation comes to with which an answer begins, and what follows it; None: there is none.

    Never raises.

    >>> calculation("(1,250 - 1,000) / 1,000 x 100 percent"), calculation("36%"), calculation("1 / 0")
    ((Fraction(25, 1), 'percent'), None, None)
    """
    text = " ".join(answer.split()).removeprefix("= ")
    if len(text) > MAX_CHARS:
        return None
    reader = _Reader(text.translate(_SIGNS))
    try:
        found = reader.sum()
    except (_NoCalculationError, RecursionError, IndexError):
        return None
    rest = text[reader.at :]
    if not reader.operations or re.match(r" ?[-0-9.,()\[\]+*/x_]", rest.removesuffix("x")):
        return None
    return found, rest.strip()


@ranged(0, 1)
def calculated(
    completions: Sequence[str],
    answer: Sequence[str | int | float | None],
    scale: Sequence[str | None] | None = None,
    unit: Sequence[Unit | None] | None = None,
    tolerance: Sequence[Tolerance | None] | Tolerance | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] 1.0 where the calculation comes to gold, as `numeric` compares, else 0.0. None where the row has no answer.

    Args:
        completions: [K] texts.
        answer: [K] gold figures; see `numeric`.
        scale: [K] what completes gold, which the completion must say, too.
        unit: [K] the unit to compare in; see `numeric`.
        tolerance: [K], or one for all; see `numeric`.

    Raises:
        ValueError: gold is not a figure: the row is wrong, not the completion.

    >>> calculated(["The answer is 450 / 1,250 * 100%.", "36%", "0.36"], answer=["36.0"] * 3, scale=["percent"] * 3)
    [1.0, 1.0, 0.0]
    """
    read = [_read(text) for text in completions]
    paid = compared([figure for figure, _ in read], answer, scale, unit, tolerance)
    stated = compared([result for _, result in read], answer, scale, unit, tolerance)
    return [None if one is None else min(one, other or 0.0) for one, other in zip(paid, stated, strict=True)]


Given = tuple[Figure, str] | None


def _read(completion: str) -> tuple[Given, Given]:
    """What a completion's calculation comes to, and the result that it states; of a figure alone, the figure twice."""
    said = after_thinking(completion)
    answer = None if said is None else final_text(said)
    found = None if answer is None else calculation(answer)
    if found is None:
        return (given_figure(completion),) * 2
    value, rest = found
    result = split_unit(rest.removeprefix("=").strip()) if rest.startswith("=") else None
    if rest.startswith("=") and result is None:
        return None, None
    kind = (
        split_unit(f"1 {rest}".strip())
        if result is None
        else (replace(result[0], value=_one(result[0])), result[1])
    )
    if kind is None:
        return None, None
    exact = EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))
    figure = replace(kind[0], value=EXACT.multiply(kind[0].value, exact), digits=len(exact.as_tuple().digits))
    return (figure, kind[1]), result or (figure, kind[1])


def _one(figure: Figure) -> Decimal:
    """One of the scale that a figure is written in."""
    return Decimal(1).scaleb(figure.scale)
