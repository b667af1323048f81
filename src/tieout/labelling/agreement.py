"""Agreement of people: Krippendorff's alpha and Gwet's AC1 with bootstrap intervals over items, and people's biases.

Two people are compared on questions with one answer (`values.decisions`): which completion is better, which level a
criterion has, which label a word has. Items are resampled whole, since the questions of one item are not independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evidence.stats import LEVEL, Estimate, proportion
from .disputes import answers
from .journal import Entry
from .scheme import Scheme
from .state import State
from .values import decisions

RESAMPLES, MOST_UNITS = 1000, 3_000_000
"""Fewer resamples, down to 100, where there would be more units in all of them."""
LONGER = 1.1
"""A completion is the longer one from this ratio on."""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How far people agree beyond chance, on what several of them judged."""

    alpha: Estimate
    """Krippendorff's; ordinal for grades, nominal otherwise. `n`: items that several judged."""
    ac1: Estimate
    """Gwet's, which does not collapse where almost all answers are the same."""


@dataclass(frozen=True)
class Person:
    """How one annotator judges."""

    judged: int
    skipped: int
    seconds: float | None
    """Median time per item."""
    first: Estimate
    """Share of decided pairs in which the completion shown first won: 0.5 without bias."""
    longer: Estimate
    """Share of decided pairs of unlike length in which the longer one won."""
    itself: Estimate
    """Share of items judged twice on which both answers are the same."""


def agreement(state: State, scheme: Scheme, seed: int = 0) -> Agreement:
    """Alpha and AC1 of everything that two people or more judged."""
    units = {item: _units(own, state, scheme) for item, own in state.by_item().items()}
    domain = _domain(units, scheme)
    tables = [
        np.array([[unit[name] for name in domain] for unit in own], dtype=np.int64)
        for own in units.values()
        if own
    ]
    shared = sum(1 for table in tables if (table.sum(axis=1) >= 2).any())
    if not shared:
        nothing = Estimate(None, None, None, 0)
        return Agreement(nothing, nothing)
    level = "ordinal" if scheme.kind == "grades" else "nominal"
    rng = np.random.default_rng(seed)
    whole = np.concatenate(tables)
    resamples = max(100, min(RESAMPLES, MOST_UNITS // len(whole)))
    draws = [rng.integers(0, len(tables), len(tables)) for _ in range(resamples)]
    samples = [np.concatenate([tables[i] for i in draw]) for draw in draws]
    alphas = [krippendorff_alpha(sample, level) for sample in samples]
    return Agreement(
        _estimate(krippendorff_alpha(whole, level), alphas, shared),
        _estimate(gwet_ac1(whole), [gwet_ac1(sample) for sample in samples], shared),
    )


def krippendorff_alpha(counts: Counts, level: str = "nominal") -> float | None:
    """Alpha of [units, categories] counts; None where nothing varies, or nobody judged the same."""
    from krippendorff import alpha

    pairable = counts[counts.sum(axis=1) >= 2]
    if not len(pairable) or (pairable.sum(axis=0) > 0).sum() < 2:
        return None
    domain = np.arange(counts.shape[1])
    return float(alpha(value_counts=pairable, value_domain=domain, level_of_measurement=level))


def gwet_ac1(counts: Counts) -> float | None:
    """AC1 (Gwet 2008) of [units, categories] counts, for any number of people per unit; None as for alpha.

    (pa - pe) / (1 - pe): pa is the share of pairs of people who agree, averaged over units that two or more judged;
    pe = sum over categories of p (1 - p), divided by their number less one; p: the mean share of a category per unit.
    """
    total = counts.sum(axis=1)
    shared, shares = counts[total >= 2], counts[total >= 1] / total[total >= 1, None]
    categories = counts.shape[1]
    if not len(shared) or categories < 2:
        return None
    people = shared.sum(axis=1)
    agree = float(((shared * (shared - 1)).sum(axis=1) / (people * (people - 1))).mean())
    prevalence = shares.mean(axis=0)
    chance = float((prevalence * (1 - prevalence)).sum()) / (categories - 1)
    return (agree - chance) / (1 - chance)


def _units(entries: Sequence[Entry], state: State, scheme: Scheme) -> list[Counter[str]]:
    """Per question of an item, how often each answer was given."""
    said = [answers(entry, state, scheme) for entry in entries]
    return [
        Counter(one[name] for one in said if name in one) for name in sorted({n for one in said for n in one})
    ]


def _domain(units: Mapping[str, Iterable[Counter[str]]], scheme: Scheme) -> list[str]:
    """All answers there are; of grades in their order."""
    seen = {name for own in units.values() for unit in own for name in unit}
    if scheme.kind == "grades":
        return sorted(seen | {level for c in scheme.criteria for level in c.levels}, key=int)
    if scheme.kind == "spans":
        return sorted(seen | {"", *(scheme.labels or {})})
    return sorted(seen | {"a", "b", "tie", *(["bad"] if scheme.kind == "pairs" else [])})


def _estimate(value: float | None, resampled: Sequence[float | None], n: int) -> Estimate:
    known = [one for one in resampled if one is not None]
    if value is None or not known:
        return Estimate(None, None, None, n)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(value, float(min(low, value)), float(max(high, value)), n, float(np.std(known)))


def people(state: State, scheme: Scheme) -> dict[str, Person]:
    """Each annotator's biases and steadiness."""
    said: dict[str, list[Entry]] = {}
    for entry in state.judgements(skips=True):
        said.setdefault(entry["annotator"], []).append(entry)
    return {name: _person(own, state, scheme) for name, own in sorted(said.items())}


def _person(entries: Sequence[Entry], state: State, scheme: Scheme) -> Person:
    judged = [entry for entry in entries if entry["value"] != "skip"]
    first, longer = list[bool](), list[bool]()
    for entry in judged:
        order, texts = entry["shown"], state.items[entry["item"]].texts
        for question, winner in decisions(entry["value"], scheme).items() if len(texts) > 1 else ():
            if winner not in ("a", "b"):
                continue
            i, j = map(int, question.split(",")) if question else (0, 1)
            won, lost = (i, j) if winner == "a" else (j, i)
            first.append(order.index(won) < order.index(lost))
            sizes = len(texts[won]), len(texts[lost])
            if max(sizes) >= LONGER * min(sizes):
                longer.append(sizes[0] > sizes[1])
    by_slot = {(entry["item"], entry["round"]): entry for entry in judged}
    same = [
        by_slot[item, 0]["value"] == entry["value"]
        for (item, round), entry in by_slot.items()
        if round == 1 and (item, 0) in by_slot
    ]
    seconds = [entry["seconds"] for entry in judged if entry["seconds"]]
    return Person(
        len(judged),
        len(entries) - len(judged),
        float(np.median(seconds)) if seconds else None,
        *(proportion(sum(them), len(them)) for them in (first, longer, same)),
    )
