"""Save a trained model where other programs load it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import InputError
from .tuned import Model, trained_on


def save(model: Model, folder: str | os.PathLike[str]) -> Path:
    """Copy an adapter, or a model that was trained whole, into a new folder, with tokenizer and chat template.

    PEFT, transformers and vLLM load the folder. InputError: there is no such model, or something lies in the folder.
    """
    where, name = Path(folder), trained_on(model)
    source = Path(name)
    if not source.is_dir():
        raise InputError(f"{name} is no folder of an adapter or a model: nothing was trained there")
    if where.exists() and any(where.iterdir()):
        raise InputError(f"{where} is not empty; name a new folder")
    from ..learner.models.loading import load_chat
    from ..learner.models.names import portable, resolve
    from ..storage.atomic import MANIFEST, appearing
    from ..storage.jsonl import read_json, write_text

    chat = load_chat(name)
    if where.exists():
        where.rmdir()
    with appearing(where) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        chat.tokenizer.save_pretrained(str(aside))
        config = aside / "adapter_config.json"
        if config.exists():
            import json

            known = {**read_json(config), "base_model_name_or_path": portable(resolve(name)[0])}
            write_text(config, json.dumps(known, indent=2) + "\n")
    return where
