"""Checkpoints that are whole or absent: written aside, hashed, renamed; resume takes the newest that verifies."""

from __future__ import annotations

import errno
import json
import shutil
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..storage.atomic import MANIFEST, appearing, verifies
from .digest import digest
from .learner import Learner
from .parallel import randomness

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of errors: the disk, or what this user may have of it, is full."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run. With several processes all ranks call, the first one writes, and all restore."""

    folder: Path
    keep: int = 2
    """Of the newest; older ones are deleted, but for the last good one."""
    apart: int = 0
    """Steps within which a run that has blown up is noticed: a checkpoint at least so much older than the newest is
    always kept, so that there is a good one to go back to. 0: none is kept for that."""

    def save(self, learner: Learner, state: Mapping[str, Any], pinned: Collection[int] = ()) -> Path:
        """Weights, optimizer, random state of every rank and `state` (plain values), atomically.

        Checkpoints of the `pinned` steps, such as the best one, are never deleted for their age.

        OSError: it could not be written, for a full disk or whatever else; the earlier ones are as they were.
        """
        processes = learner.processes
        if processes.count > 1:
            processes.agree(digest(learner.model.trained()), f"the weights after step {learner.step}")
        plain = {
            "step": learner.step,
            "skipped_updates": learner.skipped_updates,
            "memory": learner.memory,
            **state,
            "random": processes.gather(randomness.state(learner.model.device)),
        }
        target = self._folder(learner.step)

        def write() -> None:
            tensors, own = learner.state()
            for gone in self._write(target, tensors, {**plain, **own}, pinned):
                learner.forget(gone)

        processes.first(write)
        return target

    def _write(
        self,
        target: Path,
        tensors: Mapping[str, torch.Tensor],
        plain: Mapping[str, Any],
        pinned: Collection[int],
    ) -> list[dict[str, Any]]:
        """Returns the plain states of the checkpoints that were deleted."""
        unfinished = [folder for folder in self._steps() if not (folder / MANIFEST).exists()]
        for dead in [*self.folder.glob(".step-*"), *unfinished]:  # of a process that was killed inside a save
            shutil.rmtree(dead, ignore_errors=True)
        try:
            self._store(target, tensors, plain)
        except OSError as error:
            if error.errno not in FULL or not self._make_room(_step(target), pinned):
                raise
            self._store(target, tensors, plain)
        kept = set(pinned) | self._kept([_step(folder) for folder in self._all()])
        replaced = [folder for folder in self._all() if _step(folder) not in kept]
        states = list(map(_plain, replaced))
        for folder in replaced:
            _remove(folder)
        return states

    def _store(self, target: Path, tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> None:
        with _complaining(self.folder), appearing(target) as aside:
            save_file(dict(tensors), aside / "state.safetensors")
            (aside / "state.json").write_text(json.dumps(plain), encoding="utf-8")

    def _make_room(self, step: int, pinned: Collection[int]) -> bool:
        """Delete the checkpoints that this one replaces, but never the newest that verifies; whether there were any."""
        there = [_step(folder) for folder in self._all()]
        newest = self.newest()
        kept = set(pinned) | self._kept([*there, step]) | ({_step(newest)} if newest else set())
        replaced = [self._folder(one) for one in there if one not in kept]
        for folder in replaced:
            _remove(folder)
        if replaced:
            warnings.warn(
                f"the disk is full: older checkpoints of {self.folder} were deleted first", stacklevel=2
            )
        return bool(replaced)

    def _kept(self, steps: Sequence[int]) -> set[int]:
        """Of the steps with checkpoints, oldest first, those that are not deleted for their age."""
        kept, sure = set(steps[-self.keep :]), steps[-1] - self.apart
        if self.apart:  # the last good one, and the one that takes its place when it is old enough
            kept |= set([step for step in steps if step <= sure][-1:])
            kept |= set([step for step in steps if step > sure][:1])
        return kept

    def newest(self, before: int | None = None) -> Path | None:
        """The newest checkpoint (of a step before that one) that verifies; damaged ones are skipped with a warning."""
        for folder in reversed(self._all()):
            if before is not None and _step(folder) >= before:
                continue
            if _whole(folder):
                return folder
            warnings.warn(f"checkpoint {folder} is damaged, or of another step, and skipped", stacklevel=2)
        return None

    def restore(self, learner: Learner) -> dict[str, Any] | None:
        """Put the newest checkpoint that verifies into the learner; returns its plain state, None if there is none."""
        if (state := self.peek(learner)) is not None:
            self.load(learner, state)
        return state

    def peek(self, learner: Learner, before: int | None = None) -> dict[str, Any] | None:
        """The plain state of the `newest` checkpoint, the same one on all ranks; None if there is none."""
        name = learner.processes.first(lambda: folder.name if (folder := self.newest(before)) else None)
        if name is None:
            return None
        state: dict[str, Any] = json.loads((self.folder / name / "state.json").read_text(encoding="utf-8"))
        return state

    def load(self, learner: Learner, state: Mapping[str, Any]) -> None:
        """Put the checkpoint with this plain state into the learner. ValueError: it is of another model."""
        folder = self._folder(state["step"])
        learner.restore(load_file(folder / "state.safetensors"), state, folder)
        learner.step, learner.skipped_updates = state["step"], state["skipped_updates"]
        learner.memory = dict(state.get("memory", {}))
        known = state["random"]
        if len(known) != learner.processes.count:
            warnings.warn(
                f"{folder} was saved by {len(known)} processes, and is resumed by {learner.processes.count}: the same "
                "data and the same steps, but not bit for bit the same numbers",
                stacklevel=2,
            )
        randomness.restore(known[min(learner.processes.rank, len(known) - 1)], learner.model.device)

    def require(self, learner: Learner, step: int) -> None:
        """OSError: the checkpoint of this step, whose weights will be needed, is damaged or missing. 0: of no step."""
        folder = self._folder(step)
        if step and not learner.processes.first(lambda: _whole(folder)):
            raise OSError(errno.EIO, "the checkpoint of the best step is damaged or missing", str(folder))

    def load_weights(self, learner: Learner, step: int) -> None:
        """Put the weights of one checkpoint, and nothing else of it, into the learner. OSError: it is damaged."""
        self.require(learner, step)
        folder = self._folder(step)
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        learner.restore_weights(load_file(folder / "state.safetensors"), state, folder)

    def _folder(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def discard(self, after: int) -> None:
        """Delete the checkpoints of later steps."""
        for folder in self._all():
            if _step(folder) > after:
                _remove(folder)

    def _all(self) -> list[Path]:
        return [folder for folder in self._steps() if (folder / MANIFEST).exists()]

    def _steps(self) -> list[Path]:
        """Folders of checkpoints by step; none that somebody has copied under another name."""
        return sorted((p for p in self.folder.glob("step-*") if p.name[5:].isdecimal()), key=_step)


def _whole(folder: Path) -> bool:
    """Whether a checkpoint verifies, and is of the step that its name says: one that was renamed is not."""
    return verifies(folder) and _plain(folder).get("step") == _step(folder)


def _remove(folder: Path) -> None:
    """Delete a checkpoint: killed meanwhile, it is gone, and not damaged."""
    dead = folder.rename(folder.with_name(f".{folder.name}.dead"))
    shutil.rmtree(dead, ignore_errors=True)


def _plain(folder: Path) -> dict[str, Any]:
    """The plain state of a checkpoint that is deleted, which may be damaged: then it is empty."""
    try:
        found = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def set_aside(folder: Path, exported: str) -> None:
    """Keep the checkpoints of an earlier run, and what it exported next to their folder, under a free name."""
    others = sorted(folder.parent.glob(exported))
    if not folder.exists() and not others:
        return
    number = 1
    while (free := folder.with_name(f"{folder.name}-before-{number}")).exists():
        number += 1
    folder.rename(free) if folder.exists() else free.mkdir(parents=True)
    for other in others:
        other.rename(free / other.name)
    warnings.warn(f"{folder.parent} held checkpoints of an earlier run; they are in {free}", stacklevel=3)


def save_adapter(learner: Learner, folder: Path, tokenizer: bool = True) -> None:
    """Export the policy in PEFT's format (or the whole model in transformers', for full fine-tuning), atomically.

    A reward model is saved as a sequence classifier of either kind; a value head is saved next to its policy.

    `tokenizer`: with the tokenizer and its chat template, as programs expect them next to an adapter; one that is not
    the base's is always saved.
    """
    with _complaining(folder), appearing(folder) as aside:
        learner.export(aside, tokenizer)


class _complaining:
    """Turn a failure of safetensors, which is often a full disk, or of a disk into an OSError that names the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, SafetensorError):
            full = "No space left" in str(error)
            number = errno.ENOSPC if full else errno.EIO
            raise OSError(number, f"could not be written ({error})", str(self.folder)) from error
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(self.folder)) from error
