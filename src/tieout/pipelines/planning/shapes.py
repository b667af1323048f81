"""Memory of a training step, counted from a model's shapes: no weights are loaded, and no device is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import AttentionMaskInterface

from ...learner.memory import kept_bytes
from ...learner.models.adapters import AdapterConfig, lora_config
from ...learner.models.architecture import attention_for, cached_numbers, decoder_of, without_dropout
from ...learner.models.gated_mlp import keep_less
from ...learner.models.names import resolve
from ...learner.models.peft import get_peft_model
from ...learner.models.sixteen_bits import round_once

NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a number in 4 bits: its code, one byte of scale for 64 of them, and four bytes for 256 scales."""
CONTEXT = 1 << 29
"""Assumed for the CUDA context, kernels and fragments of the allocator."""
LOGITS = 3 * 4 * (1 << 22)
"""A chunk of logits in fp32, its softmax and its slope: see `learner.models.output_head`."""
PROBE = 256
_NAME = "tieout_shapes"


@dataclass(frozen=True)
class Shapes:
    """What a model and its adapter need, in bytes."""

    weights: int
    """Of the base, in its dtype or in 4 bits."""
    adapter: int
    """Trained numbers that lie next to the base; 0 for full fine-tuning."""
    gradients: int
    optimizer: int
    """Two moments in fp32, and a copy in fp32 of what is trained in 16 bits."""
    token: float
    """Activations that one token keeps for backward."""
    token_recomputed: float
    """The same if the layers are computed again: their inputs."""
    layer: float
    """Activations of one token in one layer, which are there while that layer is computed again."""
    kv: int
    """Keys and values of one token."""
    working: int
    """A chunk of logits, and the largest layer in 4 bits as it is multiplied."""

    @property
    def resident(self) -> int:
        """What stays during the whole training."""
        return self.weights + self.adapter + self.gradients + self.optimizer

    def step(self, tokens: int, recompute: bool) -> float:
        """Peak of a step with a micro-batch of so many tokens."""
        kept = self.token_recomputed + self.layer if recompute else self.token
        return self.resident + self.working + tokens * kept


def shapes_of(name: str, adapter: AdapterConfig, dtype: torch.dtype, *, reference: bool = False) -> Shapes:
    """Count a model as `learner.models.loading.load` would build it.

    Args:
        name: of the model; only its configuration is read.
        adapter: what is trained.
        dtype: of the base.
        reference: full fine-tuning keeps a frozen copy of the network.
    """
    config = without_dropout(AutoConfig.from_pretrained(resolve(name)[1], trust_remote_code=False))
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, lambda *_, **__: None)
    kind = attention_for(config)
    own = {"attn_implementation": kind if kind == "eager" else _NAME}
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(config, dtype=dtype, **own).eval()
        linear = [m.weight.numel() for m in decoder_of(causal).modules() if isinstance(m, nn.Linear)]
        whole = sum(p.numel() * p.element_size() for p in causal.parameters())
        causal.requires_grad_(adapter.method == "full")
        network: Any = causal
        if adapter.method != "full":
            network = get_peft_model(causal, lora_config(adapter)).eval()
            round_once(network)
        keep_less(network)
        trained = [p for p in network.parameters() if p.requires_grad]
        token = _kept(causal, list(network.parameters()))
    text = config.get_text_config()
    full, four = adapter.method == "full", adapter.method == "qlora"
    numbers = sum(p.numel() for p in trained)
    sixteen = sum(p.numel() for p in trained if p.element_size() < 4)
    layers, inputs = text.num_hidden_layers, text.hidden_size * dtype.itemsize
    # bitsandbytes stores every linear layer but the output.
    base = whole - int(sum(linear) * (dtype.itemsize - NF4)) if four else whole
    return Shapes(
        weights=base * (1 + (full and reference)),
        adapter=0 if full else sum(p.numel() * p.element_size() for p in trained),
        gradients=4 * numbers + 2 * sixteen,
        optimizer=8 * numbers + 4 * sixteen,
        token=token + inputs,  # the slope of the log-probability, which the output layer keeps
        token_recomputed=layers * inputs + 2 * inputs,
        layer=token / layers,
        kv=cached_numbers(text) * dtype.itemsize,
        working=LOGITS + (max(linear, default=0) * dtype.itemsize if four else 0),
    )


def _kept(causal: Any, weights: list[Tensor]) -> float:
    """Bytes that a token keeps in the decoder."""
    ids = torch.zeros(1, PROBE, dtype=torch.long)
    mask = torch.zeros(1, 1, PROBE, PROBE, dtype=causal.dtype)  # a 2D one would be read
    forward = decoder_of(causal)
    return kept_bytes(lambda: forward(input_ids=ids, attention_mask=mask, use_cache=False), weights) / PROBE


class _Fused(torch.autograd.Function):
    """What a fused kernel keeps: its inputs, its output, and a number per head and query. It computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, length, _ = query.shape
        output = query.new_empty(batch, length, heads, value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(batch, heads, length).float())
        return output

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError("shapes are counted forward only")


def _attention(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> Any:
    return _Fused.apply(query, key, value), None
