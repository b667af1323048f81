"""The gate: a report of candidate and baseline on the same cases -> ship, hold or reject, with reasons.

Each track is judged by its paired interval of candidate minus baseline (minus base, for the controls); the
programmatic track by the task's primary metric, and by the reward only where there is none:

| track | passes | fails |
|---|---|---|
| programmatic | the interval is above `min_improvement` (0) | the interval is below 0 |
| human | the interval is above 0 | the interval is below 0 |
| negative controls | the interval is above -`control_margin` | below 0, with a mean below -margin |
| a metric of `kept` | the interval is above its -margin | below 0, with a mean below -margin |

A track that does neither holds, however much the reward rose; so does one with no cases, too few, or too many that
could not be scored: what was not measured was not shown. `kept` is for what the primary metric could be bought with:
who answers nothing is right wherever there was nothing to answer. Ship: every track passes, two out of three are not
enough. Reject: a track fails. Hold: anything else. Since all must pass, a chance of 5% per track is one of at most 5%
for the verdict `ship`. In addition each judged track has a p-value of what the rule asks, with Holm's adjustment over
them: of no difference, two-sided; or where there is a margin, of not being above it, twice the one-sided p, so that all
are below 0.05 exactly where the interval lies on one side of what is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..errors import InputError
from .evaluate import CONTROLS, HUMAN, PROGRAMMATIC
from .readings import NONE, REWARD, judged, slice_of
from .significance import holm

JUDGED = (PROGRAMMATIC, HUMAN, CONTROLS)
NOT_TESTED: Mapping[str, Any] = {"p": None, "least": None}


@dataclass(frozen=True)
class GatePolicy:
    """The rule of the gate, as data."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tracks", tuple(self.tracks))  # JSON has lists
        if not self.tracks or not set(self.tracks) <= set(JUDGED):
            raise InputError(
                f"tracks of the gate are {list(self.tracks)}; expected some of: {', '.join(JUDGED)}"
            )
        for name, margin in self.kept.items():
            if not 0 <= margin < 1:
                raise InputError(
                    f"kept of the gate: {name} may fall by {margin}; expected 0 or more, below 1"
                )
        if self.kept and PROGRAMMATIC not in self.tracks:
            raise InputError(
                f"kept of the gate names {', '.join(self.kept)}, and tracks leaves out {PROGRAMMATIC}, which they are "
                "judged on: add it, or leave kept out"
            )

    min_improvement: float = 0.0
    """Programmatic track: the paired interval of candidate minus baseline must lie above this, in the primary metric
    (the reward, if the task names none). In the human track it must lie above 0."""
    control_margin: float = 0.05
    """How much worse than the base the candidate may be on the negative controls, in score."""
    min_cases: int = 20
    """A track with fewer pairs holds, whatever it shows."""
    max_unpaired_share: float = 0.05
    """A track where more cases than this lack a score of either model holds: such cases leave the comparison,
    and breaking the scorer must not be a way to skip hard ones."""
    programmatic_slice: str | None = "test"
    """The slice of the programmatic track that decides; others are reported. None: all of the track."""
    tracks: tuple[str, ...] = JUDGED
    """The tracks that must pass, all of them: two out of three is not enough. Others are reported."""
    smallest_detectable: float | None = None
    """A track holds unless its sample would have shown a difference this small four times in five. None: no demand."""
    regression_drop: float = 0.5
    """A case whose reward or primary metric is lower than the baseline's by more than this is listed in the report."""
    kept: Mapping[str, float] = field(default_factory=dict)
    """Programmatic track: metric -> how much lower than the baseline's it may be in the slice that decides. Each must
    pass."""

    def stored(self) -> dict[str, Any]:
        """Plain values. `kept` is left out where there is none, as in reports that were made before it was a rule."""
        values = asdict(self)
        return values if self.kept else {key: value for key, value in values.items() if key != "kept"}


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
    metric: str | None = None
    """What was compared on the programmatic track: a metric, or `reward`; None on the other tracks."""
    p: float | None = None
    """Two-sided, of a difference of 0; with `least`, twice the one-sided p of a difference that is `least` or less.
    None where there is too little to judge by."""
    p_holm: float | None = None
    """The same, adjusted for all that is judged and has one (Holm); None for what is only reported."""
    least: float | None = None
    """What the difference must be above, other than 0: minus the margin of the controls, or `min_improvement`."""
    settled: int = 0
    """Of the n pairs of the human track, those that nobody was asked about, since both outputs are the same."""


