"""Transcripts of earnings calls: an operator, prepared remarks, questions and answers, made of facts and small talk.

Each fact is said once. Around it stand remarks without any fact, anecdotes with figures that do not matter, and
questions of analysts, who may name a figure that is not the company's. `calls.yaml` has the phrases.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PHRASES = Path(__file__).with_name("calls.yaml")
TENTHS = {"train": (0, 7), "calibration": (7, 8), "test": (8, 9), "ood": (9, 10)}
"""The part of the companies and surnames that a split has to itself."""
_SLOT = re.compile(r"\{(\w+)\}")
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Fact:
    """A fact of one call."""

    kind: str
    topic: str
    """What an analyst asks about."""
    written: str
    """The sentence of a summary."""
    said: str
    """The sentence of the transcript."""


@dataclass(frozen=True)
class Call:
    """A transcript, and what is to be known of it."""

    company: str
    text: str
    """A line `Speaker: ...` for each turn."""
    facts: tuple[Fact, ...]
    """In the order of a summary, revenue first, which need not be the order in which they are said."""


def make_call(rng: random.Random, split: str, num_words: int, num_facts: int) -> Call:
    """A call of about so many words that says so many facts: two thirds in prepared remarks, a third when asked."""
    surnames = rng.sample(_part(_phrases()["names"]["last"].split(), split), 4)
    chief, finance, newcomer, _ = people = [f"{_filled(rng, '{first}')} {surname}" for surname in surnames]
    company = f"{rng.choice(company_names(split))} {_filled(rng, '{line}')}"
    facts = _facts(rng, num_facts, newcomer, ood=split == "ood")
    order = rng.sample(facts, num_facts)
    asked, remarks = order[: num_facts // 3], [fact.said for fact in order[num_facts // 3 :]]
    half = (len(remarks) + 1) // 2
    prepared = [[f"{chief}:", *remarks[:half]], [f"{finance}:", *remarks[half:]]]
    asking, answering = [], []
    for fact in asked:
        question = _sentence(_filled(rng, "{ask}", topic=fact.topic))
        asking.append(
            [f"{people[3]}, {_filled(rng, '{bank}')}:", _filled(rng, "{hello}. {model}") + question]
        )
        answering.append([f"{rng.choice((chief, finance))}: {_filled(rng, '{answer}')}", fact.said])
    welcome = _filled(rng, rng.choice(_phrases()["welcomes"]), company=company, chief=chief)
    exchanges = [turn for pair in zip(asking, answering, strict=True) for turn in pair]
    turns = [["Operator:", welcome], *prepared, *exchanges]
    _pad(rng, [*prepared, *answering], num_words - sum(len(part.split()) for turn in turns for part in turn))
    text = "\n".join(" ".join(" ".join(turn).split()) for turn in turns)
    return Call(company, text, tuple(facts))


def _pad(rng: random.Random, turns: Sequence[list[str]], missing: int) -> None:
    """Put remarks and anecdotes between the sentences of the turns, until so many words are added."""
    while missing > 0:
        forms = _phrases()["anecdotes" if rng.random() < 0.2 else "remarks"]
        remark = _sentence(_filled(rng, rng.choice(forms)))
        turn = rng.choice(turns)
        turn.insert(rng.randrange(1, len(turn) + 1), remark)
        missing -= len(remark.split())


def _facts(rng: random.Random, count: int, newcomer: str, *, ood: bool) -> list[Fact]:
    kinds: Mapping[str, Any] = _phrases()["facts"]
    chosen = {"revenue", *rng.sample([kind for kind in kinds if kind != "revenue"], count - 1)}
    return [_fact(rng, kind, kinds[kind], newcomer, ood) for kind in kinds if kind in chosen]


def _fact(rng: random.Random, name: str, kind: Mapping[str, Any], newcomer: str, ood: bool) -> Fact:
    given = {**rng.choice(_phrases()["directions"]), "n": newcomer}
    for slot, pool in kind["draw"].items():
        seen = pool != "segment" or not ood
        given[slot] = _drawn(rng, pool if seen else "segment_ood")
    spoken = kind["spoken"][-1] if ood else rng.choice(kind["spoken"][:-1])
    cause = "{cause}" if kind.get("cause") else ""
    said = _sentence(_filled(rng, f"{{link}}{spoken}{cause}.", **given))
    return Fact(name, _filled(rng, kind["topic"], **given), _filled(rng, kind["written"], **given), said)


def _drawn(rng: random.Random, pool: str) -> str:
    """A figure of a range, a percentage, a margin, or one of the fillings of a slot."""
    if found := _RANGE.fullmatch(pool):
        return f"{rng.randrange(int(found[1]), int(found[2])):,}"
    if pool == "percent":
        return str(rng.randrange(2, 40)) if rng.random() < 0.6 else f"{rng.randrange(20, 250) / 10:.1f}"
    if pool == "margin":
        return f"{rng.randrange(31, 260) / 10:.1f}"
    return _filled(rng, f"{{{pool}}}")


def _filled(rng: random.Random, text: str, **given: str) -> str:
    """The text with every slot filled, also those of what fills it."""
    slots = _phrases()["slots"]
    while match := _SLOT.search(text):
        name = match[1]
        filling = (
            given[name]
            if name in given
            else _drawn(rng, "3-90")
            if name == "small"
            else rng.choice(slots[name])
        )
        text = text[: match.start()] + filling + text[match.end() :]
    return text


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def _phrases() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(PHRASES.read_text(encoding="utf-8"))
    return {**found, "slots": {**found["slots"], "first": found["names"]["first"].split()}}


def company_names(split: str) -> Sequence[str]:
    """First words of the names of a split's companies."""
    return _part(_companies(), split)


@cache
def _companies() -> Sequence[str]:
    names = _phrases()["names"]
    every = [start + end for start in names["start"].split() for end in names["end"].split()]
    return random.Random("companies").sample(every, len(every))


def _part(names: Sequence[str], split: str) -> Sequence[str]:
    first, last = TENTHS[split]
    return [name for place, name in enumerate(names) if first <= place % 10 < last]
