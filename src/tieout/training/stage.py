"""Beginning or resuming the stage of a run that trains: its held-out rows, its identity, what is kept of before."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..config.code_digest import function_code
from ..rewards.scoring.combine import Combined
from ..rewards.scoring.outcomes import reward_name
from ..rows import data_hash
from ..storage.identity import differences, refuse_changes
from ..storage.runfolder import Stage
from ..tasks import Task
from ..types import Reward, Row
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


def known_as(spec: TrainSpec, task: Task, data: str, held_out: Sequence[Row]) -> dict[str, Any]:
    """The identity of the stage: of the specification, with what it is trained and evaluated on."""
    scored_by = scored_by_code(task.reward)
    rows = task.rows("train")
    seen: dict[str, Any] = {"rows": len(rows), "sha256": data or data_hash(rows)}
    if held_out:
        seen["held_out"] = data_hash(held_out)
    return {**identity(spec), "task": task.name, **scored_by, "data": seen}


def scored_by_code(reward: Reward | None) -> dict[str, Any]:
    """The reward's name, and the digests of its own code, which change with its scores."""
    if reward is None:
        return {}
    code = _code_of(reward)
    return {"reward": reward_name(reward), **({"reward_code": code} if code else {})}


def _code_of(reward: Any) -> dict[str, str]:
    if isinstance(reward, Combined):
        return {name: digest for part in reward.parts.values() for name, digest in _code_of(part).items()}
    if isinstance(reward, functools.partial):
        return _code_of(reward.func)
    return function_code(getattr(reward, "__wrapped__", reward))


MADE_BEFORE = ("start:", "data.", "method.reward_model:", "method.teacher.")
"""What an earlier stage decides, and no value that was given for this one."""


def begin(stage: Stage, known: dict[str, Any], console: Console) -> None:
    """Keep what the stage has done so far, or clear it and say so if an earlier stage has changed."""
    lines = [] if (was := stage.begun()) is None else differences(was, known)
    if not all(line.startswith(MADE_BEFORE) for line in lines):
        refuse_changes(lines, stage.path)
    for line in lines:
        console.print(f"  trained from the beginning: {line}", markup=False, highlight=False)
    stage.begin(known)
