"""Negative controls: things the embedded base can do already, and which fine-tuning on a task must not break.

A row, as `task.rows("test")` gives it:

    {"prompt": [{"role": "user", "content": "Mara lives in Oslo. ... Where does Mara live?"}],
     "answer": "Oslo", "skill": "facts"}

Every skill is a seeded generator of `Exercise`s. The embedded base is trained on the same generators with
other seeds, so the rows test what it was taught and not what it memorised (definitions and small sums, which
are finite, are the exception). The reward is exact match after whitespace normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from ..rewards.text.thinking import after_thinking
from ..types import Row
from . import Task
from .glossary import GLOSSARY

NUM_TEST = 720
"""Rows of the test split: an equal number of each skill."""

_NAMES = [
    "Mara",
    "Ivo",
    "Lena",
    "Otto",
    "Nina",
    "Hugo",
    "Vera",
    "Karl",
    "Ada",
    "Emil",
    "Rosa",
    "Finn",
    "Iris",
    "Noah",
    "Clara",
    "Leon",
    "Tessa",
    "Jonas",
    "Alma",
    "Felix",
    "Ruth",
    "Oscar",
    "Edith",
    "Bruno",
    "Helga",
    "Simon",
    "Greta",
    "Anton",
    "Maya",
    "Victor",
]
_CITIES = [
    "Oslo",
    "Lima",
    "Cairo",
    "Paris",
    "Delhi",
    "Quito",
    "Tunis",
    "Hanoi",
    "Milan",
    "Perth",
    "Accra",
    "Bonn",
    "Dakar",
    "Seoul",
    "Turin",
    "Vienna",
    "Lagos",
    "Porto",
    "Riga",
    "Doha",
    "Sofia",
    "Kyoto",
    "Tampa",
    "Leeds",
]
_JOBS = [
    "auditor",
    "lawyer",
    "nurse",
    "pilot",
    "baker",
    "teacher",
    "engineer",
    "painter",
    "farmer",
    "banker",
    "driver",
    "chemist",
]
_COLORS = ["red", "blue", "green", "black", "white", "yellow", "purple", "brown", "orange", "pink"]
_GOODS = [
    "copper",
    "wheat",
    "cotton",
    "timber",
    "coffee",
    "sugar",
    "silver",
    "rice",
    "barley",
    "cocoa",
    "rubber",
    "salt",
    "steel",
    "glass",
    "paper",
    "wool",
    "honey",
    "tea",
    "cement",
    "coal",
]
_KEYS = [
    "name",
    "city",
    "job",
    "color",
    "age",
    "item",
    "price",
    "count",
    "code",
    "owner",
    "place",
    "role",
    "unit",
    "amount",
    "label",
    "rank",
    "site",
    "kind",
    "score",
    "level",
]


@dataclass(frozen=True, slots=True)
class Exercise:
    """One question with the only right answer."""

    skill: str
    """Which generator wrote it."""
    prompt: tuple[dict[str, str], ...]
    """The messages, ending with a user's turn."""
    answer: str
    """What the completion must be, up to whitespace."""


def _exercise(skill: str, question: str, answer: str, system: str | None = None) -> Exercise:
    head = ({"role": "system", "content": system},) if system else ()
    return Exercise(skill, (*head, {"role": "user", "content": question}), answer)


def definitions(rng: Random) -> Exercise:
    """A finance word and its definition, from a fixed glossary."""
    term = rng.choice(sorted(GLOSSARY))
    ask = rng.choice(["What is {}?", "Define {}.", "What does {} mean?", "Explain the term {}."])
    return _exercise("definitions", ask.format(term), GLOSSARY[term])


def arithmetic(rng: Random) -> Exercise:
    """Sums and differences below 20, and which of two figures is larger."""
    kind = rng.randrange(3)
    if kind == 0:
        a, b = rng.randrange(1, 11), rng.randrange(1, 10)
        return _exercise(
            "arithmetic", rng.choice(["What is {} + {}?", "{} plus {}?"]).format(a, b), str(a + b)
        )
    if kind == 1:
        a, b = sorted((rng.randrange(0, 20), rng.randrange(0, 20)), reverse=True)
        return _exercise(
            "arithmetic", rng.choice(["What is {} - {}?", "{} minus {}?"]).format(a, b), str(a - b)
        )
    a, b = rng.sample(range(10, 100), 2)
    return _exercise("arithmetic", f"Which is larger, {a} or {b}?", str(max(a, b)))


