"""Experiment trackers, through accelerate's classes: TensorBoard, Weights & Biases, trackio, MLflow.

Everything is written into the run folder, without network, unless a tracker's own settings (WANDB_MODE, WANDB_BASE_URL,
MLFLOW_TRACKING_URI, TRACKIO_DIR) say otherwise.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..config.fields import nearest
from ..errors import InputError

PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "mlflow": ("mlflow",),
}
"""Tracker -> the packages of which it needs one."""
SECONDS = 120.0
"""What a tracker may take for one call; a server that hangs must not hold up a training."""


def check_trackers(names: Sequence[str]) -> None:
    """InputError: a name is unknown, or its package is not installed."""
    for name in names:
        if name not in PACKAGES:
            known = ", ".join(PACKAGES)
            raise InputError(f"no tracker {name!r}{nearest(name, PACKAGES) or ';'} known: {known}")
        if not any(find_spec(package) for package in PACKAGES[name]):
            raise InputError(f"tracker {name!r} needs a package: pip install {PACKAGES[name][0]}")


class Trackers:
    """The trackers of one stage, on the rank that writes. One that fails or hangs is left out from then on, with a
    warning."""

    def __init__(self, names: Sequence[str], folder: Path, project: str, run: str) -> None:
        """
        Args:
            names: of trackers, checked by `check_trackers`.
            folder: where they write.
            project: the name under which runs are grouped.
            run: the name of this one.
        """
        self._names, self._folder, self._project, self._run = names, folder, project, run
        self._open: dict[str, Any] = {}
        self._threads: dict[str, _Thread] = {}

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begin, or resume after so many steps; `config` is shown with the run."""
        for name in self._names:
            self._attempt(name, partial(self._begin, name, step))
        self._all(lambda tracker: tracker.store_init_configuration(_flat(config)))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of one step."""
        self._all(lambda tracker: tracker.log(dict(metrics), step=step))

    def close(self) -> None:
        """Write what is left."""
        self._all(lambda tracker: tracker.finish())
        self._open.clear()

    def _begin(self, name: str, step: int) -> None:
        tracker = self._make(name, step)
        tracker.start()
        self._open[name] = tracker

    def _make(self, name: str, step: int) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # without it accelerate's trackers refuse to log what they do
        cls: Any = LOGGER_TYPE_TO_CLASS[name]
        self._folder.mkdir(parents=True, exist_ok=True)
        if name == "tensorboard":  # what an interrupted process logged after this step is hidden
            return cls(self._run, self._folder / name, purge_step=step + 1 if step else None)
        if name == "wandb":
            if "WANDB_BASE_URL" not in os.environ:
                os.environ.setdefault("WANDB_MODE", "offline")
            return cls(self._project, name=self._run, dir=str(self._folder))
        if name == "mlflow":
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{self._folder.resolve() / 'mlflow.db'}")
            return cls(self._project, run_name=self._run)
        os.environ.setdefault("TRACKIO_DIR", str(self._folder / name))
        return cls(self._project, name=self._run)

    def _all(self, action: Callable[[Any], None]) -> None:
        for name, tracker in list(self._open.items()):
            self._attempt(name, partial(action, tracker))

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            self._threads.setdefault(name, _Thread()).call(action)
        except Exception as error:
            self._open.pop(name, None)
            warnings.warn(
                f"tracker {name!r} failed ({type(error).__name__}: {error}); the run continues without it",
                stacklevel=4,
            )


class _Thread:
    """A thread for the calls of one tracker (MLflow keeps its run per thread), which may be left hanging."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], None], Future[None]]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, function: Callable[[], None]) -> None:
        """Run it there. TimeoutError: it has not come back; anything else: its own error."""
        done: Future[None] = Future()
        self._calls.put((function, done))
        try:
            done.result(SECONDS)
        except TimeoutError:
            if done.done():  # its own
                raise
            raise TimeoutError(f"no answer in {SECONDS:g} s") from None

    def _work(self) -> None:
        while True:
            function, done = self._calls.get()
            try:
                done.set_result(function())
            except Exception as error:
                done.set_exception(error)


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; values other than numbers and text become text."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            result |= _flat(value, f"{path}{key}.")
        elif value is not None:
            result[f"{path}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return result
