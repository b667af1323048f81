"""Section Slices: the candidate against the baseline, and against the base on the controls, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from ..evidence.evaluate import CONTROLS
from ..evidence.lines import Line, lines, place
from .markup import Markup, change, html, lead, nothing, number, signed, span, table
from .results import bar, reach_of
from .stored import Stored

Found = tuple[Line, str, Mapping[str, Any]]
"""A line of a slice, the model that the candidate is compared with, and the figure."""


def section(run: Stored) -> Markup:
    """A row per slice, in the primary metric where there is one, else the reward."""
    found = list(_found(run))
    if not found:
        return nothing("The rows name no slices.")
    reach, candidate = reach_of(figure for *_, figure in found), run.settings["candidate"]
    rows = list[list[Any] | Markup]()
    for (track, before, what), group in groupby(found, key=lambda one: (one[0].track, one[1], one[0].label)):
        name = track.replace("_", " ").capitalize()
        rows.append(html('{} <span class="muted">{}, {} minus {}</span>', name, what, candidate, before))
        rows += [_row(run, *one, reach) for one in group]
    columns = ["", "Before", "After", "Difference", "Interval", "", "Pairs", "Change"]
    said = "Where few pairs are in a slice its interval is wide: what is not shown to have changed may have."
    return html("{}\n{}", lead(said), table(columns, rows, numbers=(3, 6), kind="slices"))


def _found(run: Stored) -> Iterator[Found]:
    """In each slice the line of its primary metric, or else of the reward."""
    settings = run.settings
    own = [
        line for line in lines(run.judged) if line.slice is not None and line.kind in ("primary", "reward")
    ]
    for _, group in groupby(own, key=place):
        line = next(group)  # the primary metric comes first
        before = settings["base"] if line.track == CONTROLS else settings["baseline"]
        wanted = (settings["candidate"], before)
        pairs = (c for c in run.judged["comparisons"] if (c["candidate"], c["baseline"]) == wanted)
        figure = line.of(next(pairs)["tracks"])
        if figure["n"]:
            yield line, before, figure


def _mean(figure: Mapping[str, Any]) -> Markup:
    """With its interval, as in Results."""
    return html("{} {}", number(figure["mean"]), span(figure))


def _row(run: Stored, line: Line, before: str, figure: Mapping[str, Any], reach: float) -> list[Any]:
    models = run.judged["models"]
    return [
        line.slice,
        *(_mean(line.of(models[model])) for model in (before, run.settings["candidate"])),
        html("<b>{}</b>", signed(figure["difference"])),
        span(figure, sign=True),
        bar(figure, reach),
        figure["n"],
        change(figure),
    ]
