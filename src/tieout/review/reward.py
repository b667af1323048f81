"""Section The reward: its proof, attacks and calibrations, before it was trained on and while it was."""

from __future__ import annotations

from ..evidence import charts
from ..evidence.reward_checks import found_of, pairs_of, rows_of
from .markup import Markup, folded, html, joined, lead, nothing, number, span, table, tag
from .stored import Stored

MOST = 10
"""Findings of an attack that are listed; all are in its file."""


def section(run: Stored) -> Markup:
    """A row per finding, and how often the better completion of each kind of pair scores higher."""
    rows = rows_of(run.findings)
    if not rows:
        return nothing(
            "The reward was not checked in this run: the developer adds a check stage, or runs `tieout attack` and "
            "`tieout calibrate`."
        )
    said = (
        "What was found out about the reward that was trained on, before and while it was: a gain is worth no "
        "more than what it was measured with. The files and their hashes are in report.json."
    )
    findings = table(
        ["Stage", "What", "Result", "Finding"],
        [[row["stage"], row["what"], tag(row["verdict"]), row["said"]] for row in rows],
        kind="checked",
    )
    return joined([lead(said), findings, *_exploits(run), *_reliability(run), *_pairs(run)])


def _exploits(run: Stored) -> list[Markup]:
    """What the reward paid for and should not have, of attacks that were accepted by name."""
    rows = [
        [
            found["class"],
            found["completion"],
            number(found["score"]),
            number(found["gold_score"]),
            found["why"],
        ]
        for _, findings in found_of(run.findings, "findings")
        for found in findings[:MOST]
    ]
    columns = ["Class", "Completion", "Paid", "Gold", "Why not"]
    return [html("<h3>Exploits</h3>"), table(columns, rows, numbers=(2, 3))] if rows else []


def _reliability(run: Stored) -> list[Markup]:
    """A chart per calibration with bins."""
    drawn = [
        html("<figure><figcaption><span>{}</span></figcaption>{}</figure>", name, Markup(svg))
        for name, bins in found_of(run.findings, "bins")
        if (svg := charts.reliability(bins, name))
    ]
    if not drawn:
        return []
    said = (
        "Calibrations: how often completions of similar score are right (of pairs: are in the right order, by the "
        "distance of their scores), with 95% intervals. A reward that measures the goal rises from left to right."
    )
    body = html('<div class="curves">{}</div>', joined(drawn))
    return [html("<h3>Reliability</h3>"), lead(said), body]


def _pairs(run: Stored) -> list[Markup]:
    pairs = pairs_of(run.findings)
    if not pairs:
        return []
    body = table(
        ["Stage", "Pair", "Share", "Interval", "Pairs"],
        [[row["stage"], row["kind"], number(row["value"]), span(row), row["n"]] for row in pairs],
        numbers=(2, 4),
        kind="listed",
    )
    return [folded(f"{len(pairs)} kinds of pairs: how often the better completion scores higher", body)]