@dataclass(frozen=True)
class Verdict:
    """Whether to ship, and why."""

    verdict: Literal["ship", "hold", "reject"]
    reasons: list[str]
    """A sentence per check."""
    checks: list[Check]


def demanded(policy: GatePolicy, track: str) -> float | None:
    """What a difference on this track must be above, other than 0."""
    return {CONTROLS: 0.0 - policy.control_margin, PROGRAMMATIC: policy.min_improvement or None}.get(track)


def check_kept(policy: GatePolicy, primary: str | None) -> None:
    """InputError: the rule keeps the primary metric, which has to be better, not only kept."""
    if primary in policy.kept:
        raise InputError(
            f"kept of the gate names {primary}, the primary metric, which has to be better than the baseline's: leave "
            "it out"
        )


def kept(policy: GatePolicy, track: str) -> dict[str, float]:
    """The same of single metrics."""
    return {name: 0.0 - margin for name, margin in policy.kept.items()} if track == PROGRAMMATIC else {}


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
    primary, slice = report["settings"]["primary"], policy.programmatic_slice
    check_kept(policy, primary)
    checks = [
        _right(candidate, baseline, improved, policy, primary),
        *(_kept(name, candidate, baseline, improved, policy) for name in policy.kept),
        _better(HUMAN, None, candidate, baseline, improved.get(HUMAN, NONE), policy),
        _not_broken(candidate, base, controls, report["models"][base].get(CONTROLS, NONE), policy),
    ]
    programmatic = improved.get(PROGRAMMATIC, NONE)
    if primary is not None:
        checks.append(_info(slice, baseline, slice_of(programmatic, slice), REWARD))
    for name, figure in programmatic.get("slices", {}).items():
        if slice is not None and name != slice:
            checks.append(_info(name, baseline, judged(figure, primary), primary or REWARD))
    checks = _adjusted([_demoted(check, policy) for check in checks])
    statuses = {check.status for check in checks}
    verdict: Literal["ship", "hold", "reject"] = (
        "reject" if "fail" in statuses else "hold" if "hold" in statuses else "ship"
    )
    return Verdict(verdict, [check.reason for check in checks], checks)


def _demoted(check: Check, policy: GatePolicy) -> Check:
    """A track that the rule does not ask for is reported, and no part of the verdict."""
    if check.status == "info" or check.track in policy.tracks:
        return check
    return replace(check, status="info", reason=f"{check.reason} (reported, not judged)")


def _adjusted(checks: list[Check]) -> list[Check]:
    """The checks with Holm's p-values of those that are judged."""
    judged = [i for i, check in enumerate(checks) if check.status != "info" and check.p is not None]
    adjusted = dict(zip(judged, holm([p for i in judged if (p := checks[i].p) is not None]), strict=True))
    return [replace(check, p_holm=adjusted.get(i)) for i, check in enumerate(checks)]


def _right(
    candidate: str, baseline: str, tracks: Mapping[str, Any], policy: GatePolicy, primary: str | None
) -> Check:
    """The programmatic track, by the primary metric: a reward that rises without it is a hold that says so."""
    slice = policy.programmatic_slice
    reward = slice_of(tracks.get(PROGRAMMATIC, NONE), slice)
    check = _better(
        PROGRAMMATIC,
        slice,
        candidate,
        baseline,
        judged(reward, primary),
        policy,
        policy.min_improvement,
        primary,
    )
    if primary is None or check.status == "pass" or not reward["n"] or reward["low"] <= 0:
        return check
    where = f"{_where(PROGRAMMATIC, slice)}: "
    so = "fell" if check.status == "fail" else "is not shown to have risen"
    text = f"{where}the reward rose, {_numbers(reward)}, but {primary}, the primary metric, {so}: "
    return replace(check, reason=text + check.reason.removeprefix(where))


