"""The gate: a report of candidate and baseline on the same cases -> ship, hold or reject, with reasons.

Each track is judged by its paired interval of candidate minus baseline (minus base, for the controls):

| track | passes | fails |
|---|---|---|
| programmatic | the interval is above `min_improvement` (0) | the interval is below 0 |
| human | the interval is above 0 | the interval is below 0 |
| negative controls | its lower end is at or above -`control_margin` | below 0, with a mean below -margin |

A track that does neither holds; so does one with no cases, too few, or too many that could not be scored:
what was not measured was not shown. Ship: every track passes. Reject: a track fails. Hold: anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from .evaluate import CONTROLS, HUMAN, PROGRAMMATIC


@dataclass(frozen=True)
class GatePolicy:
    """Every threshold of the gate."""

    min_improvement: float = 0.0
    """Programmatic track: the paired interval of candidate minus baseline must lie above this, in score. In the
    human track it must lie above 0."""
    control_margin: float = 0.05
    """How much worse than the base the candidate may be on the negative controls, in score."""
    min_cases: int = 20
    """A track with fewer pairs holds, whatever it shows."""
    max_unpaired_share: float = 0.05
    """A track where more cases than this lack a score of either model holds: such cases leave the comparison,
    and breaking the scorer must not be a way to skip hard ones."""
    programmatic_slice: str | None = "test"
    """The slice of the programmatic track that decides; others are reported. None: all of the track."""


@dataclass(frozen=True)
class Check:
    """One track, judged."""

    track: str
    slice: str | None
    baseline: str
    status: Literal["pass", "hold", "fail", "info"]
    """`info`: reported, and no part of the verdict."""
    reason: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Verdict:
    """Whether to ship, and why."""

    verdict: Literal["ship", "hold", "reject"]
    reasons: list[str]
    """A sentence per check."""
    checks: list[Check]


def gate(
    report: Mapping[str, Any],
    candidate: str,
    baseline: str,
    policy: GatePolicy | None = None,
    base: str | None = None,
) -> Verdict:
    """Is the candidate better than `baseline`, and not worse than `base` (default: baseline) on the controls?

    `report` is what `build_report` gives; it must compare the candidate with both.
    """
    policy = policy or GatePolicy()
    base = base or baseline
    improved = _tracks(report, candidate, baseline)
    controls = _tracks(report, candidate, base)
    slice = policy.programmatic_slice
    checks = [
        _better(PROGRAMMATIC, slice, candidate, baseline, improved, policy),
        _better(HUMAN, None, candidate, baseline, improved, policy),
        _not_broken(candidate, base, controls, policy),
    ]
    for name, figure in improved.get(PROGRAMMATIC, {}).get("slices", {}).items():
        if slice is not None and name != slice:
            checks.append(_info(name, baseline, figure))
    statuses = {check.status for check in checks}
    verdict: Literal["ship", "hold", "reject"] = (
        "reject" if "fail" in statuses else "hold" if "hold" in statuses else "ship"
    )
    return Verdict(verdict, [check.reason for check in checks], checks)


def _better(
    track: str,
    slice: str | None,
    candidate: str,
    baseline: str,
    tracks: Mapping[str, Any],
    policy: GatePolicy,
) -> Check:
    figure = _figure(tracks, track, slice)
    untested = _untested(track, slice, candidate, baseline, figure, policy)
    if untested:
        return _check(track, slice, baseline, "hold", untested, figure)
    where, numbers = _where(track, slice), _numbers(figure)
    least = policy.min_improvement if track == PROGRAMMATIC else 0.0
    if figure["low"] > least:
        text = f"{where}: {candidate} is better than {baseline}, {numbers}"
        return _check(track, slice, baseline, "pass", text, figure)
    if figure["high"] < 0:
        text = f"{where}: {candidate} is worse than {baseline}, {numbers}"
        return _check(track, slice, baseline, "fail", text, figure)
    text = (
        f"{where}: {candidate} is not shown to be better than {baseline} by more than "
        f"{least:g}, {numbers}; this sample would have shown "
        f"{figure['smallest_detectable']:.3f}"
    )
    return _check(track, slice, baseline, "hold", text, figure)


def _not_broken(candidate: str, base: str, tracks: Mapping[str, Any], policy: GatePolicy) -> Check:
    figure = _figure(tracks, CONTROLS, None)
    untested = _untested(CONTROLS, None, candidate, base, figure, policy)
    if untested:
        return _check(CONTROLS, None, base, "hold", untested, figure)
    numbers, margin = _numbers(figure), policy.control_margin
    if figure["low"] >= -margin:
        text = f"negative controls: {candidate} is within {margin:g} of {base}, {numbers}"
        return _check(CONTROLS, None, base, "pass", text, figure)
    if figure["difference"] < -margin and figure["high"] < 0:
        text = f"negative controls: {candidate} broke what {base} could do, {numbers}; allowed is -{margin:g}"
        return _check(CONTROLS, None, base, "fail", text, figure)
    text = f"negative controls: {candidate} is not shown to be within {margin:g} of {base}, {numbers}"
    return _check(CONTROLS, None, base, "hold", text, figure)


def _untested(
    track: str,
    slice: str | None,
    candidate: str,
    baseline: str,
    figure: Mapping[str, Any],
    policy: GatePolicy,
) -> str:
    """Why the track says nothing yet; empty if it does."""
    where = _where(track, slice)
    if figure["n"] == 0:
        what = "no graded pairs" if track == HUMAN else "no scored cases"
        return f"{where}: {what} of {candidate} and {baseline}; an empty track is not a pass"
    share = figure["unpaired"] / (figure["n"] + figure["unpaired"])
    if share > policy.max_unpaired_share:
        return (
            f"{where}: {figure['unpaired']} cases lack a score of {candidate} or {baseline} ({share:.1%}; "
            f"at most {policy.max_unpaired_share:.1%})"
        )
    if figure["n"] < policy.min_cases:
        return f"{where}: {figure['n']} pairs are too few to judge by (at least {policy.min_cases})"
    return ""


def _info(slice: str, baseline: str, figure: Mapping[str, Any]) -> Check:
    word = (
        "better"
        if (figure["low"] or 0) > 0
        else "worse"
        if (figure["high"] or 0) < 0
        else "no significant difference"
    )
    text = f"{_where(PROGRAMMATIC, slice)}: {word}, {_numbers(figure)} (reported, not judged)"
    return _check(PROGRAMMATIC, slice, baseline, "info", text, figure)


def _tracks(report: Mapping[str, Any], candidate: str, baseline: str) -> Mapping[str, Any]:
    for comparison in report["comparisons"]:
        if (comparison["candidate"], comparison["baseline"]) == (candidate, baseline):
            tracks: Mapping[str, Any] = comparison["tracks"]
            return tracks
    known = ", ".join(f"{c['candidate']} and {c['baseline']}" for c in report["comparisons"])
    raise InputError(f"the report does not compare {candidate!r} with {baseline!r}; it compares: {known}")


def _figure(tracks: Mapping[str, Any], track: str, slice: str | None) -> Mapping[str, Any]:
    empty: Mapping[str, Any] = {"difference": None, "low": None, "high": None, "n": 0, "unpaired": 0}
    figure: Mapping[str, Any] = tracks.get(track, empty)
    return figure if slice is None else figure.get("slices", {}).get(slice, empty)


def _check(
    track: str,
    slice: str | None,
    baseline: str,
    status: Literal["pass", "hold", "fail", "info"],
    reason: str,
    figure: Mapping[str, Any],
) -> Check:
    low, high = figure["low"], figure["high"]
    return Check(track, slice, baseline, status, reason, figure["difference"], low, high, figure["n"])


def _where(track: str, slice: str | None) -> str:
    return track.replace("_", " ") + (f" ({slice})" if slice else "")


def _numbers(figure: Mapping[str, Any]) -> str:
    if figure["n"] == 0:
        return "no pairs"
    return f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}] on {figure['n']} pairs"
