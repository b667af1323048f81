"""What a training left: where it is, and its curve."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.jsonl import read_jsonl


@dataclass(frozen=True)
class Tuned:
    """A trained model: for every function that takes a model, and whatever takes the path of an adapter."""

    run: Path
    """Run folder: metrics, checkpoints, what it was trained on."""
    method: str
    """Its name, which is also that of the stage in the folder."""

    @property
    def adapter(self) -> Path:
        """The folder of the adapter; of the whole model, after full fine-tuning."""
        return self.run / self.method / "adapter"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A dictionary per step: `step`, `loss` and the metrics of the method."""
        return [row for _, row in read_jsonl(self.run / self.method / "metrics.jsonl")]

    def __fspath__(self) -> str:
        return str(self.adapter)


Model = str | os.PathLike[str] | Tuned
"""A hub id, the folder of a model, an adapter or a run, a GGUF file, tieout-base or smollm2-135m; or a Tuned."""


def trained_on(model: Model) -> str:
    """Name of a model to train. InputError: it is none."""
    name = os.fspath(model) if isinstance(model, str | os.PathLike) else ""
    if not isinstance(name, str) or not name:
        raise InputError(f"model is {model!r}; expected a name, a folder, or what a training returned")
    return name


def evaluated(model: Model) -> str:
    """Name of a model to evaluate: its run where it has one, which knows the rows that it was trained on."""
    return str(model.run) if isinstance(model, Tuned) else trained_on(model)
