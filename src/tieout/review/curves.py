"""Section Training: every stage's curves as logged, with the alarms that went off at their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evidence.training import stage_charts, words
from .markup import Markup, folded, html, joined, lead, nothing
from .stored import Stored

NUM_CHARTS = 12
"""Charts of a stage shown at once; the others fold away."""
MOST_ALARMS = 10


def section(run: Stored) -> Markup:
    """The charts of every stage."""
    if not run.stages:
        return nothing("Not yet: no stage has logged a step.")
    said = (
        "Every stage as it ran: faint as measured, bold a running mean, and the last value at the right. In "
        "the histogram of scores a cell is the darker the more completions of those steps have that score; "
        "bands span the quartiles, and least to most. A dashed line: an alarm went off at that step."
    )
    return joined(
        [lead(said), *(_stage(name, rows, run.alarms.get(name, [])) for name, rows in run.stages.items())]
    )


def _stage(name: str, rows: Sequence[Mapping[str, Any]], alarms: Sequence[Mapping[str, Any]]) -> Markup:
    found, still = _moving(stage_charts(name, rows, [alarm["step"] for alarm in alarms]), rows)
    drawn = [_figure(chart) for chart in found]
    said = [html('<p class="flag">{}</p>', sentence) for sentence in alarms_of({name: alarms})]
    if not drawn and not still:
        return joined([html("<h3>{}</h3>", name), *said, nothing("fewer than two steps with numbers")])
    parts = [html("<h3>{}</h3>", name), *said, _grid(drawn[:NUM_CHARTS])]
    if more := drawn[NUM_CHARTS:]:
        parts.append(folded(f"{len(more)} more", _grid(more), printed=False))
    if still:
        parts.append(html('<p class="lead">The same at every step: {}.</p>', ", ".join(still)))
    return joined(parts)


def _moving(
    charts: Sequence[Mapping[str, str]], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, str]], list[str]]:
    """The charts of what changes, and `name value` of what does not."""
    constant = {
        chart["name"]: chart["last"]
        for chart in charts
        if len({row[chart["name"]] for row in rows if chart["name"] in row}) == 1
    }
    return [c for c in charts if c["name"] not in constant], [f"{words(k)} {v}" for k, v in constant.items()]


def _grid(figures: Sequence[Markup]) -> Markup:
    return html('<div class="curves">{}</div>', joined(figures))


def _figure(chart: Mapping[str, str]) -> Markup:
    return html(
        "<figure><figcaption><span>{}</span><b>{}</b></figcaption>{}</figure>",
        words(chart["name"]),
        chart["last"],
        Markup(chart["svg"]),  # which escapes what it is given
    )


def alarms_of(alarms: Mapping[str, Sequence[Mapping[str, Any]]], most: int = MOST_ALARMS) -> list[str]:
    """What went off while training, a sentence each."""
    found = [
        f"Alarm in {name} at step {alarm['step']}: {alarm['reason']}"
        for name, own in alarms.items()
        for alarm in own
    ]
    more = [f"{len(found) - most} further alarms are in alarms.jsonl of the stages"] if found[most:] else []
    return found[:most] + more
