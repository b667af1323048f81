"""Probes for gold that is one number: other values, values that are none, and writings that parsers disagree on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ...tasks.wrong_statements import other_digit
from .gold import NUMBER, Gold
from .probe import Probe

FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
SCALES = ("thousand", "million", "billion", "trillion")
NOT_NUMBERS = (
    "NaN",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1e309",
    "-1e309",
    "-0",
    "+",
    "-",
    ".",
    "1_0_0",
    "0x2a",
)


def number_probes(gold: Gold, tolerances: Sequence[Any] = ()) -> Iterator[Probe]:
    """For a text whose answer is one number; none for another. `tolerances`: those that the reward declares."""
    value = gold.number
    if value is None:
        return
    match = NUMBER.search(gold.answer)
    assert match is not None
    shown = match[0]
    decimals = len(shown.partition(".")[2])

    def written(number: Decimal) -> str:
        return f"{number:,.{decimals}f}" if "," in shown else f"{number:f}"

    if value:
        unit = Decimal(1).scaleb(-decimals)
        edge = max(
            2 * unit, (value * Decimal("0.04")).quantize(unit) + unit, *_beyond(tolerances, value, unit)
        )
        for name, digits in (
            ("ten times", written(value * 10)),
            ("a hundred times: percent for fraction", written(value * 100)),
            ("a hundredth: fraction for percent", f"{value / 100:f}"),
            ("a thousand times", written(value * 1000)),
            ("a bit more", written(value + edge)),
            ("a bit less", written(value - edge)),
            ("another first digit", other_digit(shown)),
        ):
            yield from _tried(name, gold, gold.with_number(digits))
        yield from _tried("the other sign", gold, _other_sign(gold))
        yield from _tried("the other sign, other digits", gold, gold.with_number(other_digit(shown)))
    for scale in SCALES:
        if re.search(rf"\b{scale}\b", gold.answer, re.IGNORECASE):
            without = re.sub(rf"\s*\b{scale}\b", "", gold.answer, flags=re.IGNORECASE)
            yield from _tried("scale dropped", gold, without)
            other = SCALES[(SCALES.index(scale) + 1) % len(SCALES)]
            yield from _tried("another scale", gold, re.sub(scale, other, gold.answer, flags=re.IGNORECASE))
    if "%" in gold.answer and value:
        yield from _tried("bps for percent", gold, gold.answer.replace("%", " bps"))
    for text in NOT_NUMBERS:
        if not (text == "-0" and not value):
            yield Probe("numeric", f"{text} for a number", text, "free")
            yield Probe("numeric", f"{text} for a number, in gold's form", gold.frame(text), "free")
            yield Probe("numeric", f"{text} for gold's digits", gold.frame(gold.with_number(text)), "free")
    for digits in ("9" * 5000, f"{shown}{'0' * 5000}"):
        yield Probe("numeric", "5000 digits", gold.frame(digits), "free")
    wrong = other_digit(shown).translate(FULL_WIDTH)
    yield Probe(
        "numeric", "full-width digits of another number", gold.frame(gold.with_number(wrong)), "wrong"
    )
    yield Probe(
        "numeric", "full-width digits", gold.frame(gold.with_number(shown.translate(FULL_WIDTH))), "same"
    )


def _beyond(tolerances: Sequence[Any], value: Decimal, unit: Decimal) -> Iterator[Decimal]:
    """Distances beyond what a tolerance allows, whether it is meant as a share of gold or as an amount."""
    for tolerance in tolerances:
        text = str(tolerance).strip()
        try:
            share = Decimal(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
        except (InvalidOperation, ValueError):
            continue
        amount = Decimal(0) if text.endswith("%") else share
        if share.is_finite():
            yield (2 * max(amount, share * abs(value))).quantize(unit) + unit


def _tried(name: str, gold: Gold, answer: str) -> Iterator[Probe]:
    yield Probe("numeric", name, gold.frame(answer), "wrong")
    yield Probe("numeric", f"{name}, after gold's reasoning", gold.replaced(answer), "wrong")


def _other_sign(gold: Gold) -> str:
    match = NUMBER.search(gold.answer)
    assert match is not None
    before, digits, after = gold.answer[: match.start()], match[0], gold.answer[match.end() :]
    if gold.negative:
        return re.sub(r"[-−–(]", "", before) + digits + after.replace(")", "", 1)
    currency = re.search(r"(?:[A-Z]{0,3}[$€£¥]\s?)?$", before)
    assert currency is not None
    place = currency.start()
    return f"{before[:place]}-{before[place:]}{digits}{after}"
