"""Scalar heads: one number per hidden state. A reward model's score AFTER the last token, PPO's value BEFORE each.

On disk a score is where transformers and PEFT keep it, so that either side reads the other's: `score.weight` of a
sequence-classification checkpoint, or the saved module `score` of an adapter for sequence classification. It is read
where they read it, too: at the rightmost token that is not the pad token, which is the one before eos where both are
one token. A value head belongs to training alone, and is stored next to the adapter in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import cached_file

from ...errors import InputError
from .weights import read_tensors

ScalarKind = Literal["score", "value"]
VALUE_FILE = "value_head.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass
class ScalarHead:
    """A linear layer from hidden states to numbers, in fp32, and the adapter whose hidden states it reads."""

    linear: nn.Linear
    """[d] -> [1]."""
    adapter: str | None = None
    """None: the policy's own trunk."""
    pad: int | None = None
    """A score is that of the rightmost token which is not this one; None: of the last token."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """[T, d] -> [T]."""
        return self.linear(hidden.to(self.linear.weight.dtype))[..., 0]

    @classmethod
    def new(
        cls,
        kind: ScalarKind,
        width: int,
        device: torch.device,
        adapter: str | None = None,
        pad: int | None = None,
    ) -> ScalarHead:
        """A fresh head. Values start at 0: the first returns are not yet compared with noise. Scores start at random,
        with standard deviation 1 / sqrt(d + 1) a weight (Stiennon et al., appendix B.2 of https://arxiv.org/abs/2009.01325).
        """
        linear = nn.Linear(width, 1, bias=kind == "value", device=device, dtype=torch.float32)
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter.zero_()
            if kind == "score":
                linear.weight.copy_(torch.randn(1, width) / (width + 1) ** 0.5)
        return cls(linear, adapter, pad)

    @classmethod
    def of(
        cls,
        tensors: dict[str, Tensor],
        device: torch.device,
        adapter: str | None = None,
        pad: int | None = None,
    ) -> ScalarHead:
        """A head with these weights: `weight` [1, d] and perhaps `bias` [1]."""
        rows, width = tensors["weight"].shape
        if rows != 1:
            raise InputError(
                f"the head gives {rows} numbers per sequence; a reward model gives 1 (num_labels=1)"
            )
        linear = nn.Linear(width, 1, bias="bias" in tensors, device=device, dtype=torch.float32)
        linear.load_state_dict(tensors)
        return cls(linear.requires_grad_(False), adapter, pad)


def pad_of(config: Any, tokenizer: Any, whole: bool) -> int | None:
    """The pad token of a reward model that is trained: a score is not read at it. None: there is no such token.

    Args:
        config: of the base.
        tokenizer: without a pad token it pads with eos, as in TRL; that is set, and saved with the model.
        whole: the model is saved with a configuration of its own, which then names the tokenizer's pad token. An
            adapter has none: transformers and PEFT go by that of its base, if it names one.
    """
    config = config.get_text_config()
    named = config.pad_token_id, tokenizer.pad_token_id
    pad = next(
        (x for x in (*(named[::-1] if whole else named), tokenizer.eos_token_id) if x is not None), None
    )
    if pad is not None and pad != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    if whole:
        config.pad_token_id = pad
    return pad


def adapter_score(folder: Path) -> dict[str, Tensor] | None:
    """The score head saved in a PEFT adapter, None if it has none."""
    prefix = "base_model.model.score."
    path = folder / ADAPTER_WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  not a mapping
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names} or None
    except (FileNotFoundError, SafetensorError) as error:
        raise InputError(
            f"{folder} holds no adapter: {path.name} is missing or not readable ({error})"
        ) from error


def checkpoint_score(source: str) -> dict[str, Tensor]:
    """The score head of a sequence-classification checkpoint: a folder, or a cached hub id."""
    found = {}
    for path in weight_files(source):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  not a mapping
                if name.startswith("score."):
                    found[name.removeprefix("score.")] = file.get_tensor(name)
    if "weight" not in found:
        raise InputError(
            f"{source!r} is a sequence classifier without `score.weight`; only that head is known"
        )
    return found


def weight_files(source: str) -> Iterator[str]:
    """The safetensors files of a checkpoint: of a folder, or of a cached hub id."""
    index = cached_file(source, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    names = (
        sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
        if index
        else ["model.safetensors"]
    )
    for name in names:
        path = cached_file(source, name)
        assert path is not None
        yield path


def save_score(folder: Path, head: ScalarHead | None) -> None:
    """Turn a saved adapter into one for sequence classification, as PEFT itself would have written it."""
    assert head is not None
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    for name, value in head.linear.state_dict().items():
        tensors[f"base_model.model.score.{name}"] = value.detach().cpu().contiguous()
    save_file(tensors, folder / ADAPTER_WEIGHTS, {"format": "pt"})
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    path.write_text(json.dumps(config, indent=2) + "\n")


def save_value(folder: Path, head: ScalarHead) -> None:
    """Write the value head next to the adapter."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in head.linear.state_dict().items()}
    save_file(tensors, folder / VALUE_FILE)


def load_value(folder: Path) -> dict[str, Tensor] | None:
    """The value head stored next to an adapter, None if there is none."""
    path = folder / VALUE_FILE
    return read_tensors(path) if path.exists() else None


def save_classifier(network: Any, head: ScalarHead | None, folder: Path) -> None:
    """Write a fully trained reward model as transformers' sequence-classification checkpoint."""
    assert head is not None
    from transformers import AutoModelForSequenceClassification

    config = type(network.config).from_dict(network.config.to_dict())
    config.num_labels, config.get_text_config().pad_token_id = 1, head.pad
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(config)
    setattr(classifier, classifier.base_model_prefix, network.base_model)
    classifier.score = head.linear
    classifier.save_pretrained(str(folder))
