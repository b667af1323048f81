"""A card of rows: how many there are in each split, of how many entities, how long they are, and how much they vary.

Shares are of LOOKED_AT rows spread over a split, so that splits of different sizes compare: of 4,000 rows a smaller
share of the 4-grams is distinct than of 400 of the same kind.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median_low
from zlib import crc32

from ..types import Row
from .leakage import words_of
from .messages import is_talk, prompt_text, whole_text
from .spread import spread

LOOKED_AT = 200
"""Rows of a split whose 4-grams are counted, and whose neighbours are looked for."""
GRAM = 4
"""Words in a gram."""
NEIGHBOUR = 0.5
"""A training prompt is a near neighbour if this share of the grams of both is in both (Jaccard's measure)."""

COMPARED = 100
"""Grams of a prompt that are enough to tell a neighbour."""

Gram = tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """The prompts of a split, without system turns, or its completions."""

    distinct: int
    """How many differ."""
    median: int
    """Length in words."""
    longest: int
    """In words."""
    distinct_grams: float
    """Of all 4-grams of the rows that are looked at, the share that differs from those before it."""


@dataclass(frozen=True)
class Card:
    """One split."""

    split: str
    rows: int
    entities: int | None
    """How many differ; None if the task does not name any."""
    prompts: Texts
    completions: Texts | None
    """None: the rows have no gold."""
    near: float
    """Share of the prompts looked at to which another prompt, of `train`, is a near neighbour."""


def cards(
    splits: Mapping[str, Sequence[Row]],
    gold: Callable[[Row], str | None] | None = None,
    entity: str = "",
) -> list[Card]:
    """A card for every split that has rows.

    Args:
        splits: split -> its rows. Neighbours are looked for in `train`.
        gold: the completion of a row; None: its column `completion`.
        entity: the column that names the entity of a row, if there is one.
    """
    prompts = {split: [_prompt(row) for row in rows] for split, rows in splits.items() if len(rows)}
    if not prompts:
        return []
    looked = {split: spread(texts, LOOKED_AT) for split, texts in prompts.items()}
    train = Counter(prompts.get("train", []))
    near = _near({text for texts in looked.values() for text in texts}, train)
    found = []
    for split, texts in prompts.items():
        rows = splits[split]
        completions = [text for row in rows if (text := _completion(row, gold)) is not None]
        named = {str(row[entity]) for row in rows if row.get(entity) is not None} if entity else set[str]()
        mine = [text in near or train[text] > (split == "train") for text in looked[split]]
        found.append(
            Card(
                split,
                len(rows),
                len(named) or None,
                _texts(texts),
                _texts(completions) if completions else None,
                sum(mine) / len(mine),
            )
        )
    return found


def shared_entities(splits: Mapping[str, Sequence[Row]], entity: str) -> dict[tuple[str, str], set[str]]:
    """Two splits -> the entities that rows of both are about, where there are any."""
    of = {split: {str(row[entity]) for row in rows if row.get(entity)} for split, rows in splits.items()}
    return {pair: both for pair in combinations(of, 2) if (both := of[pair[0]] & of[pair[1]])}


def _prompt(row: Row) -> str:
    return prompt_text(row.get("prompt") or "", leave_out=("system",))


def _completion(row: Row, gold: Callable[[Row], str | None] | None) -> str | None:
    said = row.get("completion") if gold is None else gold(row)
    return None if said is None else whole_text(said) if is_talk(said) else str(said)


def _texts(texts: Sequence[str]) -> Texts:
    lengths = [len(words_of(text)) for text in texts]
    grams = Counter(gram for text in spread(texts, LOOKED_AT) for gram in _grams(text))
    return Texts(len(set(texts)), median_low(lengths), max(lengths), len(grams) / grams.total())


def _grams(text: str) -> list[Gram]:
    """Every run of 4 words; of a shorter text, itself."""
    words = words_of(text)
    return [tuple(words[i : i + GRAM]) for i in range(max(1, len(words) - GRAM + 1))]


def _near(looked: Iterable[str], train: Iterable[str]) -> set[str]:
    """The texts to which another one, of `train`, is a near neighbour.

    Long texts are compared by a part of their grams, which is chosen by hash: about COMPARED of a usual one.
    """
    grams = {text: _grams(text) for text in looked}
    every = max(1, median_low([len(own) for own in grams.values()]) // COMPARED)
    mine = {text: _part(own, every) for text, own in grams.items()}
    holders = defaultdict[Gram, list[str]](list)
    for text, own in mine.items():
        for gram in own:
            holders[gram].append(text)
    found = set[str]()
    for other in train:
        its = _part(_grams(other), every)
        shared = Counter(text for gram in its & holders.keys() for text in holders[gram])
        for text, both in shared.items():
            if text != other and both >= NEIGHBOUR * (len(its) + len(mine[text]) - both):
                found.add(text)
    return found


def _part(grams: Sequence[Gram], every: int) -> set[Gram]:
    return {gram for gram in grams if every == 1 or crc32(" ".join(gram).encode()) % every == 0}
