"""Section Slices: the candidate against the baseline, and against the base on the controls, part by part."""

from __future__ import annotations

from typing import Any

from ..evidence.evaluate import CONTROLS
from ..evidence.gains import change
from ..evidence.lines import lines, place
from .markup import Markup, html, lead, nothing, number, signed, span, table
from .results import bar
from .stored import Stored


def section(run: Stored) -> Markup:
    """A row per slice: primary metric where there is one, else the reward."""
    settings, rows = run.settings, list[Any]()
    primary = settings["primary"]
    for line in lines(run.judged):
        if line.slice is None or line.kind not in ("primary", "reward"):
            continue
        if (
            line.kind == "reward"
            and primary
            and any(other.kind == "primary" and place(other) == place(line) for other in lines(run.judged))
        ):
            continue
        before = settings["base"] if line.track == CONTROLS else settings["baseline"]
        pair = next(
            c
            for c in run.judged["comparisons"]
            if (c["candidate"], c["baseline"]) == (settings["candidate"], before)
        )
        figure = line.of(pair["tracks"])
        if figure["n"]:
            models = run.judged["models"]
            means = [line.of(models[name])["mean"] for name in (before, settings["candidate"])]
            rows.append((line, before, means, figure))
    if not rows:
        return nothing("The rows name no slices.")
    reach = max([0.05, *(max(abs(f["low"]), abs(f["high"])) for *_, f in rows)])
    body = table(
        ["Slice", "Measured", "Before", "After", "Difference", "Interval", "", "Pairs", ""],
        [
            [
                place(line).capitalize(),
                line.label,
                html('{} <span class="muted">{}</span>', number(means[0]), before),
                number(means[1]),
                html("<b>{}</b>", signed(figure["difference"])),
                span(figure, sign=True),
                bar(figure, reach),
                figure["n"],
                change(figure),
            ]
            for line, before, means, figure in rows
        ],
        numbers=(2, 3, 4, 7),
        kind="slices",
    )
    said = (
        f"{settings['candidate']} minus {settings['baseline']}, on the negative controls minus "
        f"{settings['base']}. Slices with few pairs have wide intervals: what is not shown to have changed may "
        "have."
    )
    return html("{}\n{}", lead(said), body)
