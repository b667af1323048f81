"""Checkpoints that are whole or absent: written aside, hashed, renamed; resume takes the newest that verifies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .learner import Learner
from .models import POLICY

MANIFEST = "manifest.json"
"""Written last: name -> SHA-256 of every other file."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path
    keep: int = 2
    """Older ones are deleted."""

    def save(self, learner: Learner, state: Mapping[str, Any]) -> Path:
        """Weights, optimizer, random state and `state` (plain values), atomically."""
        tensors: dict[str, torch.Tensor] = {"rng": torch.random.get_rng_state()}
        for name, parameter in learner.model.trained().items():
            tensors[f"weight/{name}"] = parameter.detach().contiguous()
            for key, value in learner.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value.detach().contiguous()
        plain = {"step": learner.step, "skipped_updates": learner.skipped_updates, **state}
        target = self.folder / f"step-{learner.step:06d}"
        aside = self.folder / f".{target.name}.{os.getpid()}"
        for dead in self.folder.glob(".step-*"):  # of a process that was killed inside a save
            shutil.rmtree(dead, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(tensors, aside / "state.safetensors")
        (aside / "state.json").write_text(json.dumps(plain))
        seal(aside)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        sync(self.folder)
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old)
        return target

    def restore(self, learner: Learner) -> dict[str, Any] | None:
        """Put the newest checkpoint that verifies into the learner; returns its plain state, None if there is none."""
        for folder in reversed(self._all()):
            if not verifies(folder):
                warnings.warn(f"checkpoint {folder} is damaged, and skipped", stacklevel=2)
                continue
            tensors = load_file(folder / "state.safetensors")
            state: dict[str, Any] = json.loads((folder / "state.json").read_text())
            trained = learner.model.trained()
            saved = {n.removeprefix("weight/") for n in tensors if n.startswith("weight/")}
            if saved != set(trained):
                differing = sorted(saved ^ set(trained))[:3]
                raise ValueError(
                    f"{folder} holds other parameters than the model trains, such as {differing}"
                )
            torch.random.set_rng_state(tensors["rng"])
            learner.optimizer.state.clear()
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter.copy_(tensors[f"weight/{name}"])
            for full, value in tensors.items():
                kind, _, rest = full.partition("/")
                if kind == "optimizer":
                    key, _, name = rest.partition("/")
                    parameter = trained[name]  # fused AdamW keeps its step count beside the parameter, too
                    learner.optimizer.state[parameter][key] = value.to(parameter.device)
            learner.step, learner.skipped_updates = state["step"], state["skipped_updates"]
            return state
        return None

    def _all(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if (p / MANIFEST).exists())


def verifies(folder: Path) -> bool:
    """Whether every file is there and has the hash that the manifest names."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return all(_sha256(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError):
        return False


def save_adapter(learner: Learner, folder: Path) -> None:
    """Export the policy in PEFT's format (or the whole model in transformers', for full fine-tuning), atomically."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    network = learner.model.network
    if hasattr(network, "peft_config"):
        network.save_pretrained(str(aside), selected_adapters=[POLICY], save_embedding_layers=False)
        (aside / "README.md").unlink(missing_ok=True)  # PEFT's template; shipping writes a real card
    else:
        network.save_pretrained(str(aside))
        learner.model.tokenizer.save_pretrained(str(aside))
    seal(aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    sync(folder.parent)


def seal(folder: Path) -> None:
    """Force every file to disk, then write their hashes."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    for name in names:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
    manifest = folder / MANIFEST
    with open(manifest, "w") as file:
        json.dump({name: _sha256(folder / name) for name in names}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync(folder)


def sync(folder: Path) -> None:
    """Force a folder's own entries, such as a rename in it, to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
