r"""The numeric reward: 1 if the completion's one final answer is the gold figure.

A completion answers in one of the ways of `rewards.text.final_answers` and in no other: the whole completion is the
figure (`-12.6 million`), or it ends with its only marked answer (`<answer>4.5%</answer>`, `\boxed{4.5\%}`, `#### 4.5%`,
`**Answer:** 4.5%`), or with `The answer is 4.5%.` What stands before the marker is reasoning and is not judged, nor is
thinking (see `rewards.text.thinking`). Two markers, and two figures, are no answer.

The figure must say what it is: `42` is not `42 million`, and `12.5%`, `12.5`, `0.125` and `1250 bps` are four
different answers, unless the row declares the unit to compare in. Only what leaves the value as it is may be
left out: the currency sign, `shares`, `days`, the `x` of a ratio, a unit in words (`12 apples`). What is said must be
right: € is not $, and years are not days.

Known limits. It pays for the right figure after wrong or contradictory reasoning, and for a lucky guess. It
pays 5.4 where gold shows 5, as gold may be rounded; declare the unit `count` where it is exact. Where gold has more
digits than an answer should show, say how near is near enough by `tolerance`. It pays `5 apples` where gold is `5`,
whatever was counted. It does not pay for these ways to be right: `about 5%`, `5 percentage points`, `5 (five)`,
`five`, `x = 5`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ...errors import InputError
from ..scoring.outcomes import ranged
from ..text.figures import EXACT, UNITS, Figure, Unit, figure, written
from ..text.final_answers import final_text, split_unit
from ..text.thinking import after_thinking

__all__ = ["Figure", "figure", "final_answer", "numeric", "readable"]

Tolerance = float | str
"""A number, a share such as `1%`, or `shown`."""

BARE = {"count", "currency", "shares", "days", "ratio"}
"""Units that a bare number may stand for: to leave their name out leaves the value as it is."""


def final_answer(completion: str) -> Figure | None:
    """The one figure that a completion gives as its answer, or None. Never raises.

    >>> final_answer("It fell from 25.2 by 12.6, which is half. Answer: (50)%").value
    Decimal('-50')
    """
    return given[0] if (given := given_figure(completion)) else None


def given_figure(completion: str) -> tuple[Figure, str] | None:
    """The figure that is the answer, and its unit in words, if any."""
    said = after_thinking(completion)
    answer = None if said is None else final_text(said)
    return None if answer is None else split_unit(answer)


@ranged(0, 1)
def numeric(
    completions: Sequence[str],
    answer: Sequence[str | int | float | None],
    scale: Sequence[str | None] | None = None,
    unit: Sequence[Unit | None] | None = None,
    tolerance: Sequence[Tolerance | None] | Tolerance | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] 1.0 where the final answer equals gold within the tolerance, else 0.0.

    None where the row has no answer.

    Args:
        completions: [K] texts.
        answer: [K] gold, as text or number: `(5,062)`, `$1,496.5`, -12.6.
        scale: [K] what completes gold: `million`, `percent`, ...; empty or None: nothing. It says how to read
            gold, not the completion, which must say it too.
        unit: [K] the unit to compare in: a bare number is read in it; ratio, percent and bps convert into it;
            `count` must be equal. Empty or None: gold's own unit, and nothing converts.
        tolerance: [K], or one for all: how far the answer may be off, instead of half a unit of gold's last shown
            digit. A number: so much, in the unit and scale in which gold is written. `1%`: so much of gold. `shown`:
            the answer is gold rounded to the digits that the answer shows, which are two decimals or two significant
            digits at least, or all of gold's.

    Raises:
        ValueError: gold is not a figure, or the unit or tolerance is unknown: the row is wrong, not the completion.

    >>> numeric(["(12.6) million", "-12,600,000", "-12.6"], answer=[-12.6] * 3, scale=["million"] * 3)
    [1.0, 1.0, 0.0]
    >>> [numeric(["14.5%"], [0.144643], unit=["ratio"], tolerance=by) for by in (None, "shown", "1%", 0.001, 0.0001)]
    [[0.0], [1.0], [1.0], [1.0], [0.0]]
    """
    return compared([given_figure(text) for text in completions], answer, scale, unit, tolerance)


