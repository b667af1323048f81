"""Parse figures as accountants write them: `$(9.8) million` is minus 9,800,000 of currency.

One pattern, read from left to right:

    sign  currency  NUMBER  scale  unit          once, in parentheses, from anywhere to anywhere: negative

The sign may be a word, `minus 5%`. Whatever is not exactly one such figure is None: prose, dates (`Dec 29, 2018`),
ranges (`1–90`), two numbers, headers (`$'000`, `2019 €m`), other ways of writing numbers (`2.978,478`, `1e6`, `1_000`,
`０`), inf and nan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from numbers import Integral
from typing import Literal, get_args

Unit = Literal["count", "ratio", "percent", "bps", "currency", "shares", "days"]
UNITS: tuple[Unit, ...] = get_args(Unit)

MAX_DIGITS = 40
MAX_CHARS = 120
"""Longer text is not read: 40 digits, their separators and the longest marks need fewer."""

EXACT = Context(prec=4 * MAX_DIGITS)
"""For arithmetic on figures: Python's default of 28 digits would round the longest ones."""

SCALES = {
    **dict.fromkeys(["trillion", "trillions", "tn", "trn"], 12),
    **dict.fromkeys(["billion", "billions", "bn", "bln", "b"], 9),
    **dict.fromkeys(["crore", "crores"], 7),
    **dict.fromkeys(["million", "millions", "mn", "mln", "mio", "mm", "m"], 6),
    **dict.fromkeys(["lakh", "lakhs", "lac", "lacs"], 5),
    **dict.fromkeys(["thousand", "thousands", "k"], 3),
    **dict.fromkeys(["cent", "cents", "¢", "pence", "p"], -2),
}
"""Spelling -> power of ten. Cents and pence are hundredths of a currency."""

MEASURES: dict[str, Unit] = {
    **dict.fromkeys(["%", "percent", "per cent"], "percent"),
    **dict.fromkeys(["bps", "bp", "basis points", "basis point", "basis-point"], "bps"),
    **dict.fromkeys(["x", "times"], "ratio"),
    **dict.fromkeys(["shares", "share"], "shares"),
    **dict.fromkeys(["days", "day"], "days"),
}

CURRENCIES = {
    **dict.fromkeys(["$", "dollar", "dollars"], "$"),
    **dict.fromkeys(["us$", "usd", "us"], "US$"),
    **dict.fromkeys(["au$", "a$", "aud", "au"], "AU$"),
    **dict.fromkeys(["ca$", "c$", "cad"], "CA$"),
    **dict.fromkeys(["sg$", "s$", "sgd"], "SG$"),
    **dict.fromkeys(["hk$", "hkd"], "HK$"),
    **dict.fromkeys(["nz$", "nzd"], "NZ$"),
    **dict.fromkeys(["€", "eur", "euro", "euros"], "€"),
    **dict.fromkeys(["£", "gbp"], "£"),
    **dict.fromkeys(["¥", "jpy", "yen"], "¥"),
    **dict.fromkeys(["₹", "inr", "rs", "rs.", "rupees"], "₹"),
    **dict.fromkeys(["rmb", "cny", "yuan", "renminbi"], "RMB"),
    **dict.fromkeys(["₩", "krw"], "KRW"),
    **dict.fromkeys(["r$", "brl", "reais"], "BRL"),
    **dict.fromkeys(["nt$", "twd"], "NT$"),
    **dict.fromkeys(["mx$", "mxn"], "MX$"),
    **{code: code.upper() for code in ("chf", "sek", "nok", "dkk", "zar", "rub", "pln", "ils", "idr", "thb")},
}
"""Spelling -> currency. Every dollar ends in `$`, so that a bare `$` can stand for any of them."""

RATES = {"ratio": 0, "percent": -2, "bps": -4}
"""Unit -> power of ten. These three convert into each other, and take neither scale nor currency."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure in canonical form."""

    value: Decimal
    """Exact, scale applied; percent and bps stay in their unit: `(8.4%)` is -8.4."""
    unit: Unit = "count"
    """`count` is also what a bare number has."""
    currency: str = ""
    """Which one, if it says: `$`, `US$`, `€`, ..."""
    scale: int = 0
    """The power of ten written next to it: 6 for million, -2 for cents."""
    digits: int = 0
    """Decimals shown."""

    @property
    def half_unit(self) -> Decimal:
        """Half a unit of the last shown digit: 50,000 for `12.6 million`."""
        return Decimal((0, (5,), self.scale - self.digits - 1))

    def to(self, unit: Unit) -> Figure | None:
        """The same in `unit`. A bare number takes any; ratio, percent and bps convert; nothing else does."""
        if unit == self.unit:
            return self
        if self.unit == "count":
            return replace(self, unit=unit)
        if unit in RATES and self.unit in RATES:
            shift = RATES[self.unit] - RATES[unit]
            return replace(self, unit=unit, value=self.value.scaleb(shift, EXACT), scale=self.scale + shift)
        return None


