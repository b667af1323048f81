"""The numbers of a report: one model on one track, and two models on one track, paired by case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import stats
from .evaluate import HUMAN, Case
from .human import Grade

Pair = tuple[Case | None, Case | None]
"""What candidate and baseline made of one case; None: it was not asked."""


def model_figures(
    cases: Mapping[str, Sequence[Case]], grades: Sequence[Grade], model: str, track: str, seed: int
) -> dict[str, Any]:
    """One model on one track: mean, low, high, n, errors, abstained; and the same per slice and metric."""
    if track == HUMAN:
        shares = [(grade.shares()[model], grade.case) for grade in grades if model in grade.shares()]
        estimate = stats.mean([share for share, _ in shares], [case for _, case in shares], seed=seed)
        return {**_mean(estimate), "errors": 0, "abstained": 0, "slices": {}, "metrics": {}}
    bounds = _bounds(cases, track, lambda case: case.score)
    own = [case for case in cases[model] if case.track == track]
    figure = _figure(own, bounds, seed)
    slices = _by_slice(own)
    figure["slices"] = {name: _figure(part, bounds, seed) for name, part in slices.items()}
    figure["metrics"] = {}
    for metric in dict.fromkeys(name for case in own for name in (*case.metrics, *case.errors)):
        if metric == "score":
            continue
        known = [case for case in own if metric in case.metrics]
        estimate = stats.mean(
            [case.metrics[metric] for case in known],
            [case.cluster or case.id for case in known],
            _bounds(cases, track, lambda case, metric=metric: case.metrics.get(metric)),  # type: ignore[misc]
            seed,
        )
        errors = sum(metric in case.errors and metric not in case.metrics for case in own)
        figure["metrics"][metric] = {**_mean(estimate), "errors": errors}
    return figure


def _figure(cases: Sequence[Case], bounds: stats.Bounds, seed: int) -> dict[str, Any]:
    scored = [case for case in cases if case.score is not None]
    scores = [case.score for case in scored if case.score is not None]
    estimate = stats.mean(scores, [case.cluster or case.id for case in scored], bounds, seed)
    errors = sum(case.status == "errored" for case in cases)
    return {**_mean(estimate), "errors": errors, "abstained": len(cases) - len(scored) - errors}


def _mean(estimate: stats.Estimate) -> dict[str, Any]:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def pair_figures(
    cases: Mapping[str, Sequence[Case]],
    grades: Sequence[Grade],
    candidate: str,
    baseline: str,
    track: str,
    seed: int,
) -> dict[str, Any]:
    """Candidate minus baseline on one track, paired by case, and the same per slice.

    `unpaired` counts cases without a score of both models (abstained by both aside). `p` is the mid-p McNemar
    test, `p_of` what it was made on, `p_holm` the p-value adjusted for all slices of the track, and
    `smallest_detectable` the difference that the sample would have shown with 80% power.
    """
    if track == HUMAN:
        return {**_preferred(grades, candidate, baseline, seed), "slices": {}}
    bounds = _bounds(cases, track, lambda case: case.score)
    ours = {case.id: case for case in cases[candidate] if case.track == track}
    theirs = {case.id: case for case in cases[baseline] if case.track == track}
    pairs = [(ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])]
    figure = _difference(pairs, bounds, seed)
    slices: dict[str, list[Pair]] = {}
    for one, other in pairs:
        case = one or other
        assert case is not None
        slices.setdefault(case.slice, []).append((one, other))
    figure["slices"] = {name: _difference(part, bounds, seed) for name, part in slices.items()}
    tested = [part for part in figure["slices"].values() if part["p"] is not None]
    for part, adjusted in zip(tested, stats.holm([part["p"] for part in tested]), strict=True):
        part["p_holm"] = adjusted
    return figure


def _difference(pairs: Sequence[Pair], bounds: stats.Bounds, seed: int) -> dict[str, Any]:
    both = [(one, other) for one, other in pairs if one and other and _both_scored(one, other)]
    apply = [pair for pair in pairs if not all(case and case.status == "abstained" for case in pair)]
    clusters = [one.cluster or one.id for one, _ in both]
    scores = [(one.score or 0.0, other.score or 0.0) for one, other in both]
    estimate = stats.difference([s for s, _ in scores], [s for _, s in scores], clusters, bounds, seed)
    p, tested = None, None
    if len(set(clusters)) == len(clusters):  # McNemar's test takes cases to be independent
        p, tested = _right_or_wrong(both)
    return _paired(estimate, len(apply) - len(both), p, tested)


def _both_scored(one: Case, other: Case) -> bool:
    return one.score is not None and other.score is not None


def _right_or_wrong(pairs: Sequence[tuple[Case, Case]]) -> tuple[float | None, str | None]:
    """Mid-p McNemar on the metric `exact`, or on scores that are all 0 or 1, and which of them; else None."""
    readings: dict[str, Callable[[Case], float | None]] = {
        "exact": lambda case: case.metrics.get("exact"),
        "score": lambda case: case.score,
    }
    for name, reading in readings.items():
        values = [(reading(one), reading(other)) for one, other in pairs]
        if values and all(value in (0.0, 1.0) for pair in values for value in pair):
            wins, losses = values.count((1.0, 0.0)), values.count((0.0, 1.0))
            return stats.mcnemar_mid_p(wins, losses), name
    return None, None


def _preferred(grades: Sequence[Grade], candidate: str, baseline: str, seed: int) -> dict[str, Any]:
    """The human track: share won by the candidate minus share won by the baseline, over their own pairs."""
    shares = [(g.shares(), g.case) for g in grades if {g.model_a, g.model_b} == {candidate, baseline}]
    ours, theirs = [s[candidate] for s, _ in shares], [s[baseline] for s, _ in shares]
    clusters = [case for _, case in shares]
    estimate = stats.difference(ours, theirs, clusters, seed=seed)
    net: dict[str, float] = {}
    for one, other, case in zip(ours, theirs, clusters, strict=True):
        net[case] = net.get(case, 0.0) + one - other
    wins, losses = sum(v > 0 for v in net.values()), sum(v < 0 for v in net.values())
    p = stats.mcnemar_mid_p(wins, losses) if shares else None
    return _paired(estimate, 0, p, "preferred" if shares else None)


def _paired(estimate: stats.Estimate, unpaired: int, p: float | None, tested: str | None) -> dict[str, Any]:
    return {
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "unpaired": unpaired,
        "p": p,
        "p_of": tested,
        "p_holm": None,
        "smallest_detectable": stats.smallest_detectable_difference(estimate.standard_error),
    }


def _bounds(
    cases: Mapping[str, Sequence[Case]], track: str, reading: Callable[[Case], float | None]
) -> stats.Bounds:
    """The scale: 0 to 1, and further where some model's value lies beyond."""
    values = [reading(case) for model_cases in cases.values() for case in model_cases if case.track == track]
    known = [value for value in values if value is not None]
    return min([0.0, *known]), max([1.0, *known])


def _by_slice(cases: Sequence[Case]) -> dict[str, list[Case]]:
    slices: dict[str, list[Case]] = {}
    for case in cases:
        slices.setdefault(case.slice, []).append(case)
    return slices
