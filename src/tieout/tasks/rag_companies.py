"""Passages about made-up companies, for `rag` without documents: each question with its near misses.

The passages give what is asked, the same of another year, the same of another company, and something else of the
company and year. In half of the rows the first is replaced by the other company in the other year, and nothing answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

FIRST_NAMES = {
    "train": [
        "Alder",
        "Cobalt",
        "Dunmore",
        "Elgin",
        "Harrow",
        "Ivory",
        "Kestrel",
        "Linden",
        "Marlow",
        "Orchard",
    ],
    "calibration": ["Quarry", "Raven", "Sable"],
    "test": ["Birch", "Fenwick", "Granite", "Juniper", "Norwood"],
    "ood": ["Thistle", "Umber", "Vesper", "Willow"],
}
SECOND_NAMES = ["Foods", "Rail", "Paper", "Energy", "Mining", "Textiles", "Software", "Shipping"]
PEOPLE = ["Ada Holm", "Otto Brandt", "Nina Castell", "Hugo Lind", "Vera Okafor", "Emil Sato", "Rosa Quint"]
_CITIES = ["Leeds", "Porto", "Gdansk", "Tampere", "Lyon", "Graz", "Ghent"]
_YEARS = (2019, 2020, 2021, 2022, 2023)


class Kind(NamedTuple):
    """Something a company says of a year."""

    questions: Sequence[str]
    sentences: Sequence[str]
    value: Callable[[random.Random], str]


def _money(rng: random.Random) -> str:
    millions = rng.choice([rng.randrange(20, 990), rng.randrange(11, 99) * 100])
    return (
        f"${millions} million" if millions < 1000 else f"${millions // 1000}.{millions // 100 % 10} billion"
    )


def _measure(name: str) -> Kind:
    return Kind(
        (
            f"What was the {name} of {{company}} in {{year}}?",
            f"How large was the {name} of {{company}} in {{year}}?",
            f"In {{year}}, what did {{company}} report as its {name}?",
        ),
        (
            f"{{company}} reported {name} of {{value}} in {{year}}.",
            f"In {{year}}, {name} of {{company}} came to {{value}}.",
            f"The {name} of {{company}} was {{value}} in {{year}}.",
        ),
        _money,
    )


KINDS: Mapping[str, Kind] = {
    **{
        name: _measure(name)
        for name in (
            "revenue", "operating income", "capital expenditure", "research expense", "net debt", "free cash flow",
        )
    },
    "headcount": Kind(
        (
            "How many people did {company} employ at the end of {year}?",
            "What was the headcount of {company} at the end of {year}?",
        ),
        (
            "{company} employed {value} people at the end of {year}.",
            "At the end of {year}, the headcount of {company} was {value} people.",
        ),
        lambda rng: f"{rng.randrange(1001, 9999):,}",
    ),
    "chief executive": Kind(
        ("Who was the chief executive of {company} in {year}?", "Who led {company} as chief executive in {year}?"),
        (
            "{value} was the chief executive of {company} in {year}.",
            "In {year}, {company} was led by {value}, its chief executive.",
        ),
        lambda rng: rng.choice(PEOPLE),
    ),
    "largest plant": Kind(
        (
            "Where was the largest plant of {company} in {year}?",
            "In which city was the largest plant of {company} in {year}?",
        ),
        (
            "The largest plant of {company} was in {value} in {year}.",
            "In {year}, {company} had its largest plant in {value}.",
        ),
        lambda rng: rng.choice(_CITIES),
    ),
}  # fmt: skip
"""Name -> how it is asked, said and drawn."""


def passages(split: str, rng: random.Random) -> tuple[list[str], str, str, str, int | None]:
    """(passages, question, answer, the sentence that gives it, its place); "" and None where none of them does."""
    ours, theirs = (
        f"{a} {b}"
        for a, b in zip(rng.sample(FIRST_NAMES[split], 2), rng.sample(SECOND_NAMES, 2), strict=True)
    )
    year, other_year = rng.sample(_YEARS, 2)
    name, other_name, *asides = rng.sample(list(KINDS), 6)
    kind = KINDS[name]
    known = rng.random() < 0.5
    told = [
        (name, ours, year) if known else (name, theirs, other_year),
        (name, ours, other_year),
        (name, theirs, year),
        (other_name, ours, year),
    ]
    used = set[str]()
    written, gold = [], ("", "")
    for place, (what, company, when) in enumerate(told):
        value = _unused(KINDS[what], used, rng)
        said = rng.choice(KINDS[what].sentences).format(company=company, year=when, value=value)
        aside = KINDS[asides[place]]
        also = rng.choice(aside.sentences).format(company=company, year=when, value=_unused(aside, used, rng))
        written.append(" ".join(rng.sample([said, also], 2)))
        if known and place == 0:
            gold = (value, said)
    order = rng.sample(range(len(told)), len(told))
    question = rng.choice(kind.questions).format(company=ours, year=year)
    return [written[i] for i in order], question, *gold, order.index(0) if known else None


def _unused(kind: Kind, used: set[str], rng: random.Random) -> str:
    """A value that stands in no other sentence of the row."""
    while (value := kind.value(rng)) in used:
        pass
    used.add(value)
    return value