def _better(
    track: str,
    slice: str | None,
    candidate: str,
    baseline: str,
    figure: Mapping[str, Any],
    policy: GatePolicy,
    least: float = 0.0,
    primary: str | None = None,
) -> Check:
    metric = (primary or REWARD) if track == PROGRAMMATIC else None
    untested = _untested(track, slice, candidate, baseline, figure, policy, primary)
    if untested:
        return _check(track, slice, baseline, "hold", untested, {**figure, **NOT_TESTED}, metric)
    where, numbers = _where(track, slice), _numbers(figure)
    what = f" in {primary}" if primary else ""
    if figure["low"] > least:
        text = f"{where}: {candidate} is better than {baseline}{what}, {numbers}"
        return _check(track, slice, baseline, "pass", text, figure, metric)
    if figure["high"] < 0:
        text = f"{where}: {candidate} is worse than {baseline}{what}, {numbers}"
        return _check(track, slice, baseline, "fail", text, figure, metric)
    by = f" by more than {least:g}" if least else ""
    text = (
        f"{where}: {candidate} is not shown to be better than {baseline}{what}{by}, {numbers}; this sample would "
        f"have shown {figure['smallest_detectable']:.3f}"
    )
    return _check(track, slice, baseline, "hold", text, figure, metric)


def _not_broken(
    candidate: str, base: str, tracks: Mapping[str, Any], before: Mapping[str, Any], policy: GatePolicy
) -> Check:
    """The controls; `before` is the base's own figure on them, which must leave something to lose."""
    figure = tracks.get(CONTROLS, NONE)
    untested = _untested(CONTROLS, None, candidate, base, figure, policy)
    if untested:
        return _check(CONTROLS, None, base, "hold", untested, {**figure, **NOT_TESTED})
    margin = policy.control_margin
    if before["low"] is not None and before["low"] <= margin:
        own = f"{before['mean']:.3f} [{before['low']:.3f}, {before['high']:.3f}]"
        text = (
            f"negative controls: {base} itself has {own} on them, so that no more than the margin of {margin:g} "
            "could be lost: give controls that it can do"
        )
        return _check(CONTROLS, None, base, "hold", text, {**figure, **NOT_TESTED})
    status, said = _within(figure, margin, candidate, base, f"broke what {base} could do")
    return _check(CONTROLS, None, base, status, f"negative controls: {said}", figure)


def _kept(name: str, candidate: str, baseline: str, tracks: Mapping[str, Any], policy: GatePolicy) -> Check:
    """A metric that the primary one must not be bought with. InputError: there are cases, and none has it."""
    slice = policy.programmatic_slice
    found = slice_of(tracks.get(PROGRAMMATIC, NONE), slice).get("metrics", {name: NONE})
    if name not in found:
        raise InputError(
            f"kept of the gate: {name!r} is no metric of these cases; they have: {', '.join(found) or 'none'}"
        )
    figure, where = found[name], _where(PROGRAMMATIC, slice)
    untested = _untested(PROGRAMMATIC, slice, candidate, baseline, figure, policy, name)
    if untested:
        return _check(PROGRAMMATIC, slice, baseline, "hold", untested, {**figure, **NOT_TESTED}, name)
    status, said = _within(figure, policy.kept[name], candidate, baseline, f"lost what {baseline} had")
    return _check(PROGRAMMATIC, slice, baseline, status, f"{where}, {name}: {said}", figure, name)


