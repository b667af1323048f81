"""The first screen: each track before and after, the verdict and why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..evidence import rule
from ..evidence.evaluate import CONTROLS, HUMAN, PROGRAMMATIC
from ..evidence.leakage import in_words
from ..evidence.readings import NONE, REWARD, SCORE, Reading, judged, slice_of
from ..evidence.steps import next_steps
from . import pictures
from .curves import alarms_of
from .markup import Markup, html, joined, p_value, tag, ticked
from .progress import states
from .stored import Stored

MEANS = {
    "ship": "Every judged track passed.",
    "hold": "Nothing is clearly worse, but not shown yet",
    "reject": "Clearly worse",
}
TRACKS = {
    PROGRAMMATIC: "Questions it never saw",
    HUMAN: "Answers that people prefer",
    CONTROLS: "Skills it must keep",
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
        parts = [html("<header>{}{}</header>", asked, _about(run)), _verdict(run), _tracks(run), _next(run)]
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
    tracks = [TRACKS[check["track"]].lower() for check in found["checks"] if check["status"] == kind]
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
    called = name or str(folder)
    if (folder / "shipped").exists():
        return f"tieout show {called}"
    if report["verdict"]["verdict"] == "ship":
        return f"tieout ship {called}"
    held = {check["track"] for check in report["verdict"]["checks"] if check["status"] == "hold"}
    if report["verdict"]["verdict"] == "hold" and HUMAN in held:
        return f"tieout label {called}"
    return ""


# ---------------------------------------------------------------- the picture


def _tracks(run: Stored) -> Markup:
    """A panel per track: the models' means with their intervals, and what the gate says of them."""
    seen, told = dict[str, Mapping[str, Any]](), list[Markup]()
    for check in run.judged["verdict"]["checks"]:
        if (
            seen.setdefault(check["track"], check) is not check
        ):  # the first of a track is the one that is judged
            told.append(html("<li>{}</li>", _capital(check["reason"])))
    panels = html('<div class="tracks">{}</div>', joined([_panel(run, check) for check in seen.values()]))
    return joined([panels, html('<ul class="told">{}</ul>', joined(told))]) if told else panels


def _panel(run: Stored, check: Mapping[str, Any]) -> Markup:
    rows = list(_rows(run, check))
    shares = check["track"] == HUMAN or _right_or_wrong(run, check)
    empty = Markup('<p class="empty">nobody has graded pairs yet</p>')
    if check["track"] != HUMAN:
        empty = Markup('<p class="empty">nothing was measured</p>')
    return html(
        '<figure class="track"><figcaption><span><b>{}</b> {}</span>{}</figcaption>{}<p>{}{}</p></figure>',
        TRACKS[check["track"]],
        _measured(check, shares),
        tag(check["status"]),
        pictures.before_after(rows, shares) if rows else empty,
        _capital(check["reason"]),
        _adjusted(check),
    )


def _measured(check: Mapping[str, Any], shares: bool) -> str:
    """What the panel shows."""
    if not check["n"]:
        return ""
    if check["track"] == HUMAN:
        return f"share of {check['n']} blind pairs won, a tie being half"
    what = f"{check['metric']}, " if check["metric"] else ""
    return f"{what}{'share right' if shares else 'mean score'} in {check['n']} cases"


def _right_or_wrong(run: Stored, check: Mapping[str, Any]) -> bool:
    """Whether every case has 0 or 1."""
    reading = SCORE if check["metric"] in (None, REWARD) else Reading("metrics", check["metric"])
    values = {
        reading.of(case)
        for model in (run.settings["candidate"], check["baseline"])
        for case in run.cases[model]
        if case.track == check["track"] and check["slice"] in (None, case.slice)
    }
    return values <= {0.0, 1.0, None}


def _capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def _adjusted(check: Mapping[str, Any]) -> Markup:
    if check["p_holm"] is None:
        return Markup("")
    return html("; p {}, {} by Holm for all tracks", p_value(check["p"]), p_value(check["p_holm"]))


def _rows(run: Stored, check: Mapping[str, Any]) -> Iterator[pictures.Row]:
    """The base, what the candidate was trained from, and the candidate; of people, the two that they compared."""
    names = run.settings
    candidate, base, compared = names["candidate"], names["base"], check["baseline"]
    if not check["n"]:
        return
    if check["track"] == HUMAN:
        half = {key: check[key] / 2 for key in ("difference", "low", "high")}
        yield pictures.Row(compared, "before", *(0.5 - half[k] for k in ("difference", "high", "low")))
        yield pictures.Row(candidate, "after", *(0.5 + half[k] for k in ("difference", "low", "high")))
        return
    for model in dict.fromkeys((base, names["baseline"], candidate)):
        figure = slice_of(run.judged["models"][model].get(check["track"], NONE), check["slice"])
        if check["metric"] not in (None, REWARD):
            figure = judged(figure, check["metric"])
        if figure["n"]:
            role = "after" if model == candidate else "untrained" if model == base else "before"
            if model == base == names["baseline"]:
                role = "before"
            yield pictures.Row(model, role, figure["mean"], figure["low"], figure["high"])


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
    if run.report is not None:
        said = [*rule.in_words(run.report.get("rule", {})), *leaks_of(run.report), *said]
    return [html('<p class="note">{}</p>', note) for note in said]


def leaks_of(report: Mapping[str, Any]) -> list[str]:
    """Training rows that were accepted among the held-out ones, as a sentence; none if there are none."""
    found = report["metadata"].get("leakage", {})
    if not found.get("accepted"):
        return []
    return [f"Held-out rows that were trained on ({in_words(found)}), accepted: {found['accepted']}"]
