"""Audit sheets while a judge is trained against: outputs of the policy for a person to fill in, every so many steps."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from pathlib import Path

from ..learner.parallel.processes import join
from ..rewards.library.judge import judges_of
from ..rewards.text.thinking import as_read
from ..storage.jsonl import write_jsonl
from ..types import Group, Reward
from ..vetting.audit import sheet
from .alarms.memory import Monitor

FOLDER = "audit"
"""Of a stage: one sheet per audited step."""


def auditing(reward: Reward | None, folder: Path, every: int, num_rows: int = 8) -> Monitor | None:
    """A monitor that writes `step-NNNNNN.jsonl` into the folder; None where no judge is in the reward.

    The first step is audited too: what people say of it is what later sheets are compared with. A sheet that is there
    is left as it is, because somebody may have filled it in.

    Args:
        reward: trained on.
        folder: for the sheets.
        every: steps between them; 0: none.
        num_rows: outputs per sheet, from the lowest to the highest score of the step.
    """
    judges = judges_of(reward) if reward is not None else {}
    if not judges or not every:
        return None

    def monitor(step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        if step != 1 and step % every:
            return
        path = folder / f"step-{step:06d}.jsonl"

        def write() -> None:
            samples = [
                (group.row, as_read(completion), score)
                for group in groups
                for completion, score in zip(group.completions, group.scores or [], strict=False)
                if completion.logprobs is not None
            ]
            if samples and not path.exists():
                write_jsonl(path, sheet(step, samples, judges, num_rows))

        join().first(write)

    return monitor
