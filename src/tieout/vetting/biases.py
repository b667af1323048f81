"""Biases of a judge or any reward: does it prefer long, hedged or its own family's writing more than people do?

Of pairs, `excess` is how much more often the reward prefers the one with more of a trait than people do, on the pairs
that differ in it. Of labelled completions it is a partial correlation: of the ranks of score and trait, after what the
label explains is taken out of both. Where labels are right and wrong only, the score counts as the verdict that it
gives: among right answers the better ones may well be longer. A bias is found where the interval is beyond what is
negligible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from ..evidence.stats import Estimate, difference, mean
from ..rewards.library.families import family
from ..rewards.text.hedges import hedging
from ..rewards.text.thinking import answer_text
from ..rows.messages import text_of

NEGLIGIBLE = {"pairs": 0.05, "labels": 0.1}
"""Excess of preferences, and partial correlation, below which an interval shows nothing worth a word."""
MIN_ROWS = 30
LENGTH, HEDGES, OWN = "length", "hedges", "own family"
_WORDS = {
    LENGTH: ("longer", "shorter"),
    HEDGES: ("more hedged", "less hedged"),
    OWN: ("its own family's", "other families'"),
}
RATIO = 1.25
"""Texts whose lengths differ by less than this factor are about equally long."""


@dataclass(frozen=True)
class Bias:
    """What a reward makes of one trait of the text beyond what people do."""

    trait: str
    excess: Estimate
    """Pairs: share in which the reward prefers more of the trait, minus the same of people. Labels: the correlation."""
    slices: dict[str, Estimate]
    """Agreement with people, by length: is the right verdict given only where it is the longer one?"""
    found: str = ""
    """The bias in a sentence; empty where none is shown."""


def measure(kind: str, rows: Sequence[Mapping[str, Any]], judge_model: str = "") -> list[Bias]:
    """The biases over scored rows of a calibration, as far as rows and names tell them.

    Args:
        kind: pairs or labels.
        rows: scored, as `Calibration.rows` has them; `model`, or `chosen_model` and `rejected_model`, name who wrote.
        judge_model: of the judge; its own family's writing is looked at where rows name their models.
    """
    found = [_bias(kind, rows, LENGTH, lambda text, _: float(len(text)))]
    found.append(_bias(kind, rows, HEDGES, lambda text, _: hedging(text)))
    own = family(judge_model)
    names = ("chosen_model", "rejected_model") if kind == "pairs" else ("model",)
    known = [row for row in rows if all(row.get(name) for name in names)]
    if own and known:
        found.append(_bias(kind, known, OWN, lambda _, model: float(family(model) == own)))
    return [bias for bias in found if bias.excess.n]


def _bias(kind: str, rows: Sequence[Mapping[str, Any]], trait: str, of: Callable[[str, str], float]) -> Bias:
    excess = _pairs(rows, of) if kind == "pairs" else _labels(rows, of)
    slices = (_pair_slices(rows) if kind == "pairs" else _label_slices(rows)) if trait == LENGTH else {}
    return Bias(trait, excess, slices, _sentence(kind, trait, excess))


def _pairs(rows: Sequence[Mapping[str, Any]], of: Callable[[str, str], float]) -> Estimate:
    rewards, people, clusters = list[float](), list[float](), list[str]()
    for row in rows:
        chosen, rejected = (
            of(as_text(row[name]), str(row.get(f"{name}_model", ""))) for name in ("chosen", "rejected")
        )
        if chosen == rejected:
            continue
        lead = row["chosen_score"] - row["rejected_score"]
        ahead = 0.5 if lead == 0 else float(lead > 0)
        people.append(float(chosen > rejected))
        rewards.append(ahead if chosen > rejected else 1 - ahead)
        clusters.append(str(row["prompt"]))
    return difference(rewards, people, clusters)


def _labels(rows: Sequence[Mapping[str, Any]], of: Callable[[str, str], float]) -> Estimate:
    labels = np.asarray([row["label"] for row in rows], dtype=float)
    given: NDArray[Any] = np.asarray([row["score"] for row in rows], dtype=float)
    if set(labels) <= {0.0, 1.0}:  # two labels do not say how good: only the reward's mistakes are looked at
        given = np.asarray([(row["label"] > 0.5) == (row["agrees"] == 1) for row in rows], dtype=float)
    traits = [of(as_text(row["completion"]), str(row.get("model", ""))) for row in rows]
    base = scipy_stats.rankdata(labels)
    left, right = _rest(scipy_stats.rankdata(given), base), _rest(scipy_stats.rankdata(traits), base)
    n = len(rows)
    if n < MIN_ROWS or left.std() < 1e-6 * n or right.std() < 1e-6 * n:
        return Estimate(None, None, None, 0)
    value = float(np.corrcoef(left, right)[0, 1])
    # Fisher's z; one variable is taken out, so one degree of freedom less.
    z, half = np.arctanh(np.clip(value, -0.999999, 0.999999)), 1.959964 / np.sqrt(n - 4)
    return Estimate(value, float(np.tanh(z - half)), float(np.tanh(z + half)), n)


def _rest(values: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """What a straight line on the labels leaves of the values."""
    away, spread = values - values.mean(), labels - labels.mean()
    slope = float(away @ spread) / float(spread @ spread) if spread.any() else 0.0
    rest: NDArray[np.float64] = away - slope * spread
    return rest


def _pair_slices(rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    parts: dict[str, list[Mapping[str, Any]]] = {
        "people prefer the shorter": [],
        "about equally long": [],
        "people prefer the longer": [],
    }
    for row in rows:
        chosen, rejected = (max(1, len(as_text(row[name]))) for name in ("chosen", "rejected"))
        place = 0 if chosen * RATIO < rejected else 2 if rejected * RATIO < chosen else 1
        list(parts.values())[place].append(row)
    return {name: _agreement(part) for name, part in parts.items()}


def _label_slices(rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    ordered = sorted(rows, key=lambda row: len(as_text(row["completion"])))
    third = len(ordered) // 3
    parts = (ordered[:third], ordered[third:-third], ordered[-third:]) if third else ([], ordered, [])
    return {
        name: _agreement(part) for name, part in zip(("shortest", "middle", "longest"), parts, strict=True)
    }


def _agreement(rows: Sequence[Mapping[str, Any]]) -> Estimate:
    return mean([row["agrees"] for row in rows], [str(row["prompt"]) for row in rows])


def _sentence(kind: str, trait: str, excess: Estimate) -> str:
    value, low, high, limit = excess.value, excess.low, excess.high, NEGLIGIBLE[kind]
    if (
        value is None
        or low is None
        or high is None
        or excess.n < MIN_ROWS
        or (low <= limit and high >= -limit)
    ):
        return ""
    which = _WORDS[trait][value < 0]
    interval = f"[{low:+.2f}, {high:+.2f}]"
    if kind == "pairs":
        return (
            f"prefers {which} text more often than people do: by {abs(value):.0%} of the {excess.n} pairs that differ "
            f"in it {interval}"
        )
    return (
        f"scores {which} text higher than people do: partial correlation {value:+.2f} {interval} on {excess.n} "
        "completions"
    )


def as_text(completion: str | Sequence[Mapping[str, str]]) -> str:
    """What a completion says after its thinking; of messages, what the last one says."""
    return answer_text(text_of(completion))