def _any_of(spellings: Iterable[str]) -> str:
    return "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))


# [0-9], as \d takes the digits of every script; case is folded in ASCII only, or `k` takes the Kelvin sign.
NUMBER = r"(?:0|[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+"
JOINT = r"(?:\s|-(?=\w{5}))?"
"""Between a figure and its scale or unit: `2.5-million`, but not the form `10-K`."""
SIGN_WORD = re.compile(r"(?:minus|negative)\s", re.IGNORECASE)
FIGURE = re.compile(
    rf"""
    \(? \s? (?P<sign> [-−–+] )?
        \s? (?: (?P<prefix> {_any_of(CURRENCIES)} ) (?P<thousands> \s?'000\s )? )?
        \s? (?P<inner_sign> [-−–+] )?
    \s? \(? \s? (?P<last_sign> [-−–] )?
        \s? (?: (?P<number> {NUMBER} ) | (?P<nil> [-–—―] ) )
    \s? \)?
        {JOINT} (?P<scale> {_any_of(SCALES)} )?
        {JOINT} (?P<suffix> {_any_of([*MEASURES, *CURRENCIES])} )?
    \s? \)?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
EXPONENT = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?[eE][-+]?[0-9]{1,3}")
FOOTNOTE = re.compile(r"(?<=[0-9%)])\s?(?:\((?:[0-9]{1,2}|[a-z])\)|[*†‡])+$")


def figure(text: str, *, footnotes: bool = True) -> Figure | None:
    """The one figure that `text` is, or None. Never raises.

    Args:
        text: For example `(5,062)`, `(60)%`, `$ 1,496.5`, `25 bps`, `AU 18 cents`, `—` (nil, which is 0).
        footnotes: Drop a trailing footnote mark: the cell `2018 (4)` is 2018. False: it is None.

    >>> figure("$(9.8) million")
    Figure(value=Decimal('-9800000'), unit='currency', currency='$', scale=6, digits=1)
    """
    text = " ".join(text.split()).replace("’", "'")
    if len(text) > MAX_CHARS:
        return None
    text = SIGN_WORD.sub("-", text, 1) if SIGN_WORD.match(text) else text
    if footnotes:
        text = FOOTNOTE.sub("", text)
    if (found := FIGURE.fullmatch(text)) is None:
        return None
    part = {name: (mark or "").lower() for name, mark in found.groupdict().items()}

    number = part["number"].replace(",", "") or "0"
    decimals = number.partition(".")[2]
    if len(number.replace(".", "")) > MAX_DIGITS:
        return None

    signs = part["sign"] + part["inner_sign"] + part["last_sign"]
    twice = signs and re.search(r"\(\s?[-−–]", text)  # (-5): the sign and the parentheses say one thing
    signs += "(" * (text.count("(") - bool(twice))
    if len(signs) > 1 or (signs and part["nil"]) or text.count("(") != text.count(")"):
        return None
    minus = "" if signs in ("", "+") else "-"

    both = [CURRENCIES.get(part[place], "") for place in ("prefix", "suffix")]
    one_money = both[1] and (both[0].endswith(both[1]) or both[1].endswith(both[0]))  # $5 million USD
    if (part["prefix"] and part["suffix"] and not one_money) or (part["thousands"] and part["scale"]):
        return None
    scale = 3 if part["thousands"] else SCALES.get(part["scale"], 0)
    currency = max(both, key=len)
    measure = MEASURES.get(part["suffix"])
    if measure and (scale < 0 or (scale and measure in RATES)):
        return None
    unit: Unit = measure or ("currency" if currency or scale < 0 else "count")

    value = Decimal(f"{minus}{number}e{scale}")
    return Figure(Decimal(f"{value:f}"), unit, currency, scale, len(decimals))


Number = int | float


def printed(value: Number | Decimal) -> Fraction:
    """The exact decimal that a number prints: 0.1 is a tenth, and so is the sum of floats that misses it by an error.

    A float has 15 decimal digits that survive; what it prints beyond them is the error of the arithmetic that made it.

    >>> printed(0.1) + printed(0.2) == printed(0.3) == printed(0.1 + 0.2)
    True
    """
    return Fraction(f"{value:.15g}" if isinstance(value, float) else str(value))


def meant(value: Number | Decimal) -> Number:
    """The int or float that is written as `printed` has it: 0.3 for 0.1 + 0.2, and for Decimal("0.3")."""
    if isinstance(value, Integral):
        return value if isinstance(value, bool) else int(value)
    return float(f"{value:.15g}" if isinstance(value, float) else str(value))


def written(value: object) -> str:
    """How a row's number is written: in the digits that are meant, without an exponent; anything else as it is.

    >>> written(1e-05), written("1e-05"), written(0.1 + 0.2), written("Net income")
    ('0.00001', '0.00001', '0.3', 'Net income')
    """
    text = str(meant(value) if isinstance(value, float) else value)
    return f"{Decimal(text):f}" if EXPONENT.fullmatch(text) else text