def _within(
    figure: Mapping[str, Any], margin: float, candidate: str, other: str, lost: str
) -> tuple[Literal["pass", "hold", "fail"], str]:
    """Whether the candidate is not worse than `other` by the margin, and a sentence on it."""
    numbers = _numbers(figure)
    if figure["low"] > -margin:
        return "pass", f"{candidate} is within {margin:g} of {other}, {numbers}"
    if figure["difference"] < -margin and figure["high"] < 0:
        return "fail", f"{candidate} {lost}, {numbers}; allowed is {0.0 - margin:g}"
    return "hold", f"{candidate} is not shown to be within {margin:g} of {other}, {numbers}"


def _untested(
    track: str,
    slice: str | None,
    candidate: str,
    baseline: str,
    figure: Mapping[str, Any],
    policy: GatePolicy,
    primary: str | None = None,
) -> str:
    """Why the track says nothing yet; empty if it does."""
    where, number = _where(track, slice), primary or "score"
    if figure["n"] == 0:
        what = (
            "no graded pairs"
            if track == HUMAN
            else f"no cases with {primary}"
            if primary
            else "no scored cases"
        )
        return f"{where}: {what} of {candidate} and {baseline}; an empty track is not a pass"
    share = figure["unpaired"] / (figure["n"] + figure["unpaired"])
    if share > policy.max_unpaired_share:
        return (
            f"{where}: {figure['unpaired']} cases lack a {number} of {candidate} or {baseline} ({share:.1%}; "
            f"at most {policy.max_unpaired_share:.1%})"
        )
    if figure["n"] < policy.min_cases:
        return f"{where}: {_pairs(figure)} are too few to judge by (at least {policy.min_cases})"
    least = policy.smallest_detectable
    if least is not None and figure["smallest_detectable"] > least:
        return (
            f"{where}: {_pairs(figure)} would have shown a difference of {figure['smallest_detectable']:.3f} four "
            f"times in five; the rule asks for {least:g}"
        )
    return ""


def _info(slice: str | None, baseline: str, figure: Mapping[str, Any], metric: str) -> Check:
    word = (
        "not measured"
        if not figure["n"]
        else "better"
        if (figure["low"] or 0) > 0
        else "worse"
        if (figure["high"] or 0) < 0
        else "no significant difference"
    )
    text = f"{_where(PROGRAMMATIC, slice)}: {metric} {word}, {_numbers(figure)} (reported, not judged)"
    return _check(PROGRAMMATIC, slice, baseline, "info", text, {**figure, "least": None}, metric)


def _tracks(report: Mapping[str, Any], candidate: str, baseline: str) -> Mapping[str, Any]:
    for comparison in report["comparisons"]:
        if (comparison["candidate"], comparison["baseline"]) == (candidate, baseline):
            tracks: Mapping[str, Any] = comparison["tracks"]
            return tracks
    known = ", ".join(f"{c['candidate']} and {c['baseline']}" for c in report["comparisons"])
    raise InputError(f"the report does not compare {candidate!r} with {baseline!r}; it compares: {known}")


def _check(
    track: str,
    slice: str | None,
    baseline: str,
    status: Literal["pass", "hold", "fail", "info"],
    reason: str,
    figure: Mapping[str, Any],
    metric: str | None = None,
) -> Check:
    least, own = figure.get("least"), ("difference", "low", "high", "n")
    return Check(
        track,
        slice,
        baseline,
        status,
        reason,
        **{key: figure[key] for key in own},
        metric=metric,
        p=figure["p"] if least is None else min(1.0, 2 * figure["p_above"]),
        least=least,
        settled=figure.get("settled", 0),
    )


def _where(track: str, slice: str | None) -> str:
    return track.replace("_", " ") + (f" ({slice})" if slice else "")


def _numbers(figure: Mapping[str, Any]) -> str:
    if figure["n"] == 0:
        return "no pairs"
    return f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}] on {_pairs(figure)}"


def _pairs(figure: Mapping[str, Any]) -> str:
    """How many pairs there are; of people's, how many they graded, if nobody was asked about some."""
    settled = figure.get("settled", 0)
    graded = f" ({figure['n'] - settled} graded, {settled} with the same output)" if settled else ""
    return f"{figure['n']} pairs{graded}"
