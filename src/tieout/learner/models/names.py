"""Names of models: resolve one to what is loaded, and write one that other machines resolve alike."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ... import embedded
from ...errors import InputError
from ...storage.jsonl import read_json
from .gguf_files import converted
from .packaged import PACKAGED, packaged_folder

NAMED = (*embedded.NAMES, *PACKAGED)
"""Names of models that no hub knows."""


def resolve(name: str) -> tuple[str, str, Path | None]:
    """Resolve a model name to (name of the base, what transformers loads, adapter folder or None)."""
    if name.startswith("api:"):
        raise InputError(f"{name} is behind an API: its weights are not here, so it is not loaded or trained")
    if name in PACKAGED:
        return name, str(packaged_folder(name)), None
    if is_gguf(name):
        return name, str(converted(Path(name).expanduser())), None
    folder = embedded.path(name) if name in embedded.NAMES else Path(name)
    if (folder / "adapter_config.json").exists():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        if not base or not isinstance(base, str):
            raise InputError(f"{folder}/adapter_config.json names no base_model_name_or_path; add it")
        if (Path(base) / "adapter_config.json").exists():
            which = "itself" if Path(base).resolve() == folder.resolve() else f"another adapter, {base},"
            raise InputError(
                f"{folder}/adapter_config.json names {which} as its base; name the base model, or merge that adapter "
                "into its base first"
            )
        return (*resolve(base)[:2], folder)
    if folder.exists() and not (folder / "config.json").exists():
        files = sorted(file.name for file in folder.glob("*.gguf"))
        hint = f"; name one of its GGUF files: {', '.join(files)}" if files else ""
        raise InputError(f"{folder} holds no model: expected config.json and *.safetensors there{hint}")
    if not folder.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(
            f"model folder {name} does not exist; give a folder, a hub id, or {' or '.join(NAMED)}"
        )
    return name, str(folder) if folder.exists() else name, None


def is_gguf(name: str) -> bool:
    """Whether a name is that of a GGUF file."""
    return name.lower().endswith(".gguf") and not Path(name).is_dir()


def only_here(base: str) -> bool:
    """Whether transformers alone cannot load a base by its name."""
    return base in NAMED or is_gguf(base)


def tokenizer_in(folder: Path | None, base: Any) -> Any:
    """The tokenizer and template that lie in an adapter's folder; else those of its base."""
    if folder is None:
        return base
    if (folder / "tokenizer_config.json").exists():
        own = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        return base if _says_the_same(own, base) else own
    if (folder / "chat_template.jinja").exists():
        base = copy.deepcopy(base)
        base.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return base


def _says_the_same(one: Any, other: Any) -> bool:
    """Whether two tokenizers give the same tokens and render the same conversations."""
    told = [
        (found.backend_tokenizer.to_str(), found.chat_template, found.special_tokens_map)
        for found in (one, other)
        if hasattr(found, "backend_tokenizer")
    ]
    return len(told) == 2 and told[0] == told[1]


def portable(base: str) -> str:
    """The name under which a base is found elsewhere: our own or the hub's; else the full path of the folder or file.

    >>> portable("/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de")
    'Qwen/Qwen3-0.6B'
    """
    if base in NAMED:
        return base
    if cached := re.search(r"models--([^/]+?)--([^/]+)/snapshots/", f"{base}/"):
        return f"{cached[1]}/{cached[2]}"
    if not Path(base).exists():
        return base
    folder = Path(base).resolve()
    inside = folder.parent == Path(embedded.__file__).resolve().parent
    return folder.name.replace("_", "-") if inside else str(folder)
