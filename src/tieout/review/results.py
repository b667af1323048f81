"""Section Results: every number of every model, and the paired differences, on the judged rows and whole tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evidence import charts
from ..evidence.evaluate import TRACKS
from ..evidence.lines import Line, lines, place
from .markup import Markup, html, joined, lead, nothing, number, p_value, share, signed, span, table
from .stored import Stored


def section(run: Stored) -> Markup:
    """Both tables."""
    return joined([_models(run), *_differences(run)])


def shown(run: Stored) -> list[Line]:
    """The lines of this section: the slice that is judged, or else the whole of each track. Others are in Slices."""
    found = lines(run.judged)
    first = found[0].slice
    return [line for line in found if line.slice is None or (line.track == TRACKS[0] and line.slice == first)]


def _models(run: Stored) -> Markup:
    settings, models = run.settings, run.judged["models"]
    rows = [(line, [line.of(tracks) for tracks in models.values()]) for line in shown(run)]
    known = [cell for _, cells in rows for cell in cells if cell["n"]]
    axis = min([0.0, *(c["low"] for c in known)]), max([1.0, *(c["high"] for c in known)])
    primary = settings["primary"]
    judged = (
        f"The gate judges {primary}, the task's primary metric; the reward is what was trained for, and a dash "
        "before a name: the points of it that this part gave."
        if primary
        else "The task names no primary metric: the gate judges the reward. A dash before a name: points of the "
        "reward that this part gave."
    )
    said = (
        f"Means with their {settings['level'] * 100:.0f}% intervals. {judged} Share won: of graded pairs, a tie "
        "being half. n counts cases that could be scored."
    )
    body = table(
        ["", *models],
        [[heading(line), *(_mean(cell, axis) for cell in cells)] for line, cells in rows],
        kind="models",
        classes=[line.kind for line, _ in rows],
    )
    return joined([lead(said), body])


def heading(line: Line) -> Markup:
    """Where the number is of, and what it is."""
    return html('<span class="place">{}</span> {}', place(line).capitalize(), line.label)


def _mean(cell: Mapping[str, Any], axis: tuple[float, float]) -> Markup:
    if not cell["n"]:
        return html('<span class="none">empty</span>')
    bar = Markup(charts.interval(cell["mean"], cell["low"], cell["high"], axis))
    errors = html(' <span class="flag">{} errored</span>', cell["errors"]) if cell["errors"] else Markup("")
    return html(
        '<b>{}</b> <span class="muted">n {}</span>{}{}{}',
        number(cell["mean"]),
        cell["n"],
        bar,
        span(cell),
        errors,
    )


def _differences(run: Stored) -> list[Markup]:
    settings = run.settings
    least = f"{1 - settings['level']:.2g}"
    said = (
        "The same cases, one model minus the other. Won, tied, lost: by which model has more. p: of the "
        f"difference that stands in the same row, and below {least} exactly where its interval excludes 0; "
        "mid-p McNemar test for right and wrong, else from the bootstrap. Detectable: the smallest true "
        "difference that this many cases show four times in five."
    )
    found = [
        (pair, [(line, line.of(pair["tracks"])) for line in shown(run)]) for pair in run.judged["comparisons"]
    ]
    known = [figure for _, rows in found for _, figure in rows if figure["n"]]
    reach = max([0.05, *(max(abs(f["low"]), abs(f["high"])) for f in known)])
    return [html("<h3>Paired differences</h3>"), lead(said)] + [
        _pair(pair, rows, reach) for pair, rows in found
    ]


def _pair(pair: Mapping[str, Any], rows: list[tuple[Line, Mapping[str, Any]]], reach: float) -> Markup:
    kept = [(line, figure) for line, figure in rows if figure["n"] or line.track in TRACKS]
    body = table(
        ["", "Difference", "Interval", "", "Pairs", "Won, tied, lost", "p", "Detectable"],
        [[heading(line), *difference(figure, reach)] for line, figure in kept],
        numbers=(1, 4, 5, 6, 7),
        kind="pairs",
        classes=[line.kind for line, _ in kept],
    )
    name = html("<h4>{} minus {}</h4>", pair["candidate"], pair["baseline"])
    return joined([name, html('<p class="gain">{}.</p>', pair["gain"]), body])


def difference(figure: Mapping[str, Any], reach: float) -> list[Any]:
    """Cells of a paired difference: value, interval, bar, pairs, won tied lost, p, detectable."""
    if not figure["n"]:
        return [nothing("empty: no pairs"), "", "", "", "", "", ""]
    left_out = (
        html(' <span class="flag">{} cases left out</span>', figure["unpaired"]) if figure["unpaired"] else ""
    )
    return [
        html("<b>{}</b>", signed(figure["difference"])),
        html("{}{}", span(figure, sign=True), left_out),
        bar(figure, reach),
        figure["n"],
        f"{share(figure, 'wins')} {share(figure, 'ties')} {share(figure, 'losses')}",
        p_value(figure["p"]),
        number(figure["smallest_detectable"]),
    ]


def bar(figure: Mapping[str, Any], reach: float) -> Markup:
    """The interval of a difference around zero."""
    return Markup(
        charts.interval(figure["difference"], figure["low"], figure["high"], (-reach, reach), mark=0.0)
    )
