"""Panels of the first screen: a track each, with a picture of the models and what the gate says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..evidence.evaluate import CONTROLS, HUMAN, PROGRAMMATIC
from ..evidence.readings import NONE, REWARD, SCORE, Reading, judged, slice_of
from . import pictures
from .markup import Markup, html, joined, p_value, tag
from .stored import Stored

TRACKS = {
    PROGRAMMATIC: "Questions it never saw",
    HUMAN: "Answers that people prefer",
    CONTROLS: "Skills it must keep",
}


def panels(run: Stored) -> Markup:
    """A panel per track: the models' means with their intervals, and what the gate says of them."""
    seen, told = dict[str, Mapping[str, Any]](), list[Markup]()
    for check in run.judged["verdict"]["checks"]:
        if seen.setdefault(check["track"], check) is check:
            continue
        judged_too = html("{} ", tag(check["status"])) if check["status"] != "info" else ""  # of `kept`
        told.append(html("<li>{}{}{}</li>", judged_too, _capital(check["reason"]), _adjusted(check)))
    told += [html("<li>{}</li>", said) for said in _lost(run)]
    shown = html('<div class="tracks">{}</div>', joined([_panel(run, check) for check in seen.values()]))
    return joined([shown, html('<ul class="told">{}</ul>', joined(told))]) if told else shown


def _lost(run: Stored) -> Iterator[str]:
    """Skills among the controls that became worse, also where the mean of all of them passed."""
    names = run.settings["candidate"], run.settings["base"]
    pair = next(c for c in run.judged["comparisons"] if (c["candidate"], c["baseline"]) == names)
    slices = pair["tracks"].get(CONTROLS, NONE).get("slices", {})
    for name, figure in slices.items() if len(slices) > 1 else ():
        if figure["n"] and figure["high"] < 0:
            numbers = f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"
            yield f"Negative controls ({name}): worse, {numbers} on {figure['n']} pairs (reported, not judged)"


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
        alike = (
            f"; {check['settled']} of them ties of the same output, not graded" if check["settled"] else ""
        )
        return f"share of {check['n']} pairs won{alike}"
    what = f"{check['metric']}, " if check["metric"] else ""
    return f"{what}{'share right' if shares else 'mean score'} in {check['n']} cases"


def _right_or_wrong(run: Stored, check: Mapping[str, Any]) -> bool:
    """Whether every case has 0 or 1. A reward without a 1 among them may be graded, and nothing earned."""
    reading = SCORE if check["metric"] in (None, REWARD) else Reading("metrics", check["metric"])
    values = {
        reading.of(case)
        for model in (run.settings["candidate"], check["baseline"])
        for case in run.cases[model]
        if case.track == check["track"] and check["slice"] in (None, case.slice)
    }
    return values <= {0.0, 1.0, None} and (reading is not SCORE or 1.0 in values)


def _capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def _adjusted(check: Mapping[str, Any]) -> Markup:
    if check["p_holm"] is None:
        return Markup("")
    least = check["least"]
    what = "" if least is None else f" of {least:+g} or less (twice the one-sided)"
    return html(
        "; p{} {}, {} by Holm for all judged tracks", what, p_value(check["p"]), p_value(check["p_holm"])
    )


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
