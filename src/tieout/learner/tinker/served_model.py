"""A base whose weights are on a server: its tokenizer and its limits, and no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import AutoConfig, PreTrainedModel

from ...chat.template import Chat, why_not
from ...errors import InputError
from ..models.architecture import context
from ..models.hub import refuse_unreachable
from ..models.loading import load_chat
from ..models.model import Model
from ..models.names import resolve
from .wire import Limits


@dataclass(eq=False)
class ServedModel(Model):
    """What can be known of a model without its weights. InputError: something asks for the weights."""

    limits: Limits = field(default_factory=lambda: Limits(0, 0))

    @property
    def causal(self) -> PreTrainedModel:
        raise InputError(
            f"{self.name} is on a training server, and its weights are not here: what was asked for needs them"
        )

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of the adapters, which are refused in anything else."""
        return torch.float32

    @property
    def context(self) -> int:
        return self.limits.context

    def trained(self) -> dict[str, torch.nn.Parameter]:
        return {}

    @property
    def has_reference(self) -> bool:
        return True

    @contextmanager
    def as_reference(self) -> Iterator[PreTrainedModel]:
        yield self.causal


def served_model(name: str) -> ServedModel:
    """Read tokenizer and configuration of a base by its hub id, folder or own name."""
    base, source, _ = resolve(name)
    refuse_unreachable(base, source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config()
    except Exception as error:
        raise InputError(f"model {name!r}: its configuration is not here ({why_not(error)})") from error
    chat: Chat = load_chat(base)
    model = ServedModel(None, chat.tokenizer, base, limits=Limits(context(config), int(config.vocab_size)))
    model.chat = chat
    return model
