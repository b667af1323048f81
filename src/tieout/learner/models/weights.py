"""Refuse weights that are not whole: missing, of another shape, not finite, or changed since they were written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...errors import InputError
from ...storage.atomic import MANIFEST
from ...storage.identity import changed_files
from ...storage.jsonl import read_json

SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "adapter_config.json",
    "model.safetensors.index.json",
)
"""Files of a model that are read as JSON. transformers reads some of them and, where they are broken, says nothing."""


def refuse_changed(folder: Path | None) -> None:
    """InputError: a file of a model or adapter is not what the manifest next to it says, or is no JSON."""
    if folder is None or not folder.is_dir():
        return
    if (wrong := changed_files(folder)) == [MANIFEST]:
        raise InputError(
            f"{folder / MANIFEST} is empty or no JSON, so the files next to it cannot be checked: restore it from a "
            "copy, or delete it if they are known to be right"
        )
    if wrong:
        raise InputError(
            f"{folder / wrong[0]} is not the file that {MANIFEST} next to it was written for"
            f"{f' (and {len(wrong) - 1} more)' if wrong[1:] else ''}: restore it from a copy, or, if it was changed on "
            f"purpose, delete {folder / MANIFEST}"
        )
    for name in SETTINGS:
        if (folder / name).is_file():
            read_json(folder / name)


def refuse_incomplete(
    found: Mapping[str, Any], source: str, files: Iterable[str], held: Iterable[str]
) -> None:
    """InputError: transformers filled weights of a base at random, or left some of the file out.

    Args:
        found: what `from_pretrained(..., output_loading_info=True)` says.
        source: what was loaded, for the error.
        files: the base's weight files.
        held: names of the weights that the network has.
    """
    files = list(files)
    missing, unexpected = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if wrong := sorted(found["mismatched_keys"]):
        name, has, wants = wrong[0]
        raise InputError(
            f"{_file_of(name, files, source)}: {name} has shape {list(has)}, and config.json asks for {list(wants)}"
            f"{_more(wrong)}; weights and config.json are of two models"
        )
    if missing:
        near = next((name for name in unexpected if _is_renamed(name, missing[0])), "")
        raise InputError(
            f"{source}: {missing[0]} is in none of its weight files{_more(missing)}"
            f"{f'; there is {near}, which no layer has' if near else ''}. Download or save the model again"
        )
    layers = {re.sub(r"\d+", "N", name) for name in held}
    if extra := [name for name in unexpected if re.sub(r"\d+", "N", name) in layers]:
        raise InputError(
            f"{_file_of(extra[0], files, source)}: {extra[0]} belongs to a layer that config.json leaves out"
            f"{_more(extra)}; set num_hidden_layers to that of the weights"
        )


def refuse_not_finite(tensors: Mapping[str, Tensor], source: str, files: Iterable[str] = ()) -> None:
    """InputError: a weight is NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_meta or not tensor.is_floating_point() or tensor.element_size() < 2:
            continue
        if torch.isfinite(tensor.sum(dtype=torch.float32)):  # one pass, and no second tensor of this size
            continue
        if count := int((~torch.isfinite(tensor)).sum()):
            raise InputError(
                f"{_file_of(name, list(files), source)}: {name} has {count} of {tensor.numel()} values that are NaN or "
                "infinite: the training that wrote it diverged, or the file is damaged; take an earlier checkpoint"
            )


def read_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file. InputError: it cannot be read, or holds NaN or infinite values."""
    try:
        tensors = load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); restore it from a copy") from error
    refuse_not_finite(tensors, str(path))
    return tensors


def unreadable(files: Iterable[str]) -> str:
    """`: FILE` for the first weight file whose header cannot be read; empty if all can."""
    for path in files:
        try:
            safe_open(path, "pt").__enter__()
        except (OSError, SafetensorError):
            return f"{path}: "
    return ""


def misfit(path: Path, error: object) -> str:
    """One sentence for PEFT's page about an adapter that does not fit its base."""
    said = str(error)
    if wrong := re.findall(r"size mismatch for (\S+): .*?Size\((.*?)\).*?Size\((.*?)\)", said):
        name, has, wants = wrong[0]
        return (
            f"{path}: {_saved(name)} has shape {has}, and its base and adapter_config.json ask for {wants}"
            f"{_more(wrong)}; it is of another base"
        )
    if "missing adapter keys" in said and (names := re.findall(r"'(\S+?)'", said)):
        return (
            f"{path}: {_saved(names[0])} is missing{_more(names)}: the file is damaged, or does not fit its base or "
            "adapter_config.json"
        )
    return f"{path} does not fit its base: {said}"


def refuse_unused(weights: Mapping[str, Tensor], held: Iterable[str], path: Path) -> None:
    """InputError: an adapter's file holds LoRA weights that no layer has taken.

    Args:
        weights: of the file.
        held: names of the loaded adapter, as PEFT saves them. Where the file has them under other names, PEFT has
            converted it, and nothing can be said.
        path: of the file.
    """
    held = set(held)
    unused = sorted(name for name in weights.keys() - held if ".lora_" in name)
    if unused and held <= weights.keys():
        raise InputError(
            f"{path}: {unused[0]} belongs to no layer of its base that adapter_config.json names{_more(unused)}; "
            "it would be left out"
        )


def _saved(name: str) -> str:
    """The name in the file of an adapter's parameter."""
    return re.sub(r"\.(default|reward|value)(?=\.|$)", "", name)


def refuse_large_tokenizer(tokenizer: Any, rows: int, name: str, own: Iterable[str] = ()) -> None:
    """InputError: the tokenizer has tokens without a row of the embedding, and the adapter brings none.

    Args:
        tokenizer: of the adapter, or of the base.
        rows: of the base's embedding.
        name: of the model, for the error.
        own: names of the adapter's tensors.
    """
    if len(tokenizer) <= rows or any("embed" in key or "wte" in key for key in own):
        return
    raise InputError(
        f"the tokenizer of {name} has {len(tokenizer)} tokens and the model's embedding {rows} rows: token {rows} "
        f"({tokenizer.convert_ids_to_tokens(rows)!r}) has no weights. Use the tokenizer that the model was saved with, "
        "or resize the embedding, train it and save both"
    )


def adapter_tensors(folder: Path | None) -> list[str]:
    """Names of an adapter's tensors; none without an adapter."""
    return [] if folder is None else _names(Path(folder) / "adapter_model.safetensors")


def _names(path: str | Path) -> list[str]:
    """Names of the tensors in a file; none where it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError):
        return []


def _file_of(name: str, files: list[str], source: str) -> str:
    """The weight file that holds a tensor; `source` where its name in the file is another one."""
    if len(files) == 1:
        return files[0]
    ends = [name, name.partition(".")[2] or name]
    return next((f for f in files if any(own.endswith(tuple(ends)) for own in _names(f))), source)


def _is_renamed(name: str, missing: str) -> bool:
    """Whether two names differ in one part only."""
    ours, theirs = name.split("."), missing.split(".")
    return len(ours) == len(theirs) and sum(a != b for a, b in zip(ours, theirs, strict=True)) == 1


def _more(names: list[Any]) -> str:
    return f" (and {len(names) - 1} more)" if names[1:] else ""
