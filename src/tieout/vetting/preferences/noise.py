"""Noise of labels, from pairs that were judged more than once.

Two labels of one pair, each the wrong way round with probability e and independently, differ with probability
d = 2 e (1 - e). So the rate of flips is e = (1 - sqrt(1 - 2 d)) / 2. It is a lower bound where labels are not
independent (one person's repeats show what they are unsure of and not what they are wrong about), and where those that
differ may be missing: an export of pairs lacks what nobody could settle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import sqrt
from typing import Any

from ...evidence.stats import Estimate, mean
from ...labelling.scheme import Scheme
from ...labelling.values import SKIP, decisions
from ...rows.near_copies import PairText
from ...types import Row

BETWEEN, ROWS, ITSELF = "between people", "rows that repeat", "of one person with themselves"
WANTED = {"what", "id", "annotator", "item", "round", "value"}
"""What a judgement of `tieout label` has, at least."""
DECIDED = ("a", "b")
MOST = 20
"""Rows of one pair that are compared with each other."""


@dataclass(frozen=True)
class Repeats:
    """What repeated labels of one kind say. `n` counts two labels of one pair."""

    agree: Estimate
    flips: Estimate
    """Share of single labels that are the wrong way round."""
    undecided: int
    """Two labels of which at least one is a tie; they are in neither figure."""
    at_least: bool
    """Whether the flips are a lower bound."""


def noise(
    texts: Sequence[PairText], said: Sequence[Mapping[str, Any]], whole: bool = False, seed: int = 0
) -> dict[str, Repeats]:
    """Kind of repeats -> what they say; the most telling one first. Empty: nothing was judged twice.

    Args:
        texts: the pairs; where some contradict each other, they are labels of their own.
        said: judgements of `tieout label`.
        whole: whether these are all that were made.
        seed: of the intervals.
    """
    between = {} if agreed_only(said, whole) else _between(said)
    found = {
        BETWEEN: _repeats(between, not whole, seed),
        ROWS: _repeats(_repeated_rows(texts), True, seed),
        ITSELF: _repeats(_itself(said), True, seed),
    }
    return {kind: one for kind, one in found.items() if one.agree.n}


def agreed_only(said: Sequence[Mapping[str, Any]], whole: bool = False) -> bool:
    """Whether two people can only agree in what is there: an export of pairs has those that more than half decided."""
    own = _between(said)
    return (
        not whole and any(own.values()) and all(len(x) == 1 and x[0][0] == x[0][1] for x in own.values() if x)
    )


def flip_rate(differ: float) -> float:
    """The rate of flips of one label, from the share of two labels that differ.

    >>> round(flip_rate(0.18), 6), flip_rate(0.7)
    (0.1, 0.5)
    """
    return (1 - sqrt(max(0.0, 1 - 2 * differ))) / 2


def worth(flips: float) -> float:
    """Share of pairs without noise that tell as much as these: (1 - 2 e)^2, the slope of a mean label squared."""
    return max(0.0, 1 - 2 * flips) ** 2


def judgements(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The judgements that exports of `tieout label` carry, each once; those that settled a dispute are left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        own = row.get("judgements")
        for one in own if isinstance(own, list) else ():
            if isinstance(one, Mapping) and set(one) >= WANTED and one["what"] == "judgement":
                found.setdefault(str(one["id"]), one)
    return list(found.values())


def _votes(said: Mapping[str, Any]) -> dict[str, str]:
    """Question -> answer of one judgement; none where it is no comparison, or was skipped."""
    value = said["value"]
    if value == SKIP or not isinstance(value, str | list):
        return {}
    try:
        found = decisions(value, Scheme("pairs" if isinstance(value, str) else "rankings"))
    except (TypeError, ValueError):  # spans, or another program's column of this name
        return {}
    return {question: answer for question, answer in found.items() if isinstance(answer, str)}


def _between(said: Sequence[Mapping[str, Any]]) -> dict[Hashable, list[tuple[str, str]]]:
    """Item -> the answers of every two people to each of its questions."""
    votes: dict[Any, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in said:
        if one["round"] == 0:
            for question, answer in _votes(one).items():
                votes[one["item"]][question].append(answer)
    return {
        item: [two for answers in own.values() for two in combinations(answers, 2)]
        for item, own in votes.items()
    }


def _itself(said: Sequence[Mapping[str, Any]]) -> dict[Hashable, list[tuple[str, str]]]:
    """Item -> what one person answered to each question first, and again."""
    by_slot = {(one["item"], one["annotator"], one["round"]): _votes(one) for one in said}
    found: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for (item, person, round), again in by_slot.items():
        first = by_slot.get((item, person, 0), {})
        if round:
            found[item] += [
                (first[question], answer) for question, answer in again.items() if question in first
            ]
    return found


def _repeated_rows(texts: Sequence[PairText]) -> dict[Hashable, list[tuple[str, str]]]:
    """Prompt and two completions -> which of them each two of its rows prefer; none where no rows differ: copies.

    None, too, where all of them differ: of a file whose copies were taken out, only contradictions are left.
    """
    votes: dict[Hashable, list[str]] = defaultdict(list)
    for text in texts:
        prompt, chosen, rejected = text.words
        votes[prompt, *sorted((chosen, rejected))].append("a" if chosen < rejected else "b")
    pairs = {key: list(combinations(own[:MOST], 2)) for key, own in votes.items() if own[1:]}
    agree = {one == other for own in pairs.values() for one, other in own}
    return pairs if len(agree) == 2 else {}


def _repeats(pairs: Mapping[Hashable, Sequence[tuple[str, str]]], at_least: bool, seed: int) -> Repeats:
    agree, clusters, undecided = list[float](), list[Hashable](), 0
    for item, own in pairs.items():
        for one, other in own:
            if one in DECIDED and other in DECIDED:
                agree.append(float(one == other))
                clusters.append(item)
            else:
                undecided += 1
    same = mean(agree, clusters, seed=seed)
    if same.value is None or same.low is None or same.high is None:
        return Repeats(same, same, undecided, at_least)
    value, low, high = (flip_rate(1 - end) for end in (same.value, same.high, same.low))
    flips = replace(same, value=value, low=low, high=high, standard_error=None)
    return Repeats(same, flips, undecided, at_least)
