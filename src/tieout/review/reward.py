"""Section The reward: its proof, attacks and calibrations, before it was trained on and while it was."""

from __future__ import annotations

from ..evidence.reward_checks import pairs_of, rows_of
from .markup import Markup, folded, joined, lead, nothing, number, span, table, tag
from .stored import Stored


def section(run: Stored) -> Markup:
    """A row per finding, and how often the better completion of each kind of pair scores higher."""
    rows, pairs = rows_of(run.findings), pairs_of(run.findings)
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
    parts = [lead(said), findings]
    if pairs:
        body = table(
            ["Stage", "Pair", "Share", "Interval", "Pairs"],
            [[row["stage"], row["kind"], number(row["value"]), span(row), row["n"]] for row in pairs],
            numbers=(2, 4),
            kind="listed",
        )
        said = f"{len(pairs)} kinds of pairs: how often the better completion scores higher"
        parts.append(folded(said, body))
    return joined(parts)
