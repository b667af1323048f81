"""The first screen: each track before and after, the verdict and why, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evidence import rule
from ..evidence.evaluate import HUMAN
from ..evidence.leakage import in_words
from ..evidence.steps import next_steps
from .attempts import failure
from .curves import alarms_of
from .markup import Markup, html, joined, ticked
from .progress import states
from .stored import Stored
from .tracks import TRACKS, panels

MEANS = {
    "ship": "Every judged track passed.",
    "hold": "No judged track failed, but not shown yet",
    "reject": "Clearly worse",
}


def title(run: Stored) -> str:
    """Of the document."""
    what = " → ".join(trained(run)) or "models"
    state = run.judged["verdict"]["verdict"] if run.report else "not judged yet"
    return f"{what} in {Path(run.name).name}: {state}"


def trained(run: Stored) -> list[str]:
    """Names of the train stages, as the report has them, or else the recipe."""
    stages = run.report["metadata"].get("recipe", {}).get("stages", []) if run.report else run.recipe
    return [stage["name"] for stage in stages if "train" in stage]


def section(run: Stored) -> Markup:
    """The first screen; of a run that was not judged yet, how far its stages are."""
    if run.report is None:
        heading = html("<h1>{}</h1>", " → ".join(trained(run)) or "Evidence")
        parts = [html("<header>{}{}</header>", heading, _about(run)), _unfinished(run)]
    else:
        names = run.settings
        asked = html("<h1>Is {} better than {}?</h1>", names["candidate"], names["baseline"])
        parts = [html("<header>{}{}</header>", asked, _about(run)), _verdict(run), panels(run), _next(run)]
    return html('<section id="verdict">\n{}\n</section>', joined([*parts, *_notes(run)]))


def _about(run: Stored) -> Markup:
    """What was trained, on what."""
    told = run.report["metadata"].get("recipe", {}) if run.report else run.record.get("identity", {})
    model, task, stages = told.get("model"), told.get("task"), " → ".join(trained(run))
    said = [
        f"Trained from {model}" if model else "",
        f"by {stages}" if stages else "",
        f"on {task}" if task else "",
    ]
    begun = str(run.record.get("time", ""))[:10]
    listed = [" ".join(filter(None, said)), f"run {Path(run.name).name}", f"begun {begun}" if begun else ""]
    return html("<p>{}</p>", ", ".join(filter(None, listed)))


def _verdict(run: Stored) -> Markup:
    found = run.judged["verdict"]
    kind = {"hold": "hold", "reject": "fail"}.get(found["verdict"])
    kept = run.settings["policy"].get("kept", {})
    tracks = [
        f"{check['metric']} that it must keep" if check["metric"] in kept else TRACKS[check["track"]].lower()
        for check in found["checks"]
        if check["status"] == kind
    ]
    return html(
        '<div class="verdict {0}"><p class="call"><strong>{0}</strong> {1}{2}</p></div>',
        found["verdict"],
        MEANS[found["verdict"]],
        f": {', '.join(tracks)}." if tracks else "",
    )


def _next(run: Stored) -> Markup:
    steps = [html("<li>{}</li>", ticked(step)) for step in steps_after(run.folder, run.judged)]
    command = next_command(run.folder, run.judged, run.name)
    listed = html("<ul>{}</ul>", joined(steps)) if steps else ""
    typed = html("<pre>{}</pre>", command) if command else ""
    return html('<div class="next"><b>Next</b>{}{}</div>', listed, typed) if steps or command else Markup("")


def steps_after(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """What to do now, in sentences; nothing for what was shipped."""
    return [] if (folder / "shipped").exists() else next_steps(report)


def next_command(folder: Path, report: Mapping[str, Any], name: str = "") -> str:
    """What to type now; empty where there is something to do first (`next_steps`). Never the override."""
    called = shlex.quote(name or str(folder))
    if (folder / "shipped").exists():
        return f"tieout show {called}"
    if report["verdict"]["verdict"] == "ship":
        return f"tieout ship {called}"
    held = {check["track"] for check in report["verdict"]["checks"] if check["status"] == "hold"}
    if report["verdict"]["verdict"] == "hold" and HUMAN in held:
        return f"tieout label {called}"
    return ""


# ---------------------------------------------------------------- an unfinished run, and notes


def _unfinished(run: Stored) -> Markup:
    rows = [
        html("<li><b>{}</b> <span>{}</span></li>", name, state)
        for name, state in states(run.folder, run.record)
    ]
    return html(
        '<div class="verdict unjudged"><p class="call"><strong>Not judged yet</strong> How far its stages are:</p>\n'
        '<ul class="stages">{}</ul></div>',
        joined(rows),
    )


def _notes(run: Stored) -> list[Markup]:
    said = alarms_of(run.alarms)
    if failed := failure(run.steps):
        before = "; verdict and figures are of before it" if run.report is not None else ""
        said = [f"The last attempt failed in stage {failed}{before}", *said]
    if run.report is not None:
        said = [*rule.in_words(run.report.get("rule", {})), *leaks_of(run.report), *said]
    return [html('<p class="note">{}</p>', note) for note in said]


def leaks_of(report: Mapping[str, Any]) -> list[str]:
    """Training rows that were accepted among the held-out ones, as a sentence; none if there are none."""
    found = report["metadata"].get("leakage", {})
    if not found.get("accepted"):
        return []
    return [f"Held-out rows that were trained on ({in_words(found)}), accepted: {found['accepted']}"]
