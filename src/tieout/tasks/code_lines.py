"""A grammar of functions of one or two lines over a table: what is computed, of which rows.

    largest, smallest, total, average, number, list, sorted names, first, any  x  a column or a product of two
    x  no condition, one or two of: column is, is not, above, below, at least, at most

For a small model. Families are the words of the first line; `HELD_OUT` of them occur in the split `ood` only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from .code_function import Call, Function

Column = tuple[str, ...] | tuple[int, int]
"""The texts of a column, or the range of its whole numbers."""
KINDS = ("usual", "usual", "usual", "usual", "boundary", "boundary", "one row", "empty")
PLAIN_KINDS = tuple("usual" if kind == "boundary" else kind for kind in KINDS)
"""Where no number is compared."""

TABLES: dict[str, dict[str, Column]] = {
    "trades": {"side": ("buy", "sell"), "shares": (1, 60), "price": (1, 90)},
    "invoices": {"status": ("open", "paid", "late"), "days": (0, 99), "amount": (1, 90)},
    "loans": {"grade": ("A", "B", "C"), "months": (1, 60), "balance": (0, 99)},
    "payments": {"kind": ("fee", "rent", "tax"), "day": (1, 28), "amount": (-50, 90)},
    "positions": {"sector": ("energy", "health", "retail"), "units": (1, 60), "cost": (1, 90)},
    "orders": {"region": ("north", "south"), "items": (1, 40), "price": (1, 90)},
}
PRODUCTS = {"trades": ("shares", "price"), "positions": ("units", "cost"), "orders": ("items", "price")}

ABOVE = {
    ">": ("above", "more than", "over"),
    "<": ("below", "less than", "under"),
    ">=": ("at least", "no less than"),
    "<=": ("at most", "no more than"),
}
NEAR = {">": ">=", "<": "<=", ">=": ">", "<=": "<"}
"""The usual mistake: what happens at the number itself."""


@dataclass(frozen=True)
class Condition:
    """Of a row: `words` in the text, `code` in the program, and what is often written instead."""

    words: str
    code: str
    mistaken: str
    column: str = ""
    number: int = 0
    """Of a condition on a number, for rows at the boundary."""
    beside: tuple[str, ...] = ()
    """The same with the number before and the number after."""


@dataclass(frozen=True)
class Aggregate:
    """What is made of the chosen rows: VALUE of each, in `rows` that MATCH."""

    words: tuple[str, ...]
    body: str
    of: str = "number"
    """number: a column of numbers or a product; text: a column of text; rows: no column."""
    none: str = ""
    """Said of a table in which no row is chosen."""
    unguarded: str = ""
    """The body that fails there."""


AGGREGATES = {
    "total": Aggregate(("total", "sum of"), "return sum({value} for r in {rows}{match})"),
    "largest": Aggregate(
        ("largest", "highest"),
        "return max(({value} for r in {rows}{match}), default=0)",
        none="0 if there are none",
        unguarded="return max({value} for r in {rows}{match})",
    ),
    "average": Aggregate(
        ("average", "mean"),
        "found = [{value} for r in {rows}{match}]\n    return sum(found) / len(found) if found else 0",
        none="0 if there are none",
        unguarded="found = [{value} for r in {rows}{match}]\n    return sum(found) / len(found)",
    ),
    "number": Aggregate(("number of", "count of"), "return sum(1 for r in {rows}{match})", of="rows"),
    "list": Aggregate(("list of every", "list of each"), "return [{value} for r in {rows}{match}]"),
    "names": Aggregate(
        ("sorted list, without repeats, of every", "sorted list of each different"),
        "return sorted({{{value} for r in {rows}{match}}})",
        of="text",
    ),
    "smallest": Aggregate(
        ("smallest", "lowest"),
        "return min(({value} for r in {rows}{match}), default=0)",
        none="0 if there are none",
        unguarded="return min({value} for r in {rows}{match})",
    ),
    "last": Aggregate(
        ("last",),
        "found = [{value} for r in {rows}{match}]\n    return found[-1] if found else None",
        none="None if there are none",
        unguarded="return [{value} for r in {rows}{match}][-1]",
    ),
    "range": Aggregate(
        ("range (largest minus smallest) of",),
        "found = [{value} for r in {rows}{match}]\n    return max(found) - min(found) if found else 0",
        none="0 if there are none",
        unguarded="found = [{value} for r in {rows}{match}]\n    return max(found) - min(found)",
    ),
}
HELD_OUT = ("smallest", "last", "range")
"""Families of the split `ood` only."""
FAMILIES = tuple(name for name in AGGREGATES if name not in HELD_OUT)


def line(family: str, rng: random.Random) -> Function:
    """A function of the family, drawn by `rng`."""
    rows = rng.choice(list(TABLES))
    columns, aggregate = TABLES[rows], AGGREGATES[family]
    text, first, second = columns
    words, value, name = rows, "r", rows
    if aggregate.of == "text":
        words, value, name = text, f'r["{text}"]', text
    elif aggregate.of == "number":
        column = rng.choice((first, second))
        words, value, name = column, f'r["{column}"]', column
        if rows in PRODUCTS and rng.random() < 0.35:
            words, value, name = f"{first} times {second}", f'r["{first}"] * r["{second}"]', "value"
    # The sorted texts of a column under a condition on that column would be one text.
    usable = (first, second) if aggregate.of == "text" else (text, first, second)
    chosen = rng.sample(usable, rng.choice((0, 1, 1, 2, 2) if aggregate.of != "rows" else (1, 1, 2)))
    conditions = [_condition(column, columns[column], rng) for column in chosen]

    def body(form: str, value: str, matches: list[str]) -> str:
        match = " if " + " and ".join(matches) if matches else ""
        return form.format(value=value, rows=rows, match=match)

    right = [condition.code for condition in conditions]
    flawed = [
        body(aggregate.body, value, [*right[:i], condition.mistaken, *right[i + 1 :]])
        for i, condition in enumerate(conditions)
        if condition.mistaken
    ]
    missed = [
        body(aggregate.body, value, [*right[:i], *other, *right[i + 1 :]])
        for i, condition in enumerate(conditions)
        for other in ((), *((code,) for code in condition.beside))
    ]
    flawed += [body(aggregate.body, value, right[:-1])] if right else []
    flawed += [body(aggregate.body, f'r["{second}"]', right)] if name == "value" else []
    flawed += [body(aggregate.unguarded, value, right)] if aggregate.unguarded else []
    rng.shuffle(flawed)
    flawed.append(body(aggregate.body, value, right).replace(f"in {rows}", f"in {rows}[:2]"))
    entry = f"{family}_{name}"
    heading = f"def {entry}({rows}):\n    "
    which = f" whose {' and '.join(one.words for one in conditions)}" if conditions else ""
    of = f" of the {rows}" if aggregate.of != "rows" else ""
    said = f"Return the {rng.choice(aggregate.words)} {words}{of}{which}"
    return Function(
        family,
        entry,
        rows,
        f"{said}{', ' if aggregate.none else ''}{aggregate.none}.",
        heading + body(aggregate.body, value, right) + "\n",
        tuple(f"{heading}{one}\n" for one in flawed),
        {
            "example": lambda rng: _call(columns, (), 2, rng),
            "usual": lambda rng: _call(columns, (), rng.randint(4, 9), rng),
            "boundary": lambda rng: _call(columns, conditions, rng.randint(3, 6), rng),
            "one row": lambda rng: _call(columns, (), 1, rng),
            "empty": lambda rng: _call(columns, (), 0, rng),
        },
        KINDS if any(one.column for one in conditions) else PLAIN_KINDS,
        tuple(f"{heading}{one}\n" for one in (*flawed, *missed)),
    )


def _condition(name: str, column: Column, rng: random.Random) -> Condition:
    low, high = column[0], column[-1]
    if isinstance(low, str):
        wanted, negated = rng.choice(column), rng.random() < 0.3
        words = f"{name} is {'not ' if negated else ''}{wanted}"
        return Condition(words, f'r["{name}"] {"!=" if negated else "=="} "{wanted}"', "")
    assert isinstance(high, int)
    sign = rng.choice(list(ABOVE))
    number = rng.randint(low + (high - low) // 4, high - (high - low) // 4)
    said = f"{name} is {rng.choice(ABOVE[sign])} {number}"
    code = f'r["{name}"] {{}} {number}'
    beside = tuple(f'r["{name}"] {sign} {other}' for other in (number - 1, number + 1))
    return Condition(said, code.format(sign), code.format(NEAR[sign]), name, number, beside)


def _call(
    columns: dict[str, Column], near: list[Condition] | tuple[()], count: int, rng: random.Random
) -> Call:
    """A table of `count` rows; with `near`, their numbers lie at those of the conditions, or next to them."""
    rows = list[dict[str, Any]]()
    for _ in range(count):
        row: dict[str, Any] = {name: _cell(column, rng) for name, column in columns.items()}
        row |= {one.column: one.number + rng.choice((-1, 0, 0, 1)) for one in near if one.column}
        rows.append(row)
    return [rows], {}


def _cell(column: Column, rng: random.Random) -> str | int:
    low, high = column[0], column[-1]
    if isinstance(low, int) and isinstance(high, int):
        return rng.randint(low, high)
    return str(rng.choice(column))
