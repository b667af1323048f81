"""Refuse training rows among the rows that a run is measured on, unless that is accepted with a reason; count them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..rows.leakage import KINDS, Leak, copies, find_leaks
from ..rows.locations import MAX_PROBLEMS
from ..tasks import Task
from ..tasks.splits import rows_or_none
from ..types import Row

FILE = "leakage.json"
"""Where a run folder keeps the counts."""
SPLITS = ("validation", "calibration", "test", "ood")
"""Of a task, the splits that are not trained on."""


def check_leakage(
    train: Mapping[str, Sequence[Row]], held: Mapping[str, Sequence[Row]], accept: str, option: str
) -> dict[str, Any]:
    """Compare all rows that are trained on with all that are held out; returns the counts for the report.

    Args:
        train: source -> rows that are trained on.
        held: source -> rows that are measured on.
        accept: a reason to continue although some are the same.
        option: how to give that reason, for the message.

    Raises:
        InputError: a training row gives a held-out row away; the message names both, and the counts.
    """
    held = {name: rows for name, rows in held.items() if rows}
    leaks = find_leaks(train, held) if held else []
    counts: dict[str, Any] = {
        "train": {name: len(rows) for name, rows in train.items() if rows},
        "held": {name: {"rows": len(rows), **_counted(leaks, name)} for name, rows in held.items()},
        "accepted": accept.strip() if leaks else "",
    }
    if leaks and not accept.strip():
        total = sum(len(rows) for rows in held.values())
        raise InputError(
            f"{len(leaks)} of {total} rows that are measured on are trained on too ({in_words(counts)}):\n  "
            + "\n  ".join(_listed(leaks))
            + "\nWhat is measured on them is what the model remembers. Take them out of one side; or keep them, and "
            f"have the report say why: {option}"
        )
    return counts


def in_words(counts: Mapping[str, Any]) -> str:
    """What was found, a part for each source that has any: `test: 3 exact, 1 near of 400`.

    >>> in_words({"held": {"test": {"rows": 9, "exact": 2, "normalised": 0, "near": 1}}})
    'test: 2 exact, 1 near of 9'
    """
    parts = []
    for name, found in counts["held"].items():
        if kinds := [f"{found[kind]} {kind}" for kind in KINDS if found[kind]]:
            parts.append(f"{name}: {', '.join(kinds)} of {found['rows']}")
    return "; ".join(parts) or "none"


def rows_of(task: Task, split: str) -> list[Row]:
    """The rows of a split, for a comparison; none for a split that the task lacks.

    In an environment all rows may open with the same words: then their other columns are what differs.
    """
    rows = rows_or_none(task, split)
    if task.environment is None:
        return rows if isinstance(rows, list) else list(rows)
    return [{key: value for key, value in row.items() if key != "prompt"} for row in rows]


def held_out(task: Task) -> dict[str, Sequence[Row]]:
    """Split -> its rows, of all splits that are not trained on."""
    return {split: rows_of(task, split) for split in SPLITS}


def warn_of_copies(train: Any, held: Any) -> None:
    """Warn if rows that are evaluated are trained on; of datasets without a length, nothing is known."""
    for rows in held.values() if isinstance(held, Mapping) else [held]:
        if not (hasattr(train, "__len__") and hasattr(rows, "__len__")):
            continue
        count = len(rows) if rows is train else copies(train, rows)
        if count:
            warnings.warn(
                f"{count} of {len(rows)} rows of eval_dataset are in train_dataset too: what is measured on them is "
                "what the model remembers; evaluate on rows that are held out",
                stacklevel=4,
            )


def _counted(leaks: Sequence[Leak], source: str) -> dict[str, int]:
    return {kind: sum(leak.source == source and leak.kind == kind for leak in leaks) for kind in KINDS}


def _listed(leaks: Sequence[Leak]) -> list[str]:
    shown = [f"{leak.held} is {leak.train}: {leak.kind}" for leak in leaks[:MAX_PROBLEMS]]
    return shown + ([f"... and {len(leaks) - MAX_PROBLEMS} more"] if leaks[MAX_PROBLEMS:] else [])
