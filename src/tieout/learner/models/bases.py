"""Base models from disk: frozen networks with their tokenizers, and one that several models share in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ...chat.template import why_not
from ...errors import InputError
from .architecture import attention_for, check_network, without_dropout
from .four_bits import four_bits as quantization
from .peft import PeftModel
from .scalar_head import checkpoint_score, weight_files
from .weights import refuse_incomplete, refuse_not_finite, unreadable


@dataclass(frozen=True)
class Base:
    """What a checkpoint holds, without an adapter."""

    network: PreTrainedModel
    """In evaluation mode; nothing takes a gradient."""
    tokenizer: Any
    score: dict[str, torch.Tensor] | None
    """The score head's weights, if the checkpoint is a sequence classifier."""


def load_base(name: str, source: str, dtype: torch.dtype, device: str, four_bits: bool = False) -> Base:
    """Load from a folder or the Hub.

    Args:
        name: for errors.
        source: what transformers loads.
        dtype: of the weights; of the arithmetic, for a base in 4 bits.
        device: where the network goes.
        four_bits: store the weights of linear layers in 4 bits.
    """
    options: dict[str, Any] = {}
    if four_bits:
        options = {"quantization_config": quantization(dtype, device), "device_map": {"": device}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        config = without_dropout(AutoConfig.from_pretrained(source, trust_remote_code=False))
        classifier = any(a.endswith("ForSequenceClassification") for a in config.architectures or [])
        if classifier:  # it has no output layer; tied to the embedding, the unused one costs nothing
            config.get_text_config().tie_word_embeddings = config.tie_word_embeddings = True
        network, found = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention_for(config),
            ignore_mismatched_sizes=True,  # they are in `found`, and refused in one sentence
            output_loading_info=True,
            **options,
        )
    except torch.OutOfMemoryError:
        raise
    except SafetensorError as error:
        raise InputError(
            f"model {name!r} could not be loaded: {unreadable(weight_files(source))}{error}; download or save it again"
        ) from error
    except Exception as error:  # of files that others wrote transformers raises whatever they lead to
        raise InputError(
            f"model {name!r} could not be loaded: expected the folder of a causal language model with "
            f"config.json, tokenizer and *.safetensors, or a hub id that is reachable or cached ({why_not(error)})"
        ) from error
    files = list(weight_files(source))
    refuse_incomplete(found, name, files, network.state_dict())
    refuse_not_finite(network.state_dict(), name, files)
    if not options:
        network = network.to(device)
    network.eval().requires_grad_(False)
    check_network(network, name)
    return Base(network, tokenizer, checkpoint_score(source) if classifier else None)


@dataclass
class Bases:
    """The base that was loaded last, for models that use it one after another.

    The next model takes it over, and the one before is closed. Adapters never change the weights under them, so a base
    that was taken back is as it was loaded. Full fine-tuning and sharding over ranks do change them: such models are
    loaded without `Bases`. There is one at a time, so that sharing never needs more memory than loading does.
    """

    _key: tuple[Any, ...] | None = None
    _base: Base | None = None
    _user: Any = None

    def borrow(self, name: str, *key: Any) -> Base:
        """The base with these arguments of `load_base`, free of adapters; follow up with `lend`."""
        base, user, same = self._base, self._user, self._key == key
        self.clear()
        if base is None or not same:
            return load_base(name, *key)
        _close(user)
        base.network.eval().requires_grad_(False)
        return base

    def lend(self, base: Base, user: Any, *key: Any) -> None:
        """Keep the base, with the model that now uses it."""
        self._base, self._user, self._key = base, user, key

    def clear(self) -> None:
        """Forget the base; the model that uses it keeps it."""
        self._base = self._user = self._key = None


def _close(model: Any) -> None:
    """Take a model's adapters off its base. Code that still uses the model fails, instead of seeing the bare base."""
    if isinstance(model.network, PeftModel):
        model.network.base_model.unload()
    model.network = None
