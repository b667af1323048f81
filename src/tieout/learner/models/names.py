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


def resolve(name: str) -> tuple[str, str, Path | None]:
    """Resolve a model name to (name of the base, what transformers loads, adapter folder or None)."""
    folder = embedded.path(name) if name in embedded.NAMES else Path(name)
    if (folder / "adapter_config.json").exists():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        if not base:
            raise InputError(f"{folder}/adapter_config.json names no base_model_name_or_path; add it")
        return (*resolve(base)[:2], folder)
    if folder.exists() and not (folder / "config.json").exists():
        raise InputError(f"{folder} holds no model: expected config.json and *.safetensors there")
    if not folder.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"model folder {name} does not exist; give a folder, a hub id, or tieout-base")
    return name, str(folder) if folder.exists() else name, None


def tokenizer_in(folder: Path | None, base: Any) -> Any:
    """The tokenizer and template that lie in an adapter's folder; else those of its base."""
    if folder is None:
        return base
    if (folder / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(str(folder))
    if (folder / "chat_template.jinja").exists():
        base = copy.deepcopy(base)
        base.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return base


def portable(base: str) -> str:
    """The name under which a base is found elsewhere: embedded name or hub id; else the folder's full path.

    >>> portable("/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de")
    'Qwen/Qwen3-0.6B'
    """
    if base in embedded.NAMES:
        return base
    if cached := re.search(r"models--([^/]+?)--([^/]+)/snapshots/", f"{base}/"):
        return f"{cached[1]}/{cached[2]}"
    if not Path(base).exists():
        return base
    folder = Path(base).resolve()
    inside = folder.parent == Path(embedded.__file__).resolve().parent
    return folder.name.replace("_", "-") if inside else str(folder)
