"""The next tokens of many completions through a Llama-like model, in a quarter of the operations.

A small model's decoding step is mostly overhead: hundreds of operations on a few numbers each. For the families whose
layers are known here (Llama, Mistral, Qwen 2 and 3, Gemma 1 and 3) this reads the weights once and runs only what the
mathematics asks for. The sampler checks the result against the model's own forward before it trusts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ....learner.models.architecture import decoder_of, head_of
from ....learner.models.peft import BaseTunerLayer
from ..decoding.kv_cache import KVCache
from .weight_layout import FastLinear, Product, padded, product

FAMILIES = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text"}
STEADY_ROTARY = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles do not depend on the length of the sequence."""
COPIED_BYTES = 1 << 30
"""Weights of up to this size are copied, side by side and as they are read fastest; larger ones stay as they are."""


class NotLean(ValueError):
    """The model is not one of those known here."""


class LeanStep:
    """Tokens and positions -> hidden states, for as long as the weights are what they are now."""

    def __init__(self, network: Any) -> None:
        """Raises NotLean with the reason."""
        config = network.config.get_text_config()
        decoder: Any = decoder_of(network)
        if config.model_type not in FAMILIES:
            raise NotLean(f"{config.model_type} is not among {', '.join(sorted(FAMILIES))}")
        self.embed, self.rotary = decoder.embed_tokens, decoder.rotary_emb
        self.copied = copy = sum(p.nbytes for p in network.parameters()) <= COPIED_BYTES
        self.layers = [_Layer(i, layer, config, copy) for i, layer in enumerate(decoder.layers)]
        self.head = head_of(network)
        if copy:
            self.head = replace(self.head, module=FastLinear(_plain(self.head.module)))
        self.norm = _Norm(decoder.norm)
        kinds = sorted({layer.kind for layer in self.layers if layer.kind is not None})
        self.kinds: list[str | None] = [*kinds] if getattr(self.rotary, "layer_types", None) else [None]
        for parameters in _rotary_parameters(config):
            if (kind := parameters.get("rope_type", "default")) not in STEADY_ROTARY:
                raise NotLean(f"its rotary embedding is of type {kind}, which changes with the length")
        self.tables: dict[str | None, Tensor] = {}
        self.extent = 0
        self.extending = threading.Lock()  # several decoders may share a step

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """[T] tokens -> [T, d] hidden states that predict the next; their keys and values go into the cache."""
        count, positions = len(tokens), cache.positions
        if self.copied and (spare := padded(count) - count):  # rows that only the products see
            tokens, positions = pad(tokens, (0, spare)), pad(positions, (0, spare))
        x = self.embed(tokens)
        self._extend(cache.width + cache.own.shape[4] + 1, x)
        turns = {k: table[positions] for k, table in self.tables.items()}
        for layer in self.layers:
            x = layer(x, count, turns[layer.kind if layer.kind in turns else None], cache)
        return self.norm(x)[:count]

    def _extend(self, extent: int, like: Tensor) -> None:
        """Tables [positions, 2, 1, D] of cosines and of signed sines for at least so many positions."""
        with self.extending:
            if extent <= self.extent:
                return
            positions = torch.arange(extent, device=like.device)[None]
            for kind in self.kinds:
                kinds = () if kind is None else (kind,)
                cos, sin = (t[0, :, None] for t in self.rotary(like, positions, *kinds))
                half = sin.shape[-1] // 2
                self.tables[kind] = torch.stack([cos, torch.cat([-sin[..., :half], sin[..., half:]], -1)], 1)
            self.extent = extent


