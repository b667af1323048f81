"""A loaded model: its network, adapters, heads and reference, and whether it can share prompts between completions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ...chat.template import Chat
from ...errors import InputError
from ..prefix.attention import NAME
from .adapters import POLICY, REWARD, add_frozen, in_place, tuner_layers, without
from .architecture import context, head_of, text_config
from .base_record import refuse_other_base
from .names import portable, resolve, tokenizer_in
from .output_head import Head
from .peft import PeftModel
from .scalar_head import ScalarHead, adapter_score


@dataclass(eq=False)
class Model:
    """A network, its tokenizer, and how to reach its frozen reference."""

    network: Any
    """The transformers model, or PEFT's wrapper around it."""
    tokenizer: Any
    name: str
    """Hub id or folder of the base."""
    own_tokenizer: bool = False
    """The tokenizer is not quite that of the base: it is saved with the adapter."""
    reference_network: Any = None
    """Full fine-tuning only: a frozen copy of the network at step 0."""
    start: dict[str, torch.Tensor] | None = None
    """What is trained as it was at step 0, where the adapter switched off is not the reference."""
    rewritten: bool = False
    """The adapter has rewritten the base under it: without the adapter it is another model."""
    taken: dict[str, torch.Tensor] | None = None
    """The fresh weights of an adapter whose initialisation has taken what they are off the base (PiSSA): a saved
    adapter takes them off again, so that it fits the base as it was."""
    reference_moved: bool = False
    """Whether the reference was refreshed: it is then no longer what the model was loaded with."""
    score: ScalarHead | None = None
    """One number per sequence: the network is a reward model, or also holds the frozen adapter of one."""
    value: ScalarHead | None = None
    """One number per token: PPO's expected return."""

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, without PEFT's wrapper."""
        return self.network.get_base_model() if isinstance(self.network, PeftModel) else self.network

    @cached_property
    def chat(self) -> Chat:
        """Tokens to text and back, with the stop tokens that the model's generation config adds."""
        stops = getattr(self.causal.generation_config, "eos_token_id", None)
        return Chat(
            self.tokenizer, tuple(stops) if isinstance(stops, list) else () if stops is None else (stops,)
        )

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the base."""
        return self.causal.dtype

    @property
    def context(self) -> int:
        """The longest sequence the model was built for, in tokens."""
        return context(text_config(self.causal))

    @property
    def head(self) -> Head:
        """The output layer."""
        return head_of(self.causal)

    def trained(self) -> dict[str, nn.Parameter]:
        """Name -> every parameter that takes a gradient."""
        heads = {"score_head": self.score, "value_head": self.value}
        named = dict(self.network.named_parameters())
        for name, head in heads.items():
            named |= {f"{name}.{n}": p for n, p in head.linear.named_parameters()} if head else {}
        return {name: p for name, p in named.items() if p.requires_grad}

    @property
    def only_scores(self) -> bool:
        """Whether the network is a reward model: its output layer means nothing."""
        return self.score is not None and self.score.adapter is None

    def add_reward(self, folder: Path) -> None:
        """Add a reward model's adapter to the policy's base, frozen.

        ValueError: the folder holds no adapter with a score head, or one of another base.
        """
        if not isinstance(self.network, PeftModel):
            raise InputError(
                "full fine-tuning changes the base that the reward model needs: train an adapter"
            )
        base, _, own = resolve(str(folder))
        if own is None or portable(base) != portable(self.name):
            raise InputError(
                f"{folder} is no adapter of {portable(self.name)}, but of {portable(base)}; "
                "use it as a reward function: tieout.rewards.library.reward_model.reward_model"
            )
        refuse_other_base(own, resolve(self.name)[1])
        tensors = adapter_score(own)
        if tensors is None:
            raise InputError(
                f"the adapter in {folder} has no score head; train it with `tieout train reward_model`"
            )
        if self.rewritten:
            raise InputError(
                f"the policy's adapter has rewritten the base that {folder} needs; use it as a reward function: "
                "tieout.rewards.library.reward_model.reward_model"
            )
        add_frozen(self.network, own, REWARD)
        tokenizer = tokenizer_in(own, None)
        pad = tokenizer.pad_token_id if tokenizer is not None else text_config(self.causal).pad_token_id
        self.score = ScalarHead.of(tensors, self.device, REWARD, pad)

    @property
    def has_reference(self) -> bool:
        """Whether `as_reference` gives one: always with an adapter."""
        return self.reference_network is not None or isinstance(self.network, PeftModel)

    @contextmanager
    def as_reference(self) -> Iterator[PreTrainedModel]:
        """The policy at step 0: the adapter off, what is trained as it was then, or a frozen copy of the network."""
        if self.reference_network is not None:
            yield self.reference_network
        elif not isinstance(self.network, PeftModel):
            raise InputError(
                "full fine-tuning keeps no reference by default: load the model with keep_reference=True"
            )
        elif self.start is not None:
            trained = {n: p for n, p in self.network.named_parameters() if n in self.start}
            with in_place(trained, self.start):
                yield self.causal
        else:
            with without(self.network):
                yield self.causal

    @contextmanager
    def merged(self) -> Iterator[PreTrainedModel]:
        """The policy with its adapter folded into a copy of the weights; the originals come back untouched.

        An adapter on anything but a plain linear layer (a mixture's experts, 4-bit weights) stays unmerged, and so does
        one with biases of its own.
        """
        layers = tuner_layers(self.network)
        plain = all(type(layer.get_base_layer()) is nn.Linear for layer in layers)
        if not plain or any(layer.lora_bias.get(POLICY) for layer in layers):
            layers = []
        originals = [(layer, layer.get_base_layer(), layer.get_base_layer().weight) for layer in layers]
        try:
            with torch.no_grad():
                for layer, base, weight in originals:
                    # A new parameter, not new data: an embedding tied to this one keeps its own.
                    base.weight = nn.Parameter(weight.clone(), requires_grad=False)
                    layer.merge(adapter_names=[POLICY])
            yield self.causal
        finally:
            for layer, base, weight in originals:
                base.weight = weight
                layer.merged_adapters.clear()


FULL_ATTENTION = {"full_attention", "sliding_attention"}


def why_not_packed(model: Model) -> str | None:
    """None if the completions of a group may share their prompt in this model, else the reason."""
    if reason := why_not_shared(model):
        return reason
    if _dropout(model):
        return "the adapter's dropout is above 0: copies of a prompt would differ"
    return None


def why_not_shared(model: Model) -> str | None:
    """The same without dropout, as in sampling: the reason of the architecture itself."""
    config = text_config(model.causal)
    other = {kind for kind in getattr(config, "layer_types", None) or [] if kind not in FULL_ATTENTION}
    if other:
        return f"it has layers of type {', '.join(sorted(other))}, which carry state across the row"
    state = [
        n for n, m in model.causal.named_modules() if isinstance(m, (nn.Conv1d, nn.RNNBase)) or _is_mamba(m)
    ]
    if state:
        return f"it has recurrent or convolution layers ({state[0]}), which carry state across the row"
    if getattr(config, "alibi", False) or config.model_type in {"bloom", "mpt", "falcon_h1"}:
        return "its positions are distances along the row (ALiBi)"
    if getattr(config, "kv_lora_rank", None):
        return "its keys and values have heads of different sizes (multi-head latent attention)"
    if config._attn_implementation != NAME:
        return f"its architecture brings its own attention ({config._attn_implementation})"
    return None


def _is_mamba(module: nn.Module) -> bool:
    return "mamba" in type(module).__name__.lower()


def _dropout(model: Model) -> bool:
    if not isinstance(model.network, PeftModel):
        return False
    return any(config.lora_dropout > 0 for config in model.network.peft_config.values())
