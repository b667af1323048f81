"""Where a calibrated reward and people differ: the threshold that would agree most, and the worst rows."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .calibrate import Calibration

GAIN = 0.02
"""A threshold that agrees on fewer rows more than this is not worth naming."""


def better_threshold(found: Calibration) -> list[str]:
    """A line on the threshold with the highest agreement, if it is clearly better than the policy's; of labels only."""
    scored = [
        (row["score"], row["label"] > 0.5)
        for row in found.rows
        if row["status"] == "scored" and "label" in row
    ]
    scores = sorted({score for score, _ in scored})
    if len(scores) < 2:
        return []
    agree = {cut: sum((score >= cut) == good for score, good in scored) for cut in scores}
    cut = max(agree, key=lambda one: (agree[one], one))
    now = sum((score >= found.policy.threshold) == good for score, good in scored)
    if agree[cut] - now <= GAIN * len(scored):
        return []
    below = max((score for score in scores if score < cut), default=cut - 1.0)
    shown = next(text for digits in range(1, 18) if below < float(text := f"{cut:.{digits}g}") <= cut)
    return [
        f"best threshold: {shown}, where {agree[cut] / len(scored):.3f} of these rows agree, against "
        f"{now / len(scored):.3f} at {found.policy.threshold:g}; chosen on them, so try --threshold {shown} on others"
    ]


def worst(found: Calibration, places: Sequence[str], count: int = 5) -> list[str]:
    """Lines on the rows where they differ most. `places`: where each row of the calibration is, such as FILE:LINE."""
    differ: list[tuple[float, str]] = []
    for place, row in zip(places, found.rows, strict=True):
        if row["status"] != "scored" or row["agrees"] >= 0.5:
            continue
        if found.kind == "pairs":
            lead = row["rejected_score"] - row["chosen_score"]
            said = f"rejected {row['rejected_score']:.3g}, chosen {row['chosen_score']:.3g}: {_short(row['rejected'])}"
        else:
            lead = abs(row["score"] - row["label"])
            people = "right" if row["label"] > 0.5 else "wrong"
            said = f"score {row['score']:.3g}, people say {people}: {_short(row['completion'])}"
        differ.append((-lead, f"  {place}: {said}"))
    shown = [line for _, line in sorted(differ, key=lambda one: one[0])[:count]]
    return [f"worst of {len(differ)} rows on which they differ:", *shown] if shown else []


def _short(text: object) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    return shown if len(shown) <= 70 else f"{shown[:67]}..."