def copying(rng: Random) -> Exercise:
    """A line of words and figures to be repeated verbatim."""
    words: list[str] = []
    for _ in range(rng.randrange(3, 10)):
        kind = rng.randrange(3)
        if kind == 0:
            words.append(rng.choice(_NAMES + _CITIES))
        elif kind == 1:
            words.append(rng.choice(_GOODS + _JOBS + _COLORS))
        else:
            words.append(_figure(rng))
    line = " ".join(words)
    ask = rng.choice(["Repeat this line: {}", "Copy this line exactly.\n{}", "Repeat:\n{}"])
    return _exercise("copying", ask.format(line), line)


def lookup(rng: Random) -> Exercise:
    """A small table of goods and prices, and the price of one of them."""
    goods = rng.sample(_GOODS, rng.randrange(3, 9))
    between = rng.choice([": ", "  ", " = ", " | ", "\t"])
    prices = [_figure(rng) for _ in goods]
    table = "\n".join(f"{good}{between}{price}" for good, price in zip(goods, prices, strict=True))
    at = rng.randrange(len(goods))
    ask = rng.choice(["What is the price of {}?", "How much is {}?", "Give the figure for {}."])
    return _exercise("lookup", f"{table}\n\n{ask.format(goods[at])}", prices[at])


def facts(rng: Random) -> Exercise:
    """A few sentences about people, and a question on one of them."""
    people = rng.sample(_NAMES, rng.randrange(2, 5))
    cities, jobs = rng.sample(_CITIES, len(people)), rng.sample(_JOBS, len(people))
    told, asked = [], []
    for name, city, job in zip(people, cities, jobs, strict=True):
        told.append(f"{name} lives in {city}." if rng.random() < 0.5 else f"{name} is from {city}.")
        article = "an" if job[0] in "ae" else "a"
        told.append(f"{name} {rng.choice(('works as', 'is'))} {article} {job}.")
        asked += [(f"Where does {name} live?", city), (f"What is the job of {name}?", job)]
        asked += [(f"Who is from {city}?", name), (f"Who works as {job}?", name)]
    rng.shuffle(told)
    question, answer = rng.choice(asked)
    return _exercise("facts", f"{' '.join(told)}\n{question}", answer)


def json_objects(rng: Random) -> Exercise:
    """Facts as `key is value`, to be answered as a JSON object with some of the keys in the order asked."""
    keys = rng.sample(_KEYS, rng.randrange(2, 5))
    values: dict[str, Any] = {key: _value(rng) for key in keys}
    told = ", ".join(f"{key} is {value}" for key, value in values.items())
    asked = keys if rng.random() < 0.5 else rng.sample(keys, rng.randrange(1, len(keys) + 1))
    listed = asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])} and {asked[-1]}"
    system = f"Answer with JSON with the {'key' if len(asked) == 1 else 'keys'} {listed}."
    answer = json.dumps({key: values[key] for key in asked})
    if rng.random() < 0.5:
        return _exercise("json", f"The {told}.", answer, system)
    return _exercise("json", f"The {told}. {system}", answer)


def _figure(rng: Random) -> str:
    return f"{rng.randrange(1, 10 ** rng.randrange(1, 6)):,}"


def _value(rng: Random) -> str | int:
    return rng.randrange(1, 1000) if rng.random() < 0.5 else rng.choice(_NAMES + _CITIES + _COLORS + _GOODS)


SKILLS: dict[str, Callable[[Random], Exercise]] = {
    "definitions": definitions,
    "arithmetic": arithmetic,
    "copying": copying,
    "lookup": lookup,
    "facts": facts,
    "json": json_objects,
}
"""Skill name -> a generator that draws one exercise."""


@cache
def _rows(split: str) -> tuple[Row, ...]:
    if split != "test":
        return ()
    rng, seen, rows = Random(f"controls:{split}"), set(), []
    for skill, draw in SKILLS.items():
        kept = 0
        while kept < NUM_TEST // len(SKILLS):
            exercise = draw(rng)
            key = json.dumps(exercise.prompt)
            if key not in seen:
                seen.add(key)
                kept += 1
                rows.append({"prompt": list(exercise.prompt), "answer": exercise.answer, "skill": skill})
    return tuple(rows)


def exact_match(completions: list[str], answer: list[str], **_: Any) -> list[float | None]:
    """1 where what the completion says after its thinking is the answer, whitespace normalised; else 0."""
    return [
        1.0 if " ".join((after_thinking(completion) or "").split()) == " ".join(gold.split()) else 0.0
        for completion, gold in zip(completions, answer, strict=True)
    ]


task = Task(
    name="controls",
    rows=_rows,
    reward=exact_match,
    gold=lambda row: str(row["answer"]),
    max_new_tokens=96,
)
"""The negative-control set. Only `test` has rows: controls are never trained on."""
