"""Compare a reward model with held-out human preferences: its accuracy, and whether that is enough to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..groups import ranked_pairs
from ..learner import Learner
from ..source import Source
from ..types import Group, Row
from ..vetting.calibrate import Calibration, calibrate
from ..vetting.records import keep


def check_reward_model(
    learner: Learner, source: Source, rows: Sequence[Row], folder: Path, console: Console
) -> None:
    """Score held-out rows, write what was found into the folder, and say whether it is enough to train against."""
    if not rows:
        console.print(
            "  no held-out pairs: nothing is known of this reward model; calibrate it before it is used"
        )
        return
    groups = [source.ranking(row) for row in rows]
    found = calibrate("reward_model", None, scored_pairs(groups, learner.scores(groups)))
    keep(folder, found)
    console.print(f"  {verdict(found)}", markup=False, highlight=False)


def scored_pairs(groups: Sequence[Group], scores: Sequence[Sequence[float]]) -> list[Row]:
    """Every decided pair within the groups, as a row with the two completions and the scores they got."""
    return [
        {
            "prompt": group.row["prompt"],
            "chosen": group.completions[i].text,
            "rejected": group.completions[j].text,
            "chosen_score": given[i],
            "rejected_score": given[j],
        }
        for group, given in zip(groups, scores, strict=True)
        for i, j in ranked_pairs(group.scores or [])
    ]


def verdict(found: Calibration) -> str:
    """One line: accuracy with its interval, and what it allows."""
    return f"held-out pairs: {found.verdict}: {'; '.join(found.reasons)}"