class _Layer:
    def __init__(self, index: int, layer: Any, config: Any, copy: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.index, self.scale, self.dim = index, attention.scaling, attention.head_dim
        self.window = getattr(attention, "sliding_window", None)
        if config.model_type == "mistral":  # it reads the window from the config, for all layers
            self.window = config.sliding_window
        self.kind: str | None = getattr(attention, "layer_type", None)
        self.qkv = _together([attention.q_proj, attention.k_proj, attention.v_proj], copy)
        self.gate_up = _together([mlp.gate_proj, mlp.up_proj], copy)
        self.out, self.down = _alone(attention.o_proj, copy), _alone(mlp.down_proj, copy)
        self.activation, self.heads = mlp.act_fn, _plain(attention.o_proj).in_features // self.dim
        self.turned = self.heads + _plain(attention.k_proj).out_features // self.dim
        normed = hasattr(attention, "q_norm")
        self.query_norm = _Norm(attention.q_norm) if normed else None
        self.key_norm = _Norm(attention.k_norm) if normed else None
        self.before_attention = _Norm(layer.input_layernorm)
        # Gemma 3 normalises what comes out of attention and MLP too, and moves the name that the others use.
        around = hasattr(layer, "pre_feedforward_layernorm")
        before_mlp = layer.pre_feedforward_layernorm if around else layer.post_attention_layernorm
        self.before_mlp = _Norm(before_mlp)
        self.after_attention = _Norm(layer.post_attention_layernorm) if around else None
        self.after_mlp = _Norm(layer.post_feedforward_layernorm) if around else None

    def __call__(self, x: Tensor, count: int, turn: Tensor, cache: KVCache) -> Tensor:
        """The layer's output [rows, d], of which `count` rows are tokens."""
        heads = self.qkv(self.before_attention(x)).view(len(x), -1, self.dim)
        turned = straight = heads[:, : self.turned]
        if self.query_norm is not None and self.key_norm is not None:
            query, key = heads[:, : self.heads], heads[:, self.heads : self.turned]
            straight = torch.cat([self.query_norm(query), self.key_norm(key)], 1)
        cos, sin = turn.unbind(1)
        torch.addcmul(straight * cos, straight.roll(self.dim // 2, -1), sin, out=turned)
        cache.store(self.index, heads[:count, self.heads :])
        y = cache.read(self.index, heads[:count, : self.heads], self.scale, self.window).flatten(1)
        y = y if count == len(x) else pad(y, (0, 0, 0, len(x) - count))
        x = _onto(x, self.out, y, self.after_attention)
        gate, up = self.gate_up(self.before_mlp(x)).chunk(2, -1)
        return _onto(x, self.down, self.activation(gate).mul_(up), self.after_mlp)


class _Norm:
    """RMSNorm, whether the family multiplies by its weight or by one plus its weight."""

    def __init__(self, module: Any) -> None:
        eps = getattr(module, "variance_epsilon", None) or module.eps
        ones = torch.ones_like(module.weight)
        self.weight = (module(ones).float() * (1 + eps) ** 0.5).to(ones.dtype)
        self.eps = torch.tensor(eps, device=ones.device)

    def __call__(self, x: Tensor) -> Tensor:
        y = x.float()
        norm = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        scale = torch.addcmul(self.eps, norm, norm, value=1 / y.shape[-1]).rsqrt_()
        return (y * scale).to(x.dtype).mul_(self.weight)


def _onto(x: Tensor, product: Product, y: Tensor, norm: _Norm | None) -> Tensor:
    return product.onto(x, y) if norm is None else norm(product(y)).add_(x)


def _plain(module: Any) -> nn.Linear:
    """The linear layer itself, if its adapter is folded into it."""
    if isinstance(module, BaseTunerLayer):
        if not module.merged:
            raise NotLean("an adapter is not folded into its weights")
        module = module.get_base_layer()
    if type(module) is not nn.Linear:
        raise NotLean(f"it has layers of type {type(module).__name__}")
    return module


def _alone(module: Any, copy: bool) -> Product:
    layer = _plain(module)
    return (product if copy else Product)(layer.weight, layer.bias)


def _together(modules: list[Any], copy: bool) -> Callable[[Tensor], Tensor]:
    """Layers with one input as one layer."""
    layers = [_plain(module) for module in modules]
    if not copy:
        return lambda x: torch.cat([layer(x) for layer in layers], -1)
    weight = torch.cat([layer.weight.data for layer in layers])
    biases = [layer.bias.data for layer in layers if layer.bias is not None]
    if biases and len(biases) < len(layers):
        raise NotLean("some of the layers that share an input have a bias, some have none")
    return product(weight, torch.cat(biases) if biases else None)


def _rotary_parameters(config: Any) -> list[dict[str, Any]]:
    """The config's rotary parameters: one set, or one for each type of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [p for p in parameters.values() if isinstance(p, dict)]
    return nested or [parameters]
