"""Passages about made-up companies, for `rag` without documents: each question with its near misses.

A near miss differs from what is asked in one of three things: what is told, company, year. The passages are the answer,
two near misses and one that differs in two things; or, in half of the rows, four near misses, and nothing answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .calls import company_names

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


MEASURES = (
    "revenue", "operating income", "capital expenditure", "research expense", "net debt", "free cash flow",
)  # fmt: skip
KINDS: Mapping[str, Kind] = {
    **{name: _measure(name) for name in MEASURES},
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


def passages(
    split: str, rng: random.Random, withheld: float = 0.5, *, short: bool = False
) -> tuple[list[str], str, str, str, int | None]:
    """(passages, question, answer, the sentence that gives it, its place); "" and None where none of them does.

    `withheld` is the share that nothing answers. `short` passages are sentences of one year, worded alike, about money.
    How often the company, the year and what is asked stand there, and how many others do, is the same with and without
    an answer.
    """
    things = 2 if short else 3  # what is told, company and, of long passages, year
    firsts = rng.sample(company_names(split) if short else FIRST_NAMES[split], 3)
    seconds = rng.sample(SECOND_NAMES, 3)
    companies = [f"{first} {second}" for first, second in zip(firsts, seconds, strict=True)]
    years = rng.sample(_YEARS, 3)
    kinds = rng.sample(MEASURES, 3) if short else rng.sample(list(KINDS), 3 + 4)
    near = [[int(place == differs) for place in range(3)] for differs in range(things)]
    left_out, also = rng.sample(range(things), 2)
    known = rng.random() < 1 - withheld
    if known:
        far = [1 if place == left_out else 2 * (place == also) for place in range(3)]
        told = [[0, 0, 0], *(one for one in near if not one[left_out]), far]
    else:
        told = [*near, [2 * differs for differs in near[also]]]
    form = rng.randrange(3) if short else None
    used = set[str]()
    written, gold = [], ("", "")
    for place, (what, who, when) in enumerate(told):
        kind, about = KINDS[kinds[what]], {"company": companies[who], "year": years[when]}
        value = _unused(kind, used, rng)
        sentence = rng.choice(kind.sentences) if form is None else kind.sentences[form]
        said = sentence.format(**about, value=value)
        if known and place == 0:
            gold = (value, said)
        if short:
            written.append(said)
            continue
        aside = KINDS[kinds[3 + place]]
        also_said = rng.choice(aside.sentences).format(**about, value=_unused(aside, used, rng))
        written.append(" ".join(rng.sample([said, also_said], 2)))
    order = rng.sample(range(len(told)), len(told))
    question = rng.choice(KINDS[kinds[0]].questions).format(company=companies[0], year=years[0])
    return [written[i] for i in order], question, *gold, order.index(0) if known else None


def _unused(kind: Kind, used: set[str], rng: random.Random) -> str:
    """A value that stands in no other sentence of the row."""
    while (value := kind.value(rng)) in used:
        pass
    used.add(value)
    return value
