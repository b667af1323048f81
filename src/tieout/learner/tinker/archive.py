"""An adapter as a server gives it, as a folder that PEFT, vLLM and `tieout` read."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_in

from ...errors import InputError
from ..export import in_order
from ..models.adapters import WEIGHTS
from .connection import MOST_BYTES, ServerLost

CONFIG = "adapter_config.json"
FLOATS = "torch.float32"


def unpack(data: bytes, folder: Path, base: str) -> dict[str, Any]:
    """Write the adapter of a tar file into a folder, with what its configuration leaves out; returns that.

    Only the two files of an adapter are taken, whatever else the archive holds. Servers name no `target_modules`: they
    are read off the tensors.

    Raises:
        ServerLost: it is no archive of an adapter.
        InputError: the weights are not kept in float32, so that most updates would round to nothing.
    """
    files = _files(data)
    try:
        tensors = tensors_in(files[WEIGHTS])
        given: dict[str, Any] = json.loads(files[CONFIG])
    except (KeyError, ValueError, SafetensorError) as error:
        raise ServerLost(
            f"the archive of the adapter is not one: expected {CONFIG} and {WEIGHTS}, found "
            f"{', '.join(sorted(files)) or 'nothing'} ({type(error).__name__}: {error})"
        ) from error
    kinds = {str(tensor.dtype) for tensor in tensors.values()}
    if kinds != {FLOATS}:
        raise InputError(
            f"the server keeps its adapters in {', '.join(sorted(kinds)) or 'nothing'}, and float32 is needed: in 16 "
            "bits most updates round to nothing, and beta2 = 0.999 to 1. Start it with its base in float32"
        )
    ranks = {t.shape[0] for n, t in tensors.items() if "lora_A" in n}
    targets = sorted({name.split(".")[-3] for name in tensors if ".lora_" in name})
    if len(ranks) != 1 or len(targets) == 0:
        raise ServerLost(f"the archive holds no LoRA of one rank: ranks {sorted(ranks)}, targets {targets}")
    config = given | {"target_modules": targets, "task_type": "CAUSAL_LM", "peft_type": "LORA"}
    config |= {"base_model_name_or_path": base, "r": ranks.pop(), "inference_mode": True}
    (folder / WEIGHTS).write_bytes(files[WEIGHTS])
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    in_order(folder / CONFIG)
    return config


def _files(data: bytes) -> dict[str, bytes]:
    """Name -> content of the adapter's files, wherever in the archive they lie."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isfile() or name not in (CONFIG, WEIGHTS):
                    continue
                if member.size > MOST_BYTES or name in found:
                    raise ServerLost(f"the archive of the adapter has an impossible {member.name}")
                content = archive.extractfile(member)
                found[name] = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ServerLost(f"the archive of the adapter cannot be read: {error}") from error
    return found
