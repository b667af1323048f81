"""The logs of one training stage, as JSON lines: metrics, rollouts, alarms."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..storage.atomic import write_atomic
from ..storage.jsonl import read_log
from ..storage.runfolder import RunFolder, Stage
from ..types import Group
from .monitors import sampled_rows


class TrainLog:
    """metrics.jsonl: a line per step. groups.jsonl: what was sampled and how it was scored. alarms.jsonl: reasons."""

    NAMES = ("metrics.jsonl", "groups.jsonl", "alarms.jsonl")

    def __init__(self, run: RunFolder, stage: Stage) -> None:
        self.run, self.folder = run, stage.path.relative_to(run.path)
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        self._append("metrics.jsonl", {"step": step, **metrics})

    def alarm(self, step: int, reason: str) -> None:
        self._append("alarms.jsonl", {"step": step, "reason": reason})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        """Append a line. If the log cannot be written, its lines wait in memory and precede the next ones."""
        self._waiting.append((name, row))
        before = len(self._waiting)
        if self.flush() and before == 1:
            warnings.warn(
                f"{self.run.path / self.folder / name} cannot be written ({self._why}); its lines are kept in memory, "
                "and written once it can be",
                stacklevel=2,
            )

    def flush(self) -> int:
        """Write what waits; how many lines still do."""
        try:
            while self._waiting:
                name, row = self._waiting[0]
                self.run.append_jsonl(str(self.folder / name), row)
                self._waiting.popleft()
        except OSError as error:
            self._why = error
        return len(self._waiting)

    def groups(self, step: int, groups: Sequence[Group], metrics: Any) -> None:
        """A monitor: rollouts are kept in full, rows of given data are in the data."""
        for row in sampled_rows(step, groups):
            self._append("groups.jsonl", row)

    def cut(self, step: int) -> None:
        """Drop what was logged after `step`: it will be done again."""
        for name in self.NAMES:
            path = self.run.path / self.folder / name
            if path.exists():
                # Only "\n" ends a line (splitlines would also break inside a completion); a torn last one is dropped.
                lines = path.read_text(encoding="utf-8").split("\n")[:-1]
                steps = [row["step"] for row in read_log(path)]
                kept = [line + "\n" for line, at in zip(lines, steps, strict=True) if at <= step]
                write_atomic(path, "".join(kept).encode())
