"""Write a policy, a reward model or a value head as PEFT and transformers read them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from .models.adapters import POLICY, VALUE, in_place
from .models.base_record import record_base
from .models.model import Model
from .models.names import resolve
from .models.scalar_head import save_classifier, save_score, save_value


def export(model: Model, folder: Path, tokenizer: bool = True) -> None:
    """Fill a folder with the policy in PEFT's format, or the whole model in transformers' after full fine-tuning.

    A reward model is saved as a sequence classifier of either kind; a value head is saved next to its policy.

    `tokenizer`: with the tokenizer and its chat template, as programs expect them next to an adapter; one that is not
    the base's is always saved.
    """
    network = model.network
    if hasattr(network, "peft_config"):
        own = [VALUE] if model.value is not None and model.value.adapter else []
        named = {"selected_adapters": [POLICY, *own], "save_embedding_layers": _resized(model)}
        if model.taken is None:
            network.save_pretrained(str(folder), **named)
        else:
            _save_converted(model, model.taken, folder, named)
        for config in folder.rglob("adapter_config.json"):
            in_order(config)
        record_base(model.name, folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's template; shipping writes a real card
        if model.only_scores:
            save_score(folder, model.score)
    elif model.only_scores:
        save_classifier(network, model.score, folder)
    else:
        network.save_pretrained(str(folder))
    if tokenizer or model.own_tokenizer or not hasattr(network, "peft_config"):
        model.tokenizer.save_pretrained(str(folder))
    if model.value is not None:
        save_value(folder, model.value)


def in_order(config: Path) -> None:
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
