"""TRL's progress bar of rich, for `callbacks=[RichProgressCallback]`."""

from __future__ import annotations

from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback


class RichProgressCallback(TrainerCallback):
    """A bar of steps, and the loss and the reward that were logged last beside it."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the bar."""
        if not state.is_world_process_zero:
            return
        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[said]}")
        )
        self._task = self._bar.add_task("", total=state.max_steps, said="")
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move it on."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Show the numbers that fit beside it."""
        if self._bar is not None:
            said = [
                f"{name} {logs[name]:.4g}" for name in ("loss", "reward", "eval_loss") if name in (logs or {})
            ]
            self._bar.update(self._task, said="  ".join(said) or self._bar.tasks[0].fields["said"])

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
