r"""The numeric reward: 1 if the completion's one final answer is the gold figure.

A completion answers in one of these ways and in no other:

- the whole completion is the figure: `-12.6 million`;
- it ends with its only marked answer: `<answer>4.5%</answer>`, `\boxed{4.5\%}`, `#### 4.5%`, `Answer: 4.5%`.

What stands before the marker is reasoning and is not judged, nor is thinking (see `rewards.text.thinking`). Two
markers, words next to or after the figure, and two figures are no answer.

The figure must say what it is: `42` is not `42 million`, and `12.5%`, `12.5`, `0.125` and `1250 bps` are four
different answers, unless the row declares the unit to compare in. Only what leaves the value as it is may be
left out: the currency sign, `shares`, `days`, the `x` of a ratio. What is said must be right: € is not $.

Known limits. It pays for the right figure after wrong or contradictory reasoning, and for a lucky guess. It
pays 5.4 where gold shows 5, as gold may be rounded; declare the unit `count` where it is exact. It does not
pay for these ways to be right: `The answer is 5`, `about 5%`, `5 percentage points`, `$2.79 per share`,
`5 years`, `**5**`, `$\boxed{5}$`, `<answer>\boxed{5}</answer>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import InputError
from ..scoring.outcomes import ranged
from ..text.figures import EXACT, UNITS, Figure, Unit, figure, written
from ..text.thinking import after_thinking

__all__ = ["Figure", "figure", "final_answer", "numeric", "readable"]

MARKER = re.compile(r"<answer>|\\boxed\{|####|\b(?i:answer)\s*:")
CLOSING = {"<answer>": "</answer>", r"\boxed{": "}"}

BARE = {"count", "currency", "shares", "days", "ratio"}
"""Units that a bare number may stand for: to leave their name out leaves the value as it is."""


def final_answer(completion: str) -> Figure | None:
    """The one figure that a completion gives as its answer, or None. Never raises.

    >>> final_answer("It fell from 25.2 by 12.6, which is half. Answer: (50)%").value
    Decimal('-50')
    """
    said = after_thinking(completion)
    if said is None:
        return None
    # From the first marker to the end: a second marker, or anything else after the figure, makes it none.
    if marker := MARKER.search(said):
        said = said[marker.end() :].rstrip()
        closing = CLOSING.get(marker[0], "")
        if not said.endswith(closing):
            return None
        said = said.removesuffix(closing)
    said = said.strip().removesuffix(".").replace(r"\%", "%").replace(r"\$", "$")
    return figure(said, footnotes=False)


@ranged(0, 1)
def numeric(
    completions: Sequence[str],
    answer: Sequence[str | int | float | None],
    scale: Sequence[str | None] | None = None,
    unit: Sequence[Unit | None] | None = None,
    **_: Any,
) -> list[float | None]:
    """[K] 1.0 where the final answer equals gold within half a unit of gold's last shown digit, else 0.0.

    None where the row has no answer.

    Args:
        completions: [K] texts.
        answer: [K] gold, as text or number: `(5,062)`, `$1,496.5`, -12.6.
        scale: [K] what completes gold: `million`, `percent`, ...; empty or None: nothing. It says how to read
            gold, not the completion, which must say it too.
        unit: [K] the unit to compare in: a bare number is read in it; ratio, percent and bps convert into it;
            `count` must be equal. Empty or None: gold's own unit, and nothing converts.

    Raises:
        ValueError: gold is not a figure, or the unit is unknown. Then the row is wrong, not the completion.

    >>> numeric(["(12.6) million", "-12,600,000", "-12.6"], answer=[-12.6] * 3, scale=["million"] * 3)
    [1.0, 1.0, 0.0]
    """
    blank = [None] * len(completions)
    cases = zip(completions, answer, scale or blank, unit or blank, strict=True)
    return [None if gold is None else _score(final_answer(text), gold, s, u) for text, gold, s, u in cases]


def readable(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] 1.0 where a completion gives one figure as its answer, right or wrong: a metric, not a reward."""
    return [float(final_answer(completion) is not None) for completion in completions]


def _score(given: Figure | None, answer: str | int | float, scale: str | None, unit: Unit | None) -> float:
    gold = _gold(answer, scale, unit)
    if given is not None and unit:
        given = given.to(unit)
    if given is None or not _same_kind(given, gold):
        return 0.0
    tolerance = 0 if unit == "count" else gold.half_unit
    return float(EXACT.subtract(given.value, gold.value).copy_abs() <= tolerance)


def _gold(answer: str | int | float, scale: str | None, unit: Unit | None) -> Figure:
    if unit and unit not in UNITS:
        raise InputError(f"reward 'numeric': column 'unit' has {unit!r}; expected one of {', '.join(UNITS)}")
    gold = figure(f"{written(answer)} {scale or ''}")
    if gold is not None and unit:
        gold = gold.to(unit)
    if gold is None:
        wanted = f"a figure that can be read in {unit}" if unit else "a figure, such as (5,062) or 4.55%"
        raise InputError(
            f"reward 'numeric': column 'answer' has {answer!r} with scale {scale!r}; expected {wanted}"
        )
    return gold


def _same_kind(given: Figure, gold: Figure) -> bool:
    """Whether unit and currency agree, as far as both say them."""
    one_is_bare = "count" in (given.unit, gold.unit) and {given.unit, gold.unit} <= BARE
    same_money = given.currency.endswith(gold.currency) or gold.currency.endswith(given.currency)
    return same_money and (given.unit == gold.unit or one_is_bare)
