"""The training section of a report: what a stage logged, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ..storage.jsonl import read_log
from . import charts

HISTOGRAM = "scores of completions"
DIAGNOSTICS = (
    HISTOGRAM,
    "score",
    "gold",
    "length: median, quartiles, least and most",
    "valid",
    "other_script",
    "entropy",
)
"""Charts of what a policy samples that stand together at the beginning, in this order."""
FIRST = (
    "score",
    "reward",
    "loss",
    "kl",
    "entropy",
    "length",
    "cut_off",
    "valid",
    "signal",
    "accura",
    "margin",
)
"""Charts whose name contains one of these come next, in this order."""
COUNTS = ("scored", "completions", "errored", "abstained")
LEFT_OUT = ("step", "epoch", "seconds", "time")
SCORES = "scores"
"""Of a row of metrics: the score of each completion that the step sampled."""
FIVE = ("min", "q1", "median", "q3", "max")
"""Endings of the metrics that together describe a distribution."""


def read_stage(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a stage, a row a step, with the scores of what was sampled where the stage logged it."""
    rows = read_log(folder / "metrics.jsonl")
    sampled: dict[int, list[float]] = {}
    for group in read_log(folder / "groups.jsonl"):
        sampled.setdefault(group["step"], []).extend(group["scores"] or [])
    return [{**row, SCORES: sampled[row["step"]]} if row["step"] in sampled else row for row in rows]


def stage_charts(
    stage: str, rows: Sequence[Mapping[str, Any]], alarms: Sequence[float] = ()
) -> list[dict[str, str]]:
    """Name, last value and SVG of each number that was logged at two steps or more; scores are a histogram.

    `alarms`: the steps that get a line across.
    """
    series: dict[str, list[charts.Point]] = {}
    scores: list[tuple[float, list[float]]] = []
    for position, row in enumerate(rows):
        step = row.get("step", position)
        if not _is_number(step):
            continue
        for key, value in row.items():
            if key == SCORES:
                scores.append((float(step), value))
            elif _is_number(value) and not any(word in key for word in LEFT_OUT):
                series.setdefault(key, []).append((float(step), float(value)))
    drawn = _distributions(stage, series, alarms)
    if svg := charts.heat(scores, f"{stage}: {HISTOGRAM}", alarms):
        drawn[HISTOGRAM] = {"last": "histogram", "svg": svg}
    for key, points in series.items():
        if svg := charts.curve(points, f"{stage}: {words(key)}", alarms):
            drawn[key] = {"last": charts.short(points[-1][1]), "svg": svg}
    ordered = sorted(drawn, key=lambda key: (_rank(key), list(drawn).index(key)))
    return [{"name": key, **drawn[key]} for key in ordered]


def _distributions(
    stage: str, series: dict[str, list[charts.Point]], alarms: Sequence[float]
) -> dict[str, dict[str, str]]:
    """Bands of the metrics that are described by five numbers, which are taken out of the series."""
    drawn = {}
    for name in [key.removesuffix("_median") for key in series if key.endswith("_median")]:
        if not all(f"{name}_{ending}" in series for ending in FIVE):
            continue
        five = [dict(series.pop(f"{name}_{ending}")) for ending in FIVE]
        steps = [(x, [of[x] for of in five]) for x in five[0] if all(x in of for of in five)]
        title = f"{name}: median, quartiles, least and most"
        if svg := charts.bands(steps, f"{stage}: {words(title)}", alarms):
            drawn[title] = {"last": charts.short(steps[-1][1][2]), "svg": svg}
    return drawn


def _rank(key: str) -> int:
    if key in DIAGNOSTICS:
        return DIAGNOSTICS.index(key) - len(DIAGNOSTICS)
    first = (i for i, word in enumerate(FIRST) if word in key and key not in COUNTS)
    return next(first, len(FIRST))


def words(name: str) -> str:
    """A name from code as words."""
    return name.replace("_", " ").replace("/", " · ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
