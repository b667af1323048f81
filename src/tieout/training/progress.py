"""Progress bars with the newest metrics; plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN = (
    "loss", "score", "accuracy", "margin", "kl", "entropy", "length", "cut_off", "no_signal",
    "probe/kl", "probe/repetition", "held_out/loss", "eval/loss", "eval/score",
)  # fmt: skip
"""Metrics shown next to the bar, where a method has them."""


def _moves(console: Console) -> bool:
    """Whether bars can move: on a terminal, and in a notebook that has widgets; elsewhere a line says how far it is."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


class Bar:
    """A bar that was started."""

    def __init__(self, progress: Progress, task: int, console: Console, name: str, total: int) -> None:
        self._progress, self._task, self._console = progress, task, console
        self._name, self._total, self._done = name, total, 0
        self._said = console.get_time()
        self._known: dict[str, tuple[float, int]] = {}  # with the step: some are measured at some steps only

    def advance(self, count: int = 1, metrics: Mapping[str, float] | None = None) -> None:
        """`count` more are done; the newest of each number are shown."""
        self.at(self._done + count, metrics)

    def at(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """`done` are done in all."""
        new, self._done = done != self._done, done
        self._known.update({name: (value, done) for name, value in (metrics or {}).items()})
        known = [(name, *self._known[name]) for name in SHOWN if name in self._known]
        text = "  ".join(f"{k} {x:.3f}" + (f" at step {at}" if at != done else "") for k, x, at in known)
        room = self._console.width - 60 - 2 * len(str(self._total))  # else name and bar would be cut, too
        fields = {"numbers": text[: max(0, room)]} if metrics is not None else {}
        self._progress.update(self._task, completed=done, **fields)  # type: ignore[arg-type]
        if not _moves(self._console) and (
            self._console.get_time() - self._said > 15 or (new and done == self._total)
        ):
            self._said = self._console.get_time()
            left = next(task.time_remaining for task in self._progress.tasks if task.id == self._task)
            text = f"{timedelta(seconds=round(left))} left  {text}" if left else text
            line = f"  {self._name}: {done}/{self._total}  {text}".rstrip()
            self._console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str, int], Bar]]:
    """Bars that move at the same time: call what this gives with a name and a total."""
    columns = (
        TextColumn("  {task.description:<14}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}", style="dim"),
    )
    # A step may take minutes: the time that is left is estimated from as many as an hour has.
    with Progress(
        *columns, console=console, disable=not _moves(console), speed_estimate_period=3600
    ) as progress:
        yield lambda name, total: Bar(
            progress, progress.add_task(name, total=total, numbers=""), console, name, total
        )


@contextmanager
def bar(console: Console, name: str, total: int) -> Iterator[Bar]:
    """Show a bar of `total` things. Where output is no terminal, print a line now and then instead."""
    with bars(console) as add:
        yield add(name, total)
