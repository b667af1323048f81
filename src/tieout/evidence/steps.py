"""What to do after a verdict: what would turn a hold, what to look at after a reject."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf, log10
from typing import Any

from .evaluate import CONTROLS, HUMAN, PROGRAMMATIC
from .gains import change
from .readings import NONE, judged, slice_of

LESS_DRIFT = (
    "train with less drift (a lower rate, fewer steps, a stronger KL) or with general rows among the data"
)
MANY = 100
"""Times the rows there are: more than these are not advised."""


def next_steps(report: Mapping[str, Any]) -> list[str]:
    """A sentence per track that did not pass, in the order of the checks; none after `ship`."""
    verdict = report["verdict"]
    if verdict["verdict"] == "reject":
        return _after_reject(report)
    if verdict["verdict"] == "ship":
        return []
    steps = {PROGRAMMATIC: _more_right, HUMAN: _more_grades, CONTROLS: _more_controls}
    held = [check for check in verdict["checks"] if check["status"] == "hold"]
    said = [steps[check["track"]](report, check) for check in held]
    return [*said, *(_instead(report) if PROGRAMMATIC in {check["track"] for check in held} else [])]


def _instead(report: Mapping[str, Any]) -> list[str]:
    """A policy of the run that is shown to be better than the base, where the candidate is not better than it."""
    settings, models = report["settings"], report["metadata"].get("models", {})
    primary, base = settings["primary"], settings["base"]
    for comparison in report["comparisons"]:
        name = comparison["candidate"]
        trained = name != settings["candidate"] and models.get(name, {}).get("trained")
        tracks = comparison["tracks"][PROGRAMMATIC]
        figure = judged(slice_of(tracks, settings["policy"]["programmatic_slice"]), primary)
        if trained and comparison["baseline"] == base and figure["n"] and figure["low"] > 0:
            return [
                f"Or take {name}, which is better than {base} in {primary or 'reward'} ({figure['difference']:+.3f} "
                f"[{figure['low']:+.3f}, {figure['high']:+.3f}]): `tieout ship RUN --model {name}` judges it in place "
                f"of {settings['candidate']}. It is then chosen by these test rows, which flatters it a little."
            ]
    return []


def _lost(metric: str) -> str:
    return f"See in evidence/report.html which answers lost {metric}; {LESS_DRIFT}."


def _more_right(report: Mapping[str, Any], check: Mapping[str, Any]) -> str:
    settings = report["settings"]
    policy, primary = settings["policy"], settings["primary"]
    if check["metric"] in policy.get("kept", {}):
        return f"{_lost(check['metric'])} Or evaluate more test rows."
    reward = _figure(report, check)
    figure = judged(reward, primary)
    what, candidate = primary or "reward", settings["candidate"]
    if figure["n"] == 0 or figure["unpaired"] > policy["max_unpaired_share"] * (
        figure["n"] + figure["unpaired"]
    ):
        return f"Give the cases a {what}: `errors` in evidence/cases.jsonl says what failed; evaluate again."
    if figure["n"] < policy["min_cases"]:
        return f"Evaluate more test rows: {figure['n']} pairs are too few, at least {policy['min_cases']} are judged."
    gap = figure["difference"] - policy["min_improvement"]
    if gap > 0 and (rows := figure["n"] * (figure["smallest_detectable"] / gap) ** 2) < MANY * figure["n"]:
        return (
            f"Evaluate more test rows: if the difference in {what} is what it looks like "
            f"({figure['difference']:+.3f}), about {_about(rows)} show it; there are {figure['n']}. Or train further."
        )
    if primary and change(reward) == "rose":
        return f"Make the reward pay for {primary} and train again: the gain so far is not one of {primary}."
    return (
        f"Train {candidate} further, or with other data or settings: there is no gain in {what} to confirm."
    )


def _more_grades(report: Mapping[str, Any], check: Mapping[str, Any]) -> str:
    figure, least = _figure(report, check), report["settings"]["policy"]["min_cases"]
    fill = (
        "Grade pairs with `tieout label`, or fill in `preferred` (a, b or tie) on evidence/human/sheet.jsonl"
    )
    if "human/rubric.md" in report["files"]:
        fill += ", by evidence/human/rubric.md"
    if figure["n"] == 0:
        return f"{fill}."
    if figure["n"] < least:
        return f"{fill}: {figure['n']} graded pairs are too few, at least {least} are judged."
    return (
        f"Grade more pairs, of more test rows if the sheet has no others: these {figure['n']} do not show which model "
        f"people prefer ({figure['difference']:+.3f})."
    )


def _more_controls(report: Mapping[str, Any], check: Mapping[str, Any]) -> str:
    figure, settings = _figure(report, check), report["settings"]
    margin = settings["policy"]["control_margin"]
    room = margin + (figure["difference"] or 0.0)
    if figure["n"] == 0:
        return (
            "Give the run negative controls, skills to be kept: in a recipe `data.controls: FILE` of prompt and answer "
            "or `controls: short_questions`, of the library; for `tieout eval`, --controls."
        )
    rows = figure["n"] * ((figure["difference"] - figure["low"]) / room) ** 2 if room > 0 else inf
    if figure["unpaired"] or rows > MANY * figure["n"]:
        return f"See in evidence/report.html which controls {settings['candidate']} lost; {LESS_DRIFT}."
    return (
        f"Evaluate more control rows: about {_about(rows)} show that the loss is within {margin:g}; "
        f"there are {figure['n']}."
    )


def _after_reject(report: Mapping[str, Any]) -> list[str]:
    settings, steps = report["settings"], list[str]()
    candidate = settings["candidate"]
    comparison = report["comparisons"][0]
    for check in report["verdict"]["checks"]:
        if check["status"] != "fail":
            continue
        if check["metric"] in settings["policy"].get("kept", {}):
            steps.append(_lost(check["metric"]))
        elif check["track"] == PROGRAMMATIC:
            steps.append(
                f"What changed from {comparison['baseline']} to {candidate}: {comparison['gain']}. Train with a lower "
                "learning rate or fewer steps, or with other data; a reward that rose pays for something else."
            )
        elif check["track"] == HUMAN:
            steps.append("Read the graded pairs in evidence/human: people prefer the baseline's answers.")
        else:
            slices = _comparison(report, check["baseline"])["tracks"][CONTROLS]["slices"]
            lost = sorted(
                (f["difference"], name) for name, f in slices.items() if f["n"] and f["difference"] < 0
            )
            names = ", ".join(f"{name} {value:+.3f}" for value, name in lost[:5])
            steps.append(f"Controls that {candidate} lost: {names}; {LESS_DRIFT}.")
    if count := len(comparison["regressions"]):
        steps.append(f"Read the {count} regressions in evidence/report.html.")
    return [
        *steps,
        *_instead(report),
        "Then change data, reward or settings, and run the recipe into a new folder.",
    ]


def _figure(report: Mapping[str, Any], check: Mapping[str, Any]) -> Mapping[str, Any]:
    tracks = _comparison(report, check["baseline"])["tracks"]
    return slice_of(tracks.get(check["track"], NONE), check["slice"])


def _comparison(report: Mapping[str, Any], baseline: str) -> Mapping[str, Any]:
    names = (report["settings"]["candidate"], baseline)
    found: Mapping[str, Any] = next(
        c for c in report["comparisons"] if (c["candidate"], c["baseline"]) == names
    )
    return found


def _about(rows: float) -> str:
    """Rounded up to two digits."""
    scale = 10 ** max(0, ceil(log10(max(rows, 1.0))) - 2)
    return f"{ceil(rows / scale) * scale:,}"
