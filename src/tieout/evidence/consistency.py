"""How often an answer is judged otherwise when the same is asked again: the share of rows that flip.

A row flips in a kind of variants if one of them is judged otherwise than the row itself; with the same prompt, if its
samples are not all judged alike. Right and wrong are the primary metric's: right is 1. Where there is none, scores that
are only 0 and 1 are right and wrong too, and other scores are judged otherwise if they differ by more than AMOUNT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from . import stats
from .consistency_rows import SAME_PROMPT
from .evaluate import CONSISTENCY, PROGRAMMATIC, Case
from .readings import SCORE, Reading

AMOUNT = 0.1
"""By which two scores must differ to be judged otherwise, where they are neither right nor wrong."""


@dataclass(frozen=True)
class Asked:
    """A row, and what came of asking it again."""

    kind: str
    original: Case
    again: Sequence[Case]
    before: float
    after: list[float]
    amount: float
    """See AMOUNT; 0 for right and wrong."""

    @property
    def worse(self) -> list[Case]:
        """Those that are judged worse than the row itself."""
        values = zip(self.again, self.after, strict=True)
        return [case for case, value in values if value < self.before - self.amount]

    @property
    def better(self) -> list[Case]:
        """Those that are judged better."""
        values = zip(self.again, self.after, strict=True)
        return [case for case, value in values if value > self.before + self.amount]

    @property
    def flips(self) -> bool:
        """Whether the answers are not all judged alike."""
        if self.kind == SAME_PROMPT:  # the row's own answer is greedy, these are sampled
            return max(self.after) - min(self.after) > self.amount
        return bool(self.worse or self.better)


def consistency(
    cases: Mapping[str, Sequence[Case]], primary: str | None, rows: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Model -> kind -> share of rows that flip, with its interval.

    `n` rows are compared; `errors` and `abstained` count those where an answer has no number, `without` those of `rows`
    that have no variant of the kind. `before` and `after` are the means of the rows and of what was asked again;
    `worse` and `better` count rows by direction. `right`: of the rows that were right at first the share that is right
    each time, None where scores are no right and wrong; `amount` is then by how much they must differ.
    """
    return {
        model: {
            kind: _figure(kind, own, reading, amount, rows, seed)
            for kind, own in _by_kind(cases[model]).items()
        }
        for model, reading, amount in _judged(cases, primary)
    }


def asked(cases: Mapping[str, Sequence[Case]], model: str, primary: str | None) -> dict[str, list[Asked]]:
    """Kind -> the rows of a model that are compared."""
    known = {name: (reading, amount) for name, reading, amount in _judged(cases, primary)}
    if model not in known:
        return {}
    return {kind: _compared(kind, own, *known[model]) for kind, own in _by_kind(cases[model]).items()}


Pairs = Sequence[tuple[Case | None, Sequence[Case]]]
"""A row's own case, None where it is gone, and those that ask it again."""


def _judged(cases: Mapping[str, Sequence[Case]], primary: str | None) -> list[tuple[str, Reading, float]]:
    """(model, what is read, by how much it must differ) of models that were asked again; the same for all of them."""
    models = [model for model, own in cases.items() if any(case.track == CONSISTENCY for case in own)]
    reading = SCORE if primary is None else Reading("metrics", primary)
    read = [
        reading.of(case)
        for model in models
        for case in cases[model]
        if case.track in (PROGRAMMATIC, CONSISTENCY)
    ]
    graded = primary is None and not {value for value in read if value is not None} <= {0.0, 1.0}
    return [(model, reading, AMOUNT if graded else 0.0) for model in models]


def _by_kind(cases: Sequence[Case]) -> dict[str, Pairs]:
    own = {case.id: case for case in cases if case.track == PROGRAMMATIC}
    found: dict[str, dict[str, list[Case]]] = {}
    for case in cases:
        if case.track == CONSISTENCY:
            found.setdefault(case.slice, {}).setdefault(case.cluster, []).append(case)
    return {kind: [(own.get(name), again) for name, again in of.items()] for kind, of in found.items()}


def _compared(kind: str, pairs: Pairs, reading: Reading, amount: float) -> list[Asked]:
    """The rows all of whose answers have a number."""
    found = []
    for original, again in pairs:
        before = None if original is None else _value(original, reading, amount)
        after = [value for case in again if (value := _value(case, reading, amount)) is not None]
        if original is not None and before is not None and len(after) == len(again):
            found.append(Asked(kind, original, again, before, after, amount))
    return found


def _value(case: Case, reading: Reading, amount: float) -> float | None:
    """What is compared: of a primary metric whether it says that the answer is right."""
    value = reading.of(case)
    return value if value is None or amount else float(value >= 1.0)


def _figure(kind: str, pairs: Pairs, reading: Reading, amount: float, rows: int, seed: int) -> dict[str, Any]:
    own = _compared(kind, pairs, reading, amount)
    clusters = [one.original.cluster or one.original.id for one in own]
    flips = stats.mean([float(one.flips) for one in own], clusters, seed=seed)
    statuses = [
        {"errored" if case is None else reading.status(case) for case in (original, *again)} - {"scored"}
        for original, again in pairs
    ]
    right = [one for one in own if one.before == 1.0]
    kept = stats.mean(
        [float(min(one.after) == 1.0) for one in right],
        [one.original.cluster or one.original.id for one in right],
        seed=seed,
    )
    return {
        **_mean(flips),
        "errors": sum("errored" in found for found in statuses),
        "abstained": sum(found == {"abstained"} for found in statuses),
        "without": max(0, rows - len(pairs)),
        "answers": max((len(again) for _, again in pairs), default=0),
        "before": fmean(one.before for one in own) if own else None,
        "after": fmean(fmean(one.after) for one in own) if own else None,
        "worse": sum(bool(one.worse) for one in own),
        "better": sum(bool(one.better) for one in own),
        "right": None if amount else _mean(kept),
        "amount": amount or None,
    }


def _mean(estimate: stats.Estimate) -> dict[str, Any]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def flips_in_words(kind: str, figure: Mapping[str, Any]) -> str:
    """`order: 12 of 24 rows flip ...`: never without how many were right at first."""
    if not figure["n"]:
        return f"{kind.replace('_', ' ')}: no row could be compared"
    said = (
        f"{kind.replace('_', ' ')}: {figure['mean']:.1%} of {figure['n']} rows flip "
        f"[{figure['low']:.1%}, {figure['high']:.1%}]"
    )
    if figure["right"] is None:
        return f"{said}; mean score {figure['before']:.3f}, asked again {figure['after']:.3f}"
    first = figure["right"]
    if not first["n"]:
        return f"{said}; 0 were right at first, so that none could be lost"
    stay = f"{first['mean']:.1%} stay right [{first['low']:.1%}, {first['high']:.1%}]"
    return f"{said}; {first['n']} were right at first, of which {stay}"
