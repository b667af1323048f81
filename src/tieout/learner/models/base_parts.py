"""The parts of a base on which numbers depend, each by its digest, so that a change between two runs can be named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from ...errors import InputError
from ...storage.identity import WEIGHTS, file_digest
from .names import is_gguf, only_here, resolve

_CONFIG = ("config.json", "generation_config.json")
_TEMPLATE = ("chat_template.jinja", "chat_template.json")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def base_parts(name: str) -> dict[str, str]:
    """Part (weights, config, tokenizer, template) -> digest, of the base of a model or adapter in a folder.

    Of a hub id: the commit in the cache. Empty where the name alone decides it (a packaged model), where the file does
    (GGUF), and where nothing is there yet.
    """
    try:
        base, source, _ = resolve(name)
    except InputError:  # loading it says so
        return {}
    if only_here(base) or is_gguf(base):
        return {}
    folder = Path(source)
    if not folder.is_dir():
        cached = try_to_load_from_cache(source, "config.json")
        return {"commit": Path(cached).parent.name} if isinstance(cached, str) else {}
    weights = [path.name for path in folder.iterdir() if path.suffix in WEIGHTS]
    parts = {"weights": weights, "config": _CONFIG, "tokenizer": _TOKENIZER, "template": _TEMPLATE}
    found = {part: _digest(folder, names) for part, names in parts.items()}
    return {part: digest for part, digest in found.items() if digest}


def _digest(folder: Path, names: Sequence[str]) -> str:
    there = [folder / name for name in sorted(names) if (folder / name).is_file()]
    listed = "".join(f"{path.name} {file_digest(path)}\n" for path in there)
    return hashlib.sha256(listed.encode()).hexdigest() if there else ""
