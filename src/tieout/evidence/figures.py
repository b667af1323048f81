"""The numbers of a report: one model on one track, and two models on one track, paired by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import stats
from .evaluate import HUMAN, Case
from .human import Grade
from .readings import SCORE, Reading, readings

Pair = tuple[Case | None, Case | None]
"""What candidate and baseline made of one case; None: it was not asked."""
Scales = Mapping[Reading, stats.Bounds]
"""What is read from the cases of a track, the reward first, and the ends of its scale."""
Ends = dict[tuple[Reading, str], stats.Bounds]
"""The ends of scales that were found before, by reading and track: finding them takes all cases of all models."""


def model_figures(
    cases: Mapping[str, Sequence[Case]],
    grades: Sequence[Grade],
    model: str,
    track: str,
    seed: int,
    ends: Ends | None = None,
) -> dict[str, Any]:
    """One model on one track: mean, low, high, n, errors, abstained of the reward; the same of every metric and part.

    All of it again per slice.
    """
    if track == HUMAN:
        own, shared = [grade for grade in grades if model in grade.shares()], _shared(cases)
        share = _share_won([(g.shares()[model], shared.get(g.case, g.case)) for g in own], seed)
        none = {"errors": 0, "abstained": 0, "metrics": {}, "parts": {}, "slices": {}}
        return {**share, "settled": _settled(own), **none}
    asked = [case for case in cases[model] if case.track == track]
    scales = _scales(cases, track, asked, ends)
    slices = _by_slice(asked)
    figure = _model(asked, scales, seed)
    figure["slices"] = {name: _model(part, scales, seed) for name, part in slices.items()}
    return figure


def _model(cases: Sequence[Case], scales: Scales, seed: int) -> dict[str, Any]:
    found = {reading: _one(cases, reading, bounds, seed) for reading, bounds in scales.items()}
    return _together(found)


def _one(cases: Sequence[Case], reading: Reading, bounds: stats.Bounds, seed: int) -> dict[str, Any]:
    known = [(value, case.cluster or case.id) for case in cases if (value := reading.of(case)) is not None]
    estimate = stats.mean([value for value, _ in known], [name for _, name in known], bounds, seed)
    statuses = [reading.status(case) for case in cases]
    return {
        **_mean(estimate),
        "errors": statuses.count("errored"),
        "abstained": statuses.count("abstained"),
    }


def _mean(estimate: stats.Estimate) -> dict[str, Any]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def pair_figures(
    cases: Mapping[str, Sequence[Case]],
    grades: Sequence[Grade],
    candidate: str,
    baseline: str,
    track: str,
    seed: int,
    ends: Ends | None = None,
    least: float | None = None,
    kept: Mapping[str, float] = {},
) -> dict[str, Any]:
    """Candidate minus baseline on one track, paired by case: of the reward, its parts, every metric; and per slice.

    The differences of the parts and `rest` add up to the reward's; `rest` is 0 unless a part is missing somewhere.
    `unpaired` counts cases without a number of both models (abstained by both aside); `wins` those where the
    candidate has more. `p` tests the difference that stands next to it, by `test`: it is below 0.05 exactly where the
    interval excludes 0. `smallest_detectable` is the difference that the sample would have shown with 80% power.
    With `least`, what the rule demands that the difference be above (`kept`: of single metrics), `p_above` is the
    one-sided p of its not being so.
    Of people's grades `settled` says how many of the n pairs nobody was asked about: both outputs are the same.
    """
    if track == HUMAN:
        return {
            **_preferred(grades, _shared(cases), candidate, baseline, seed),
            "metrics": {},
            "parts": {},
            "slices": {},
        }
    ours = {case.id: case for case in cases[candidate] if case.track == track}
    theirs = {case.id: case for case in cases[baseline] if case.track == track}
    scales = _scales(cases, track, [*ours.values(), *theirs.values()], ends)
    pairs = [(ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])]
    slices: dict[str, list[Pair]] = {}
    for one, other in pairs:
        case = one or other
        assert case is not None
        slices.setdefault(case.slice, []).append((one, other))
    found = {name: _differences(part, scales, seed, least, kept) for name, part in slices.items()}
    whole = _with_rest(_differences(pairs, scales, seed, least, kept))
    whole["slices"] = {name: _with_rest(figures) for name, figures in found.items()}
    return whole


def _differences(
    pairs: Sequence[Pair], scales: Scales, seed: int, least: float | None, kept: Mapping[str, float]
) -> dict[Reading, dict[str, Any]]:
    scored = [(one, other) for one, other in pairs if one and other and None not in (one.score, other.score)]
    found = {}
    for reading, bounds in scales.items():
        # Points are only comparable with the reward's over the same cases.
        of, above = (scored, None) if reading.kind == "parts" else (pairs, least)
        if reading.kind == "metrics":
            above = kept.get(reading.name, above)
        found[reading] = paired(of, reading, bounds, seed, above)
    return found


def paired(
    pairs: Sequence[Pair], reading: Reading, bounds: stats.Bounds, seed: int, least: float | None = None
) -> dict[str, Any]:
    """The figure of one reading over pairs of candidate and baseline; see `pair_figures`."""
    apply = [pair for pair in pairs if not all(case and reading.status(case) == "abstained" for case in pair)]
    both = [
        (ours, theirs, one.cluster or one.id)
        for one, other in apply
        if one
        and other
        and (ours := reading.of(one)) is not None
        and (theirs := reading.of(other)) is not None
    ]
    values, clusters = [(ours, theirs) for ours, theirs, _ in both], [cluster for *_, cluster in both]
    own, others = [a for a, _ in values], [b for _, b in values]
    estimate = stats.difference(own, others, clusters, bounds, seed, least=least)
    figure = _paired(estimate, len(apply) - len(both), _won([a - b for a, b in values]))
    return figure if least is None else {**figure, "least": least, "p_above": estimate.p_above}


def _share_won(shares: Sequence[tuple[float, str]], seed: int) -> dict[str, Any]:
    """The share won of (share, cluster), with the interval of its difference from the others' share: a comparison and
    the shares that it is made of cannot contradict each other."""
    won, clusters = [share for share, _ in shares], [cluster for _, cluster in shares]
    ahead = stats.difference(won, [1.0 - share for share in won], clusters, seed=seed)
    if ahead.value is None or ahead.low is None or ahead.high is None:
        return _mean(ahead)
    mean, low, high = (round((1.0 + end) / 2, 12) for end in (ahead.value, ahead.low, ahead.high))
    return {"mean": mean, "low": low, "high": high, "n": ahead.n}


def _shared(cases: Mapping[str, Sequence[Case]]) -> dict[str, str]:
    """Case -> what it shares with others, or itself; of reports of format 5, in which each case stood alone, none."""
    return (
        {}
        if stats.is_former()
        else {case.id: case.cluster or case.id for own in cases.values() for case in own}
    )


def _preferred(
    grades: Sequence[Grade], shared: Mapping[str, str], candidate: str, baseline: str, seed: int
) -> dict[str, Any]:
    """The human track: share won by the candidate minus share won by the baseline, over their own pairs."""
    own = [grade for grade in grades if {grade.model_a, grade.model_b} == {candidate, baseline}]
    ours, theirs = ([grade.shares()[name] for grade in own] for name in (candidate, baseline))
    clusters = [shared.get(grade.case, grade.case) for grade in own]
    estimate = stats.difference(ours, theirs, clusters, seed=seed)
    won = _won([a - b for a, b in zip(ours, theirs, strict=True)])
    return {**_paired(estimate, 0, won), "settled": _settled(own)}


def _settled(grades: Sequence[Grade]) -> int:
    """How many of these ties nobody was asked about."""
    return sum(grade.settled for grade in grades)


def _won(differences: Sequence[float]) -> dict[str, int]:
    """How often the candidate has more, as much, or less; a difference of rounding is none."""
    wins, losses = sum(d > 1e-9 for d in differences), sum(d < -1e-9 for d in differences)
    return {"wins": wins, "ties": len(differences) - wins - losses, "losses": losses}


def _paired(estimate: stats.Estimate, unpaired: int, won: Mapping[str, int]) -> dict[str, Any]:
    return {
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "unpaired": unpaired,
        **won,
        "p": estimate.p,
        "test": estimate.test,
        "smallest_detectable": stats.smallest_detectable_difference(estimate.standard_error),
    }


def _with_rest(found: Mapping[Reading, Mapping[str, Any]]) -> dict[str, Any]:
    """One figure, with what the parts leave of the reward's difference: each by its share of the reward's cases."""
    figure = _together(found)
    if figure["parts"] and figure["n"]:
        explained = sum((p["difference"] or 0.0) * p["n"] / figure["n"] for p in figure["parts"].values())
        figure["rest"] = round(figure["difference"] - explained, 12)
    return figure


def _together(found: Mapping[Reading, Mapping[str, Any]]) -> dict[str, Any]:
    """The reward's figure with those of the metrics and parts."""
    by_kind: dict[str, dict[str, Any]] = {"metrics": {}, "parts": {}}
    for reading, figure in found.items():
        if reading.kind != "reward":
            by_kind[reading.kind][reading.name] = dict(figure)
    return {**found[SCORE], **by_kind}


def _scales(
    cases: Mapping[str, Sequence[Case]], track: str, own: Sequence[Case], ends: Ends | None
) -> Scales:
    ends, found = {} if ends is None else ends, (SCORE, *readings(own))
    for reading in found:
        if (reading, track) not in ends:
            ends[reading, track] = reading.bounds(cases, track)
    return {reading: ends[reading, track] for reading in found}


def _by_slice(cases: Sequence[Case]) -> dict[str, list[Case]]:
    slices: dict[str, list[Case]] = {}
    for case in cases:
        slices.setdefault(case.slice, []).append(case)
    return slices
