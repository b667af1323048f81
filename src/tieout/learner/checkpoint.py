"""Checkpoints that are whole or absent: written aside, hashed, renamed; resume takes the newest that verifies."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from ..errors import InputError
from ..storage.atomic import MANIFEST, appearing, verifies
from .digest import digest
from .learner import Learner
from .models.adapters import POLICY, VALUE, in_place
from .models.base_record import record_base
from .models.model import Model
from .models.names import resolve
from .models.reference import reference_weights, set_reference
from .models.scalar_head import save_classifier, save_score, save_value
from .parallel import randomness

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of errors: the disk, or what this user may have of it, is full."""
MASTER = "master"
"""In a checkpoint: the fp32 values of weights in 16 bits."""


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
        processes.first(lambda: self._write(target, _tensors(learner), plain, pinned))
        return target

    def _write(
        self,
        target: Path,
        tensors: Mapping[str, torch.Tensor],
        plain: Mapping[str, Any],
        pinned: Collection[int],
    ) -> None:
        unfinished = [folder for folder in self.folder.glob("step-*") if not (folder / MANIFEST).exists()]
        for dead in [*self.folder.glob(".step-*"), *unfinished]:  # of a process that was killed inside a save
            shutil.rmtree(dead, ignore_errors=True)
        try:
            self._store(target, tensors, plain)
        except OSError as error:
            if error.errno not in FULL or not self._make_room(_step(target), pinned):
                raise
            self._store(target, tensors, plain)
        kept = set(pinned) | self._kept([_step(folder) for folder in self._all()])
        for old in self._all():
            if _step(old) not in kept:
                _remove(old)

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
            if verifies(folder):
                return folder
            warnings.warn(f"checkpoint {folder} is damaged, and skipped", stacklevel=2)
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
        tensors = load_file(folder / "state.safetensors")
        self._load_weights(learner, tensors, folder)
        _load_optimizer(learner, tensors, folder)
        if moved := {
            n.removeprefix("reference/"): x for n, x in tensors.items() if n.startswith("reference/")
        }:
            set_reference(learner.model, moved)
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
        if step and not learner.processes.first(lambda: verifies(folder)):
            raise OSError(errno.EIO, "the checkpoint of the best step is damaged or missing", str(folder))

    def load_weights(self, learner: Learner, step: int) -> None:
        """Put the weights of one checkpoint, and nothing else of it, into the learner. OSError: it is damaged."""
        self.require(learner, step)
        folder = self._folder(step)
        self._load_weights(learner, load_file(folder / "state.safetensors"), folder)

    def _folder(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    @staticmethod
    def _load_weights(learner: Learner, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
        trained = learner.model.trained()
        saved = {name.removeprefix("weight/"): x for name, x in tensors.items() if name.startswith("weight/")}
        if saved.keys() != trained.keys():
            differing = sorted(saved.keys() ^ trained.keys())[:3]
            raise InputError(f"{folder} holds other parameters than the model trains, such as {differing}")
        with torch.no_grad():
            for name, parameter in trained.items():
                if parameter.shape != saved[name].shape:
                    shapes = f"was {list(saved[name].shape)}, is {list(parameter.shape)}"
                    raise InputError(f"{folder} holds {name} in another shape: {shapes}")
                parameter.copy_(saved[name])

    def discard(self, after: int) -> None:
        """Delete the checkpoints of later steps."""
        for folder in self._all():
            if _step(folder) > after:
                _remove(folder)

    def _all(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if (p / MANIFEST).exists())


def _remove(folder: Path) -> None:
    """Delete a checkpoint: killed meanwhile, it is gone, and not damaged."""
    dead = folder.rename(folder.with_name(f".{folder.name}.dead"))
    shutil.rmtree(dead, ignore_errors=True)


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
    model, network = learner.model, learner.model.network
    with _complaining(folder), appearing(folder) as aside:
        if hasattr(network, "peft_config"):
            own = [VALUE] if model.value is not None and model.value.adapter else []
            named = {"selected_adapters": [POLICY, *own], "save_embedding_layers": _resized(model)}
            if model.taken is None:
                network.save_pretrained(str(aside), **named)
            else:
                _save_converted(model, model.taken, aside, named)
            for config in aside.rglob("adapter_config.json"):
                _in_order(config)
            record_base(model.name, aside)
            (aside / "README.md").unlink(missing_ok=True)  # PEFT's template; shipping writes a real card
            if model.only_scores:
                save_score(aside, model.score)
        elif model.only_scores:
            save_classifier(network, model.score, aside)
        else:
            network.save_pretrained(str(aside))
        if tokenizer or model.own_tokenizer or not hasattr(network, "peft_config"):
            model.tokenizer.save_pretrained(str(aside))
        if model.value is not None:
            save_value(aside, model.value)


def _in_order(config: Path) -> None:
    """Sort what PEFT keeps as sets, whose order differs from process to process."""
    values = json.loads(config.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(values.get(key), list):
            values[key].sort()
    config.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")


def _resized(model: Model) -> bool:
    """Whether the embeddings have other rows than those of the base on disk: they are then part of the adapter."""
    try:
        saved = AutoConfig.from_pretrained(
            resolve(model.name)[1], local_files_only=True, trust_remote_code=False
        ).get_text_config()
    except (OSError, ValueError):  # a base that was never saved
        return False
    return bool(saved.vocab_size != model.causal.get_input_embeddings().weight.shape[0])


def _save_converted(
    model: Model, taken: Mapping[str, torch.Tensor], folder: Path, named: Mapping[str, Any]
) -> None:
    """Save an adapter whose initialisation has rewritten the base as a plain LoRA of twice the rank on the base."""
    trained = {n: p for n, p in model.network.named_parameters() if n in taken}
    with tempfile.TemporaryDirectory() as parts:
        initial = Path(parts) / "initial"
        with in_place(trained, taken):
            model.network.save_pretrained(str(initial), **named)
        model.network.save_pretrained(
            str(folder), **named, path_initial_model_for_weight_conversion=str(initial)
        )


class _complaining:
    """Turn a failure of safetensors, which is often a full disk, into an OSError that names the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, SafetensorError):
            full = "No space left" in str(error)
            number = errno.ENOSPC if full else errno.EIO
            raise OSError(number, f"could not be written ({error})", str(self.folder)) from error


# Optimizer state is kept by the place of its parameter, not by a name: parameters may be views of one flat buffer.


def _optimized(learner: Learner) -> list[torch.Tensor]:
    return [p for group in learner.optimizer.param_groups for p in group["params"]]


def _tensors(learner: Learner) -> dict[str, torch.Tensor]:
    """What a checkpoint holds. Copies: safetensors refuses tensors that share memory."""
    tensors = {
        f"weight/{name}": parameter.detach().clone().contiguous()
        for name, parameter in learner.model.trained().items()
    }
    for place, parameter in enumerate(_optimized(learner)):
        for key, value in learner.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{place}/{key}"] = value.detach().clone().contiguous()
    for place, parameter in enumerate(_optimized(learner)):
        if any(parameter is master for master in learner.optimizer.masters):
            tensors[f"optimizer/{place}/{MASTER}"] = parameter.detach().clone()
    if learner.model.reference_moved:
        for name, parameter in reference_weights(learner.model).items():
            tensors[f"reference/{name}"] = parameter.detach().clone().contiguous()
    return tensors


def _load_optimizer(learner: Learner, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    learner.optimizer.state.clear()
    parameters = _optimized(learner)
    for full, value in tensors.items():
        if full.startswith("optimizer/"):
            _, place, key = full.split("/")
            if int(place) >= len(parameters) or value.numel() not in (1, parameters[int(place)].numel()):
                raise InputError(
                    f"{folder} holds the state of another optimizer: {full} has no parameter here"
                )
            parameter = parameters[int(place)]  # fused AdamW keeps its step count next to the parameter, too
            if key == MASTER:
                parameter.data.copy_(value)
            else:
                learner.optimizer.state[parameter][key] = value.to(parameter.device)
