"""Planned figures of a stage: printed, kept as plan.json in the run folder, and compared with what the stage took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..evidence.training import read_stage
from ..storage.jsonl import read_json
from ..storage.runfolder import RunFolder

FILE = "plan.json"


@dataclass(frozen=True)
class Planned:
    """What one training will need."""

    name: str
    rows: int
    at_most: bool
    """Whether rows, tokens, steps and time are bounds: the rows are not made yet."""
    tokens: int
    """Fed to the model by all updates, shared prompts once."""
    steps: int
    micro_batches: float
    """Of a step, on average."""
    recompute: bool
    """Whether activations of the largest micro-batch are computed twice."""
    memory: int | None
    """Peak, in bytes: of a CPU, of the whole process."""
    available: int | None
    """What may be used, in bytes."""
    seconds: float | None
    """None: not claimed, for a device that is not here."""
    longest: bool = False
    """Whether tokens and time are bounds: every completion is as long as it may be."""
    assumed: tuple[str, ...] = ()
    parts: Mapping[str, float] | None = None
    """What the memory consists of, in bytes, where it was counted from shapes."""

    @property
    def fits(self) -> bool | None:
        """None: unknown."""
        return None if self.memory is None or self.available is None else self.memory <= self.available


def print_planned(stages: Sequence[Planned], where: str, console: Console) -> None:
    """A table of the stages, and below it what was assumed."""
    table = Table(title=f"plan on {where}", title_justify="left")
    for heading in (
        "stage",
        "rows",
        "tokens",
        "steps",
        "micro-batches",
        "recompute",
        "memory",
        "fits",
        "time",
    ):
        table.add_column(heading)
    for one in stages:
        bound = "up to " if one.at_most else ""
        lengths = "up to " if one.at_most or one.longest else ""
        fits = {True: "yes", False: "NO", None: "unknown"}[one.fits]
        free = f" of {gibibytes(one.available)}" if one.available is not None else ""
        table.add_row(
            one.name,
            f"{bound}{one.rows:,}",
            f"{lengths}{one.tokens:,}",
            f"{bound}{one.steps:,}",
            f"{one.micro_batches:.1f} a step",
            "yes" if one.recompute else "no",
            gibibytes(one.memory),
            fits + free,
            duration(one.seconds) if one.seconds is None else lengths + duration(one.seconds),
        )
    console.print(table)
    for one in stages:
        if one.parts:
            said = ", ".join(f"{name} {gibibytes(size)}" for name, size in one.parts.items())
            console.print(f"{one.name}: {said}", markup=False, highlight=False)
        for assumption in one.assumed:
            console.print(f"{one.name}: assumed: {assumption}", markup=False, highlight=False)


def keep(folder: RunFolder, planned: list[Planned]) -> None:
    """Write plan.json."""
    folder.write_json(FILE, {"stages": [asdict(one) for one in planned]})


def note_measured(folder: RunFolder, stage: str, memory: int | None) -> None:
    """Add to plan.json what a stage took, by its metrics and this peak of memory, if it was planned."""
    path = folder.path / FILE
    if not path.exists():
        return
    plan = read_json(path)
    found = next((one for one in plan["stages"] if one["name"] == stage), None)
    steps = read_stage(folder.path / stage)
    if found is None or not steps or "measured" in found:
        return
    seconds = sum(step.get("collect_seconds", 0.0) + step.get("update_seconds", 0.0) for step in steps)
    found["measured"] = {"memory": memory, "seconds": seconds, "steps": len(steps)}
    folder.write_json(FILE, plan)


def planned_of(folder: Path) -> list[str]:
    """Planned against measured, a sentence per stage that has both."""
    if not (folder / FILE).exists():
        return []
    stages: list[dict[str, Any]] = read_json(folder / FILE)["stages"]
    return [against(one, one["measured"]) for one in stages if "measured" in one]


def against(planned: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Planned against measured figures of one stage, as kept in plan.json, in words."""
    seconds = f"time {duration(planned['seconds'])} planned, {duration(measured['seconds'])} measured"
    memory = f"memory {gibibytes(planned['memory'])} planned, {gibibytes(measured['memory'])} measured"
    return f"Plan of {planned['name']}: {seconds}; {memory}"


def gibibytes(size: float | None) -> str:
    """A size in words; `unknown` for None."""
    return "unknown" if size is None else f"{size / 2**30:.2f} GiB"


def duration(seconds: float | None) -> str:
    """A time in words; `not claimed` for None."""
    if seconds is None:
        return "not claimed"
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