def compared(
    given: Sequence[tuple[Figure, str] | None],
    answer: Sequence[str | int | float | None],
    scale: Sequence[str | None] | None,
    unit: Sequence[Unit | None] | None,
    tolerance: Sequence[Tolerance | None] | Tolerance | None,
) -> list[float | None]:
    """[K] what `numeric` pays for figures, each with its unit in words; None for none."""
    blank = [None] * len(given)
    near = tolerance if isinstance(tolerance, list | tuple) else [tolerance] * len(given)
    cases = zip(given, answer, scale or blank, unit or blank, near, strict=True)
    return [None if gold is None else _score(found, gold, s, u, t) for found, gold, s, u, t in cases]


def readable(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] 1.0 where a completion gives one figure as its answer, right or wrong: a metric, not a reward."""
    return [float(final_answer(completion) is not None) for completion in completions]


def _score(
    given: tuple[Figure, str] | None,
    answer: str | int | float,
    scale: str | None,
    unit: Unit | None,
    tolerance: Tolerance | None,
) -> float:
    gold, gold_words = _gold(answer, scale, unit)
    allowed = _allowance(tolerance)
    if given is None:
        return 0.0
    figure, words = given
    said: Figure | None = figure
    if words:
        alike = not gold_words or words.rstrip("s") == gold_words.rstrip("s")
        said = figure if alike and gold.unit in ("count", "currency") else None
    elif unit:
        said = figure.to(unit)
    if said is None or not _same_kind(said, gold):
        return 0.0
    exact = unit == "count" and tolerance is None
    off = EXACT.subtract(said.value, gold.value).copy_abs()
    return float(off <= (0 if exact else allowed(gold, said)))


def _allowance(tolerance: Tolerance | None) -> Callable[[Figure, Figure], Decimal]:
    """(gold, answer) -> how far they may be apart."""
    if tolerance is None:
        return lambda gold, _: gold.half_unit
    if tolerance == "shown":
        return _shown
    text = str(tolerance).strip()
    share = text.endswith("%")
    try:
        amount = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        amount = Decimal(-1)
    if isinstance(tolerance, bool) or not amount.is_finite() or amount < 0:
        raise InputError(
            f"reward 'numeric': tolerance is {tolerance!r}; expected a number from 0, such as 0.005; a share of gold, "
            "such as '1%'; or 'shown', for the digits that the answer shows"
        )
    if share:
        return lambda gold, _: EXACT.multiply(amount, gold.value.copy_abs()).scaleb(-2, EXACT)
    return lambda gold, _: amount.scaleb(gold.scale, EXACT)


def _shown(gold: Figure, said: Figure) -> Decimal:
    """Half a unit of the last digit that the coarser of the two shows, if it shows enough to be an answer."""
    two_decimals = Decimal((0, (5,), gold.scale - 3))
    two_digits = gold.value.copy_abs().scaleb(-1, EXACT) / 2
    enough = said.half_unit <= max(two_decimals, two_digits)
    return max(gold.half_unit, said.half_unit) if enough else gold.half_unit


def _gold(answer: str | int | float, scale: str | None, unit: Unit | None) -> tuple[Figure, str]:
    if unit and unit not in UNITS:
        raise InputError(f"reward 'numeric': column 'unit' has {unit!r}; expected one of {', '.join(UNITS)}")
    text = f"{written(answer)} {scale or ''}".strip()
    gold, words = figure(text), ""
    if gold is None and (read := split_unit(text)):
        gold, words = read
    if gold is not None and unit:
        gold = gold.to(unit)
    if gold is None:
        wanted = f"a figure that can be read in {unit}" if unit else "a figure, such as (5,062) or 4.55%"
        raise InputError(
            f"reward 'numeric': column 'answer' has {answer!r} with scale {scale!r}; expected {wanted}"
        )
    return gold, words


def _same_kind(given: Figure, gold: Figure) -> bool:
    """Whether unit and currency agree, as far as both say them."""
    one_is_bare = "count" in (given.unit, gold.unit) and {given.unit, gold.unit} <= BARE
    same_money = given.currency.endswith(gold.currency) or gold.currency.endswith(given.currency)
    return same_money and (given.unit == gold.unit or one_is_bare)
