"""Section Results: every number of every model, and the paired differences, on the judged rows and whole tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ..evidence import charts
from ..evidence.evaluate import TRACKS
from ..evidence.lines import Line, lines, place
from ..evidence.pass_at_k import in_words
from .markup import Markup, folded, html, joined, lead, number, p_value, share, signed, span, table
from .stored import Stored


def section(run: Stored) -> Markup:
    """Means, then differences: the judged pair first, others folded away."""
    pairs = [(pair, _pair(run, pair)) for pair in run.judged["comparisons"]]
    title = "{candidate} minus {baseline}"
    others = [folded(title.format(**pair), body, printed=False) for pair, body in pairs[1:]]
    first = html("<h3>{}</h3>", title.format(**pairs[0][0]))
    return joined([_models(run), first, _about_pairs(run), pairs[0][1], *others, *_samples(run)])


def shown(run: Stored) -> list[Line]:
    """The lines of this section: the slice that is judged, or else the whole of each track. Others are in Slices."""
    found = lines(run.judged)
    first = found[0].slice
    return [line for line in found if line.slice is None or (line.track == TRACKS[0] and line.slice == first)]


def grouped(rows: Iterable[tuple[Line, Sequence[Any], int]]) -> Iterator[Markup | tuple[str, Sequence[Any]]]:
    """(class, cells) of each (line, cells, n), below a heading for its place that says how many cases there are."""
    for where, found in groupby(rows, key=lambda row: place(row[0])):
        own = list(found)
        count = max(n for _, _, n in own)
        yield html(
            '{} <span class="muted">{}</span>', where.capitalize(), f"{count} cases" if count else "no cases"
        )
        yield from ((line.kind, [line.label, *cells]) for line, cells, _ in own)


def grouped_table(
    columns: Sequence[str], rows: Iterable[tuple[Line, Sequence[Any], int]], **options: Any
) -> Markup:
    """A table of lines, with headings for their places."""
    found = list(grouped(rows))
    return table(
        columns,
        [row if isinstance(row, Markup) else row[1] for row in found],
        classes=["" if isinstance(row, Markup) else row[0] for row in found],
        **options,
    )


def _models(run: Stored) -> Markup:
    settings, models = run.settings, run.judged["models"]
    primary = settings["primary"]
    judged = f"{primary} is the task's primary metric, which the gate judges; the reward was trained for."
    if not primary:
        judged = "The task names no primary metric: the gate judges the reward."
    said = (
        f"Means with their {settings['level'] * 100:.0f}% intervals. {judged} A dash before a name: points of the "
        "reward that this part gave. Share won: of all graded pairs that a model is in, with "
        "whichever other model, a tie being half; pairs of the same output are ties that nobody was asked about."
    )
    rows = []
    for line in shown(run):
        cells = [line.of(tracks) for tracks in models.values()]
        most = max(cell["n"] for cell in cells)
        rows.append((line, [_mean(cell, most) for cell in cells], most))
    return joined([lead(said), grouped_table(["", *models], rows, kind="models")])


def _mean(cell: Mapping[str, Any], most: int) -> Markup:
    if not cell["n"]:
        return html('<span class="none">empty</span>')
    fewer = html(' <span class="muted">n {}</span>', cell["n"]) if cell["n"] < most else ""
    errors = html(' <span class="flag">{} errored</span>', cell["errors"]) if cell["errors"] else ""
    return html("<b>{}</b> {}{}{}{}", number(cell["mean"]), span(cell), fewer, errors, _alike(cell))


def _alike(figure: Mapping[str, Any]) -> Markup:
    """How many of people's pairs nobody was asked about."""
    count = figure.get("settled")
    return html(' <span class="muted">{} of the same output</span>', count) if count else Markup("")


def _samples(run: Stored) -> Iterator[Markup]:
    """pass@k, where several samples of each answer were taken."""
    found = run.judged.get("pass_at_k")
    if found is None:
        return
    names = [*found["models"], f"{found['candidate']} minus {found['baseline']}"]
    columns = [*found["models"].values(), found["difference"]]
    count = max(figure["n"] for own in columns for figure in own.values())
    said = (
        f"pass@k: the probability that one of k samples is right, estimated without bias from "
        f"{in_words(run.settings['sampled'])}. {count} cases; one of which a sample has no score is left out. The gate "
        "does not read it: it judges the one answer that is served."
    )
    rows = [[k, *(_passed(own[k]) for own in columns)] for k in columns[0]]
    yield joined(
        [html("<h3>Several samples of an answer</h3>"), lead(said), table(["", *names], rows, kind="models")]
    )


def _passed(figure: Mapping[str, Any]) -> Markup:
    if not figure["n"]:
        return html('<span class="none">empty</span>')
    paired = "difference" in figure
    value = signed(figure["difference"]) if paired else number(figure["mean"])
    return html("<b>{}</b> {}", value, span(figure, sign=paired))


def _about_pairs(run: Stored) -> Markup:
    least = f"{1 - run.settings['level']:.2g}"
    return lead(
        "The same cases, one model minus the other. Won, tied, lost: by which model has more. p: of the difference "
        f"that stands in the same row, and below {least} exactly where its interval excludes 0; mid-p McNemar test "
        "for right and wrong, else from the bootstrap. Detectable: the smallest true difference that this many cases "
        "show four times in five."
    )


def _pair(run: Stored, pair: Mapping[str, Any]) -> Markup:
    found = [(line, line.of(pair["tracks"])) for line in shown(run)]
    kept = [(line, figure) for line, figure in found if figure["n"] or line.track in TRACKS]
    reach = reach_of(figure for _, figure in kept)
    body = grouped_table(
        ["", "Difference", "Interval", "", "Won, tied, lost", "p", "Detectable"],
        [(line, difference(figure, reach), figure["n"]) for line, figure in kept],
        numbers=(1, 4, 5, 6),
        kind="pairs",
    )
    return joined([html('<p class="gain">{}.</p>', pair["gain"][:1].upper() + pair["gain"][1:]), body])


def reach_of(figures: Iterable[Mapping[str, Any]]) -> float:
    """How far from zero an axis must go for these differences."""
    return max([0.05, *(max(abs(f["low"]), abs(f["high"])) for f in figures if f["n"])])


def difference(figure: Mapping[str, Any], reach: float) -> list[Any]:
    """Cells of a paired difference: value, interval, bar, won tied lost, p, detectable."""
    if not figure["n"]:
        return ["–", html('<span class="none">empty: no pairs</span>'), "", "–", "–", "–"]
    left_out = (
        html(' <span class="flag">{} cases left out</span>', figure["unpaired"]) if figure["unpaired"] else ""
    )
    return [
        html("<b>{}</b>", signed(figure["difference"])),
        html("{}{}{}", span(figure, sign=True), left_out, _alike(figure)),
        bar(figure, reach),
        f"{share(figure, 'wins')} {share(figure, 'ties')} {share(figure, 'losses')}",
        p_value(figure["p"]),
        number(figure["smallest_detectable"]),
    ]


def bar(figure: Mapping[str, Any], reach: float) -> Markup:
    """The interval of a difference around zero."""
    axis = (-reach, reach)
    return Markup(charts.interval(figure["difference"], figure["low"], figure["high"], axis, mark=0.0))
