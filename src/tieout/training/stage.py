"""Beginning or resuming the stage of a run that trains: its held-out rows, its identity, what is kept of before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..learner.parallel.processes import PeerError, Processes
from ..rewards.scoring.reward_identity import held_by, scored_by_code
from ..rows import data_hash
from ..storage.identity import Known, as_stored, differences, refuse_changes
from ..storage.runfolder import Stage
from ..tasks import Task
from ..types import Row
from .evaluation import held_out_rows
from .spec import TrainSpec, identity


def rows_held_out(spec: TrainSpec, task: Task, console: Console) -> list[Row]:
    """The rows that are evaluated on; none if nothing is."""
    policy = spec.evaluation
    if not policy.eval_steps:
        return []
    split, rows = held_out_rows(task, spec.method, policy)
    if split == "test" and (policy.keep_best or policy.patience):
        console.print(
            "  the best step is chosen on the test rows: what they show of it afterwards is optimistic"
        )
    return rows


def known_as(spec: TrainSpec, task: Task, data: str, held_out: Sequence[Row]) -> Known:
    """The identity of the stage: of the specification, with what it is trained and evaluated on."""
    scored_by, held = (
        scored_by_code(task.reward),
        held_by(task.reward),
    )  # earlier versions do not know the latter
    rows = task.rows("train")
    seen: dict[str, Any] = {"rows": len(rows), "sha256": data or data_hash(rows)}
    if held_out:
        seen["held_out"] = data_hash(held_out)
    known = identity(spec)
    return Known({**known, "task": task.name, **scored_by, **held, "data": seen}, {**known.usual, **held})


MADE_BEFORE = ("start:", "data.", "method.reward_model:", "method.teacher.")
"""What an earlier stage decides, and no value that was given for this one."""


def agree(ranks: Processes, known: dict[str, Any]) -> None:
    """PeerError: a rank would train on other rows or settings, as where each node has a copy of the files."""
    first, *others = ranks.gather(as_stored(known))
    for rank, other in enumerate(others, 1):
        if lines := differences(first, other):
            listed = "\n  ".join(lines)
            raise PeerError(
                f"rank {rank} would train something else than rank 0 (rank 0 -> rank {rank}):\n  {listed}"
            )


def begin(stage: Stage, known: dict[str, Any], console: Console) -> None:
    """Keep what the stage has done so far, or clear it and say so if an earlier stage has changed."""
    lines = [] if (was := stage.begun()) is None else differences(was, known)
    if not all(line.startswith(MADE_BEFORE) for line in lines):
        refuse_changes(lines, stage.path)
    for line in lines:
        console.print(f"  trained from the beginning: {line}", markup=False, highlight=False)
    stage.begin(known)
