"""The base that an adapter was trained on: a digest of each of its weights, in a file that PEFT ignores.

Of each tensor a piece is compared, rounded to bf16: copies of a base in fp32, bf16 and fp16, in one file or many, are
the same base, and a fine-tuned one of the same shapes is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open

from ...errors import InputError
from ...storage.atomic import MANIFEST, write_json
from ...storage.jsonl import read_json
from .names import portable, resolve
from .scalar_head import weight_files

FILE = "base_weights.json"
"""Next to an adapter's weights: `base`, its name, and `tensors`, name -> digest."""
PIECE = 1024
"""Values of a tensor that are compared, from its middle rows."""
MOST = 512
"""Tensors that are compared; of more, those whose names have the smallest hashes."""


def record_base(name: str, folder: Path) -> None:
    """Write the record of the base `name` (hub id, folder, GGUF file) into an adapter's folder, if it has files."""
    try:
        source = resolve(name)[1]
    except InputError:  # a base that was never saved
        return
    if tensors := digests(source):
        write_json(folder / FILE, {"base": portable(name), "tensors": tensors})


def refuse_other_base(adapter: Path, source: str) -> None:
    """InputError: the weights of the base in `source` are not those that the adapter was trained on.

    Adapters without a record, such as other programs', are taken as they are.
    """
    if not (adapter / FILE).is_file():
        return
    known = read_json(adapter / FILE)
    was = known.get("tensors") if isinstance(known, dict) else None
    if not isinstance(was, dict):
        raise InputError(
            f"{adapter / FILE} is no record of a base: expected an object with `base` and `tensors`; if it is "
            "another program's, delete it"
        )
    now = digests(source)
    shared = was.keys() & now.keys()
    remedy = (
        f"Give the base that it was trained on, {known.get('base')}; or, to use it on this one, delete "
        f"{adapter / FILE} and the {MANIFEST} next to it"
    )
    if not shared:
        has = f"its tensors have other names, such as {min(now)}" if now else "it has no safetensors files"
        raise InputError(
            f"the adapter in {adapter} has digests of its base, and {source} cannot be compared with them: {has}. "
            f"{remedy}"
        )
    if other := sorted(name for name in shared if not same(str(was[name]), now[name])):
        raise InputError(
            f"the adapter in {adapter} was trained on another base than {source}: {other[0]} differs, and "
            f"{len(other)} of {len(shared)} tensors do. {remedy}"
        )


def same(one: str, other: str) -> bool:
    """Whether two digests are of copies of one tensor, in whatever precision each is."""
    return not set(one.split()).isdisjoint(other.split())


def digests(source: str) -> dict[str, str]:
    """Tensor -> digest, of a base in a folder or of a cached hub id; empty where there are no safetensors files."""
    try:
        files = [Path(file).resolve() for file in weight_files(source)]
    except (OSError, AssertionError, json.JSONDecodeError):
        return {}
    return dict(_digests(tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files)))


@lru_cache(maxsize=8)
def _digests(files: Sequence[tuple[str, int, int]]) -> dict[str, str]:
    """Of files by path, time and size."""
    where = dict[str, str]()
    for path, *_ in files:
        with safe_open(path, "pt") as file:
            where |= dict.fromkeys(file.keys(), path)
    chosen = sorted(where, key=lambda name: hashlib.sha256(name.encode()).digest())[:MOST]
    found = dict[str, str]()
    for path, *_ in files:
        with safe_open(path, "pt") as file:
            found |= {name: _digest(file.get_slice(name)) for name in chosen if where[name] == path}
    return found


def _digest(tensor: object) -> str:
    """Of the shape and of the piece in the middle; in fp32 a second one, if it differs, of a copy in fp16."""
    shape: list[int] = tensor.get_shape()  # type: ignore[attr-defined]
    if not shape or 0 in shape:
        return repr(shape).replace(" ", "")
    row = max(1, torch.Size(shape[1:]).numel())
    rows = max(1, PIECE // row)
    start = max(0, (shape[0] - rows) // 2)
    piece: torch.Tensor = tensor[start : start + rows]  # type: ignore[index]
    piece = piece.flatten()[:PIECE]
    copies = [piece]
    if piece.is_floating_point() and piece.element_size() > 1:
        rounded = [piece, piece.half()] if piece.dtype == torch.float32 else [piece]
        copies = [copy.to(torch.bfloat16) for copy in rounded]
    data = (copy.contiguous().view(torch.uint8).numpy().tobytes() for copy in copies)
    return " ".join(
        dict.fromkeys(hashlib.sha256(repr(shape).encode() + one).hexdigest()[:16] for one in data)
    )
