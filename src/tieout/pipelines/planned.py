"""Planned figures of a stage: printed, kept as plan.json in the run folder, and compared with what the stage took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from ..evidence.training import read_stage
from ..review.cost import again_of, duration, gibibytes, seconds_of
from ..storage.jsonl import read_json
from ..storage.runfolder import RunFolder

FILE = "plan.json"
AGAIN = 5
"""Steps after which the time of a stage is planned again, from what they took."""


@dataclass(frozen=True)
class Planned:
    """What one training, or what a stage samples, will need."""

    name: str
    rows: int
    at_most: bool
    """Whether rows, tokens, steps and time are bounds: the rows are not made yet."""
    tokens: int
    """Fed to the model by all updates, shared prompts once; of a stage that only samples, those that it writes."""
    steps: int
    """0: nothing is trained, only sampled."""
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


SMALLER = {
    "weights in": "adapter.method qlora stores them in 4 bits",
    "gradients": "adapter.method lora trains fewer numbers",
    "optimizer": "adapter.method lora trains fewer numbers",
    "activations": "smaller learner.micro_batch_tokens, or shorter rows",
    "KV cache": "fewer or shorter completions of a prompt, or --vllm",
}
"""What a part of the memory begins with -> what makes it smaller."""


def print_planned(stages: Sequence[Planned], where: str, console: Console) -> None:
    """A table of the stages, and below it what a step consists of, what does not fit, and what was assumed."""
    table = Table(title=f"plan on {where}", title_justify="left")
    for heading in ("stage", "rows", "tokens", "steps", "memory", "fits", "time"):
        table.add_column(heading, overflow="fold")
    for one in stages:
        bound = "up to " if one.at_most else ""
        lengths = "up to " if one.at_most or one.longest else ""
        of = f" of {gibibytes(one.available)}" if one.available is not None else ""
        table.add_row(
            one.name,
            f"{bound}{one.rows:,}",
            f"{lengths}{one.tokens:,}",
            f"{bound}{one.steps:,}" if one.steps else "–",
            gibibytes(one.memory) + of,
            {True: "yes", False: "NO", None: "unknown"}[one.fits],
            duration(one.seconds) if one.seconds is None else lengths + duration(one.seconds),
        )
    console.print(table)
    for one in stages:
        for said in _said_of(one):
            console.print(f"{one.name}: {said}", markup=False, highlight=False)
    if len(stages) > 1 and all(one.seconds is not None for one in stages):
        bound = "up to " if any(one.at_most or one.longest for one in stages) else ""
        console.print(
            f"in all: {bound}{duration(sum(one.seconds or 0.0 for one in stages))}", highlight=False
        )


def _said_of(one: Planned) -> Iterator[str]:
    """Sentences on one stage."""
    again = ", activations computed twice" if one.recompute else ""
    if one.steps:
        yield f"{one.micro_batches:.1f} micro-batches a step{again}"
    if one.parts:
        yield ", ".join(f"{name} {gibibytes(size)}" for name, size in one.parts.items() if size)
    if one.fits is False:
        assert one.memory is not None
        assert one.available is not None
        over = f"does not fit: {gibibytes(one.memory - one.available)} too much"
        if one.parts:
            largest = max(one.parts.items(), key=lambda part: part[1])[0]
            smaller = next((f" ({how})" for name, how in SMALLER.items() if largest.startswith(name)), "")
            over += f"; the largest part is {largest}{smaller}"
        yield over
    yield from (f"assumed: {said}" for said in one.assumed)


def keep(folder: RunFolder, planned: list[Planned]) -> None:
    """Write plan.json."""
    folder.write_json(FILE, {"stages": [asdict(one) for one in planned]})


def plan_again(
    folder: RunFolder, stage: str, step: int, steps: int, memory: int | None, console: Console
) -> None:
    """Plan the time of a stage again once its first steps are done: from what they took, at the lengths that they had.

    The very first step is left out of the mean, for what only it takes. Short stages keep their plan. `memory` is the
    peak so far, in bytes.
    """
    if step != AGAIN or steps < 2 * AGAIN or not (folder.path / FILE).exists():
        return
    plan, done = read_json(folder.path / FILE), read_stage(folder.path / stage)
    found = next((one for one in plan["stages"] if one["name"] == stage), None)
    if found is None or "again" in found or len(done) != AGAIN:
        return
    seconds = seconds_of(done) + (steps - step) * fmean(seconds_of([one]) for one in done[1:])
    found["again"] = {"step": step, "seconds": seconds}
    folder.write_json(FILE, plan)
    time = f"time {duration(found['seconds'])} planned, {again_of(found)}"
    so_far = f"memory {gibibytes(found['memory'])} planned, {gibibytes(memory)} so far"
    console.print(f"  {stage}: {time}; {so_far}", markup=False, highlight=False)


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
    found["measured"] = {"memory": memory, "seconds": seconds_of(steps), "steps": len(steps)}
    folder.write_json(FILE, plan)


def note_sampled(folder: RunFolder, name: str, seconds: float, memory: int | None) -> None:
    """Add to plan.json what sampling took, if that was planned."""
    if not (folder.path / FILE).exists():
        return
    plan = read_json(folder.path / FILE)
    found = next((one for one in plan["stages"] if one["name"] == name), None)
    if found is not None and "measured" not in found:
        found["measured"] = {"memory": memory, "seconds": seconds, "steps": 0}
        folder.write_json(FILE, plan)


def planned_of(folder: Path) -> list[str]:
    """Planned against measured, a sentence per stage that has both."""
    if not (folder / FILE).exists():
        return []
    stages: list[dict[str, Any]] = read_json(folder / FILE)["stages"]
    return [against(one, one["measured"]) for one in stages if "measured" in one]


def against(planned: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Planned against measured figures of one stage, as kept in plan.json, in words."""
    again = f", {again_of(planned)}" if "again" in planned else ""
    seconds = f"time {duration(planned['seconds'])} planned{again}, {duration(measured['seconds'])} measured"
    memory = f"memory {gibibytes(planned['memory'])} planned, {gibibytes(measured['memory'])} measured"
    return f"Plan of {planned['name']}: {seconds}; {memory}"
