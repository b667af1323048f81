"""Functions of finance over tables, drawn from code_families.yaml: a list of dicts goes in, plain values come out.

Returns, drawdown, rolling mean and Sharpe ratio, average price by volume, running balances, ageing of invoices, a
backtest of moving averages; and of the split `ood` only: cost of sales first in first out, turnover, reconciliation.
Options decide what is asked where the textbook leaves it open: what is undefined, which deviation, how many periods a
year has, where a bucket ends, how columns are named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from string import Template
from textwrap import indent
from typing import Any

from ..config.yaml_file import read_yaml
from .code_function import Call, Function

FILE = Path(__file__).with_name("code_families.yaml")
KINDS = ("usual", "usual", "usual", "usual", "usual", "flat", "one row", "empty")
NAMES = ("ACME", "BOLT", "CORE", "DUNE", "ECHO", "FERN", "GALE", "HALO")
DATES = ("2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02", "2024-02-05")

FILLED: Mapping[str, tuple[Callable[[random.Random], Any], Callable[[random.Random], Any]]] = {
    "key": (lambda rng: rng.choice(NAMES[:3]), lambda rng: rng.choice(NAMES[:2])),
    "day": (lambda rng: rng.choice(DATES), lambda rng: rng.choice(DATES[1:3])),
    "id": (lambda rng: f"V{rng.randint(1, 999)}", lambda rng: f"V{rng.randint(1, 999)}"),
    "price": (lambda rng: rng.choice((0, *range(10, 60))), lambda rng: rng.randint(10, 60)),
    "nonzero": (lambda rng: rng.randint(10, 60), lambda rng: rng.randint(10, 60)),
    "amount": (lambda rng: rng.randint(-70, 90), lambda rng: rng.randint(1, 90)),
    "whole": (lambda rng: rng.randint(0, 30), lambda rng: rng.randint(1, 30)),
    "days": (lambda rng: rng.randint(0, 100), lambda rng: rng.randint(0, 100)),
    "share": (lambda rng: rng.randint(-50, 50) / 1000, lambda rng: rng.randint(-50, 50) / 1000),
    "signed": (lambda rng: rng.randint(-9, 9), lambda rng: rng.choice((-2, -1, 5, 8))),
}
"""How a column is filled -> a cell of a hidden test, and one of an example."""
TEXTS = ("key", "day", "id")


@dataclass(frozen=True)
class Family:
    """Functions that differ in their options: `$name` in texts and programs is the value of one."""

    name: str
    signature: str
    task: str
    gold: str
    """The body in plain Python."""
    flawed: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, str]
    arguments: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    pandas: str = ""
    """The body in pandas; empty: there is none."""
    second: str = ""
    """Of a function of two tables: the name of the other."""
    implied: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    """Option -> its value -> what else is replaced."""


@cache
def families(held_out: bool) -> tuple[Family, ...]:
    """Those of the split `ood`, or those of the others."""
    found = read_yaml(FILE)["held_out" if held_out else "families"]
    return tuple(Family(name, **texts) for name, texts in found.items())


def table(family: Family, rng: random.Random, library: str) -> Function:
    """A function of the family, drawn by `rng`; gold is in pandas where that is the library."""
    options = {name: str(rng.choice(values)) for name, values in family.options.items()}
    for name, value in [*options.items()]:
        for key, text in family.implied.get(name, {}).get(value, {}).items():
            options[key] = Template(str(text)).substitute(options)

    def filled(text: str) -> str:
        return Template(text).substitute(options)

    def program(body: str) -> str:
        return f"def {family.name}({filled(family.signature)}):\n{indent(filled(body).strip(), ' ' * 4)}\n"

    columns = {filled(name): kind for name, kind in family.columns.items()}
    arguments = {filled(name): values for name, values in family.arguments.items()}
    call = partial(_call, columns, arguments, int(options.get("edge", 0)), family.second)
    return Function(
        family.name,
        family.name,
        filled(family.signature),
        " ".join(filled(family.task).split()),
        program(family.pandas if library == "pandas" else family.gold),
        tuple(map(program, family.flawed)),
        {
            "example": lambda rng: call(rng.randint(4, 5), "example", rng),
            "usual": lambda rng: call(rng.randint(5, 9), "usual", rng),
            "flat": lambda rng: call(rng.randint(4, 6), "flat", rng),
            "one row": lambda rng: call(1, "usual", rng),
            "empty": lambda rng: call(0, "usual", rng),
        },
        KINDS,
    )


def _call(
    columns: Mapping[str, str],
    arguments: Mapping[str, tuple[float, ...]],
    edge: int,
    second: str,
    count: int,
    kind: str,
    rng: random.Random,
) -> Call:
    """A table of `count` rows. `flat`: numbers do not change from row to row, none is traded, days lie on an edge."""
    kwargs = {name: rng.choice(values) for name, values in arguments.items()}
    place = int(kind == "example")
    rows = [{name: FILLED[of][place](rng) for name, of in columns.items()} for _ in range(count)]
    for name, of in columns.items():
        for i, row in enumerate(rows):
            if of == "id":
                row[name] = f"{row[name]}{'abcdefghi'[i]}"
            elif kind == "flat" and of == "days":
                row[name] = kwargs["today"] - rng.choice((0, edge))
            elif kind == "flat" and of not in TEXTS:
                row[name] = 0 if of == "whole" else rows[0][name]
    args: list[Any] = [rows]
    if second:
        args.append(_other(rows, columns, kind, rng))
    return args, kwargs


def _other(rows: list[Any], columns: Mapping[str, str], kind: str, rng: random.Random) -> list[Any]:
    """The bookings of the other side: some are missing, some unknown, some of another amount."""
    key, amount = columns
    found = [{key: row[key], amount: row[amount] + rng.choice((0, 0, 1, 3, 7))} for row in rows]
    found = [row for row in found if rng.random() < 0.8]
    if kind != "example":
        found += [{key: f"X{rng.randint(1, 99)}", amount: rng.randint(1, 9)}]
    rng.shuffle(found)
    return found
