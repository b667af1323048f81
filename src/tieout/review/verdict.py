"""The first screen: each track before and after, the verdict and why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..evidence import rule
from ..evidence.evaluate import CONTROLS, HUMAN, PROGRAMMATIC
from ..evidence.leakage import in_words
from ..evidence.readings import NONE, REWARD, judged, slice_of
from ..evidence.steps import next_steps
from . import pictures
from .curves import alarms_of
from .markup import Markup, html, joined, p_value, signed, tag
from .progress import states
from .stored import Stored

MEANS = {
    "ship": "Every judged track passed.",
    "hold": "Nothing is clearly worse, but not every track is shown to pass.",
    "reject": "A track is clearly worse.",
}
TRACKS = {
    PROGRAMMATIC: "Held-out rows, scored by a program",
    HUMAN: "Answers that people preferred",
    CONTROLS: "Skills that must not be lost",
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
    heading = html("<h1>{}</h1>", " → ".join(trained(run)) or "Evidence")
    if run.report is None:
        body = joined([_unfinished(run), *_notes(run)])
        return html('<section id="verdict">\n<header>{}</header>\n{}\n</section>', heading, body)
    names = run.settings
    about = html(
        "<p>Is <b>{}</b> better than <b>{}</b>, and did it keep what <b>{}</b> could do?</p>",
        *(names[key] for key in ("candidate", "baseline", "base")),
    )
    parts = [html("<header>{}{}</header>", heading, about), _verdict(run), _tracks(run), *_notes(run)]
    return html('<section id="verdict">\n{}\n</section>', joined(parts))


def _verdict(run: Stored) -> Markup:
    found = run.judged["verdict"]
    reasons = [
        html(
            "<li>{}<span>{}{}</span></li>", tag(check["status"]), _capital(check["reason"]), _adjusted(check)
        )
        for check in found["checks"]
    ]
    return html(
        '<div class="verdict {0}"><p class="call"><strong>{0}</strong> {1}</p>\n<ul class="checks">{2}</ul>\n{3}</div>',
        found["verdict"],
        MEANS[found["verdict"]],
        joined(reasons),
        _next(run),
    )


def _capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def _adjusted(check: Mapping[str, Any]) -> Markup:
    if check["p_holm"] is None:
        return Markup("")
    said = f" p {p_value(check['p'])}, adjusted for all that is judged (Holm) {p_value(check['p_holm'])}"
    return html('<span class="muted">{}</span>', said)


def _next(run: Stored) -> Markup:
    steps = [html("<li>{}</li>", step) for step in steps_after(run.folder, run.judged)]
    command = next_command(run.folder, run.judged, run.name)
    listed = html("<ul>{}</ul>", joined(steps)) if steps else Markup("")
    typed = html("<pre>{}</pre>", command) if command else Markup("")
    return html('<div class="next"><p>Next</p>{}{}</div>', listed, typed) if steps or command else Markup("")


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
    """A panel per judged track: the models' means with their intervals, and the difference that is judged."""
    seen = dict[str, Mapping[str, Any]]()
    for check in run.judged["verdict"]["checks"]:
        seen.setdefault(check["track"], check)  # the first of a track is the one that is judged
    return html('<div class="tracks">{}</div>', joined([_panel(run, check) for check in seen.values()]))


def _panel(run: Stored, check: Mapping[str, Any]) -> Markup:
    rows = list(_rows(run, check))
    metric = check["metric"] or ("share preferred" if check["track"] == HUMAN else "score")
    where = f", {check['slice']}" if check["slice"] else ""
    drawn = pictures.before_after(rows) if rows else Markup('<p class="empty">nothing measured yet</p>')
    said = "not shown"
    if check["n"]:
        numbers = f"{signed(check['difference'])} ({signed(check['low'])} to {signed(check['high'])})"
        said = f"{run.settings['candidate']} − {check['baseline']}: {numbers}, {check['n']} pairs"
    return html(
        '<figure class="track {}"><figcaption>{}<span><b>{}</b>{}{}</span></figcaption>{}<p>{}</p></figure>',
        check["status"],
        tag(check["status"]),
        TRACKS.get(check["track"], check["track"].replace("_", " ")),
        Markup("<br>"),
        f"{metric}{where}",
        drawn,
        said,
    )


def _rows(run: Stored, check: Mapping[str, Any]) -> Iterator[pictures.Row]:
    """The base, what the candidate was trained from, and the candidate; of people, the two that they compared."""
    names = run.settings
    candidate, compared = names["candidate"], check["baseline"]
    if not check["n"]:
        return
    if check["track"] == HUMAN:
        half = {key: check[key] / 2 for key in ("difference", "low", "high")}
        yield pictures.Row(compared, "before", *(0.5 - half[k] for k in ("difference", "high", "low")))
        yield pictures.Row(candidate, "after", *(0.5 + half[k] for k in ("difference", "low", "high")))
        return
    for model in dict.fromkeys((names["base"], names["baseline"], candidate)):
        track = run.judged["models"][model].get(check["track"], NONE)
        figure = slice_of(track, check["slice"])
        if check["metric"] not in (None, REWARD):
            figure = judged(figure, check["metric"])
        if figure["n"]:
            kind: pictures.Kind = (
                "after" if model == candidate else "before" if model == compared else "other"
            )
            yield pictures.Row(model, kind, figure["mean"], figure["low"], figure["high"])


# ---------------------------------------------------------------- an unfinished run, and notes


def _unfinished(run: Stored) -> Markup:
    rows = [
        html("<li><b>{}</b> <span>{}</span></li>", name, state)
        for name, state in states(run.folder, run.record)
    ]
    return html(
        '<div class="verdict unjudged"><p class="call"><strong>Not judged yet</strong> The run is unfinished; this is '
        'how far its stages are.</p>\n<ul class="stages">{}</ul></div>',
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
