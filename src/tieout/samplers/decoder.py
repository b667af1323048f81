"""Decode many completions of each prompt against one copy of the prompt's keys and values.

Every completion attends to its prompt and to itself; the prompt's part is one matrix product for all completions of
the prompt (Hydragen, https://arxiv.org/abs/2402.05099). Both parts go through one softmax, so nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..learner.attention import SKIP_MASK, SharedPrefix, Span
from ..learner.models import decoder_of, head_of
from . import SamplingParams


@dataclass
class Request:
    """One completion being drawn."""

    uniforms: np.ndarray
    """[max_new_tokens] the draws of this request alone, so that batching changes nothing."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @classmethod
    def make(cls, params: SamplingParams, index: int) -> Request:
        """Request `index` of a call: the stream (seed, index)."""
        generator = np.random.Generator(np.random.Philox(key=[params.seed % 2**64, index]))
        return cls(generator.random(params.max_new_tokens))


class _Recorder:
    """Stands where a cache would, and keeps every layer's keys and values of the prompts."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.layers[layer] = key, value
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        return 0


class _Cache:
    """Keys and values of B prompts [B, Hk, P, D] and of their slots' own tokens [B, Hk, G, S, D]."""

    def __init__(self, recorder: _Recorder, lengths: Sequence[int], slots: int, room: int) -> None:
        self.lengths = torch.tensor(lengths)
        width = max(lengths)
        self.column = 0
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}
        self.own: dict[int, tuple[Tensor, Tensor]] = {}
        for layer, pair in recorder.layers.items():
            padded = [self._pad(x, lengths, width) for x in pair]
            self.prompts[layer] = padded[0].transpose(-1, -2).contiguous(), padded[1]
            batch, heads, _, dim = padded[0].shape
            self.own[layer] = tuple(padded[0].new_empty(batch, heads, slots, room, dim) for _ in range(2))  # type: ignore[assignment]
        device = padded[0].device
        self.lengths = self.lengths.to(device)
        self.positions = torch.arange(width, device=device)
        self.bias = self._bias(self.positions < self.lengths[:, None])

    @staticmethod
    def _pad(x: Tensor, lengths: Sequence[int], width: int) -> Tensor:
        """[1, Hk, sum of lengths, D] -> [B, Hk, width, D]."""
        rows = x[0].split(list(lengths), 1)
        return torch.stack([torch.nn.functional.pad(r, (0, 0, 0, width - r.shape[1])) for r in rows])

    @staticmethod
    def _bias(sees: Tensor) -> Tensor:
        """[B, P] bool -> [B, 1, 1, P] 0 or minus infinity."""
        return torch.zeros(sees.shape, device=sees.device).masked_fill(~sees, -torch.inf)[:, None, None]

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store one new token of every slot: [B * G, Hk, 1, D]."""
        for store, new in zip(self.own[layer], (key, value), strict=True):
            batch, heads, slots, dim = *store.shape[:3], store.shape[-1]
            store[:, :, :, self.column] = new.view(batch, slots, heads, dim).transpose(1, 2)
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        return self.column

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """[B * G, H, 1, D] -> [B * G, H, 1, D]; `key` and `value` are already in the store."""
        keys, values = self.prompts[layer]
        own_keys, own_values = self.own[layer]
        batch, heads, slots, _, dim = own_keys.shape
        grouped = query.shape[1] // heads
        q = query.view(batch, slots, heads, grouped, dim).transpose(1, 2) * scale
        first, bias = 0, self.bias
        if window is not None:
            first = max(0, self.column + 1 - window)
            visible = (self.lengths[:, None] + self.column - self.positions) < window
            bias = self._bias(visible & (self.positions < self.lengths[:, None]))
        own_keys, own_values = (x[:, :, :, first : self.column + 1] for x in (own_keys, own_values))
        prompt = (q.reshape(batch, heads, -1, dim) @ keys).float() + bias
        own = (q @ own_keys.transpose(-1, -2)).float().view(batch, heads, slots * grouped, -1)
        weights = torch.cat([prompt, own], -1).softmax(-1).to(query.dtype)
        width = prompt.shape[-1]
        out = weights[..., :width] @ values
        mine = weights[..., width:].reshape(batch, heads, slots, grouped, -1) @ own_values
        out = out.view(batch, heads, slots, grouped, dim) + mine
        return out.transpose(1, 2).reshape(batch * slots, heads * grouped, 1, dim)

    def keep(self, prompts: Tensor, slots: Tensor) -> None:
        """Go on with these prompts [B'] only, and of each with these slots [B', G']."""
        used = self.column
        for layer, (keys, values) in self.prompts.items():
            self.prompts[layer] = keys[prompts], values[prompts]
            kept = []
            for store in self.own[layer]:
                _, heads, _, room, dim = store.shape
                fresh = store.new_empty(len(prompts), heads, slots.shape[1], room, dim)
                picked = store[:, :, :, :used][prompts[:, None], :, slots]  # [B', G', Hk, used, D]
                fresh[:, :, :, :used] = picked.transpose(1, 2)
                kept.append(fresh)
            self.own[layer] = kept[0], kept[1]
        self.lengths, self.bias = self.lengths[prompts], self.bias[prompts]


class Wave:
    """Prompts that are decoded together, token by token, until all their requests are done."""

    def __init__(
        self,
        network: Any,
        prompts: Sequence[list[int]],
        requests: Sequence[Sequence[Request]],
        params: SamplingParams,
        stop_tokens: Sequence[int],
    ) -> None:
        self.network, self.decoder, self.head = network, decoder_of(network), head_of(network)
        self.prompts, self.params = prompts, params
        self.stop = set(stop_tokens)
        self.slots: list[list[Request | None]] = [list(group) for group in requests]
        self.device = next(network.parameters()).device

    def run(self) -> None:
        """Fill the requests' tokens and log-probabilities."""
        lengths = [len(p) for p in self.prompts]
        cache, hidden = self._prefill(lengths)
        hidden = hidden.repeat_interleave(len(self.slots[0]), 0)
        for step in range(self.params.max_new_tokens):
            tokens = self._draw(hidden, step)
            if step + 1 == self.params.max_new_tokens or not any(r for g in self.slots for r in g):
                return
            tokens = self._compact(cache, tokens)
            positions = (cache.lengths + step).repeat_interleave(len(self.slots[0]))
            cache.column = step
            hidden = self.decoder(
                input_ids=tokens[:, None],
                position_ids=positions[:, None],
                attention_mask=SKIP_MASK.to(self.device),
                past_key_values=cache,
                plan=cache,
                use_cache=False,
            ).last_hidden_state[:, 0]
            cache.column = step + 1

    def _prefill(self, lengths: Sequence[int]) -> tuple[_Cache, Tensor]:
        """All prompts in one row without padding -> their cache, and the hidden state at each one's end [B, d]."""
        recorder, starts = _Recorder(), np.cumsum([0, *lengths])
        path = "merge" if self.device.type == "cpu" else "dense"
        spans = tuple(Span(int(s), n, ()) for s, n in zip(starts, lengths, strict=False))
        hidden = self.decoder(
            input_ids=torch.tensor([[t for p in self.prompts for t in p]], device=self.device),
            position_ids=torch.cat([torch.arange(n) for n in lengths])[None].to(self.device),
            attention_mask=SKIP_MASK.to(self.device),
            past_key_values=recorder,
            plan=SharedPrefix(spans, path),  # type: ignore[arg-type]
            use_cache=False,
        ).last_hidden_state[0]
        cache = _Cache(recorder, lengths, len(self.slots[0]), self.params.max_new_tokens)
        return cache, hidden[torch.as_tensor(starts[1:] - 1, device=self.device)]

    def _draw(self, hidden: Tensor, step: int) -> Tensor:
        """[slots, d] -> [slots] tokens; live requests keep theirs, and finished ones leave their slot."""
        flat = [r for group in self.slots for r in group]
        drawn = [0.5 if r is None else r.uniforms[step] for r in flat]
        uniforms = torch.tensor(drawn, device=hidden.device, dtype=torch.float64)
        tokens, logprobs = draw(self.head.logits(hidden), uniforms, self.params)
        per_group = len(self.slots[0])
        for i, (request, token, logprob) in enumerate(
            zip(flat, tokens.tolist(), logprobs.tolist(), strict=True)
        ):
            if request is not None:
                request.tokens.append(token)
                request.logprobs.append(logprob)
                if token in self.stop:
                    self.slots[i // per_group][i % per_group] = None
        return tokens

    def _compact(self, cache: _Cache, tokens: Tensor) -> Tensor:
        """Drop empty slots once they are a third of all: [slots] -> [slots kept]."""
        alive = [[k for k, r in enumerate(group) if r is not None] for group in self.slots]
        width = max(map(len, alive))
        prompts = [b for b, group in enumerate(alive) if group]
        if len(prompts) * width > 0.7 * len(self.slots) * len(self.slots[0]):
            return tokens
        chosen, slots = [], []
        for b in prompts:
            empty = [k for k in range(len(self.slots[b])) if k not in alive[b]]
            chosen.append((alive[b] + empty)[:width])
            slots.append([self.slots[b][k] for k in chosen[-1]])
        picked = torch.tensor(prompts, device=tokens.device)
        index = torch.tensor(chosen, device=tokens.device)
        tokens = tokens.view(len(self.slots), -1)[picked[:, None], index].flatten()
        cache.keep(picked, index)
        self.slots = slots
        return tokens


def draw(logits: Tensor, uniforms: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Pick a token from each row by inverting its cumulative distribution.

    Args:
        logits: [N, V] fp32.
        uniforms: [N] in [0, 1).
        params: temperature and top_p.

    Returns:
        [N] tokens, [N] log-probabilities in nats after temperature and top_p (greedy: of the plain softmax).
    """
    if params.temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    logprobs = (logits / params.temperature).log_softmax(-1)
    if params.top_p < 1:
        ordered, order = logprobs.sort(-1, descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()
        ordered = ordered.masked_fill(before >= params.top_p, -torch.inf)
        logprobs = torch.empty_like(logprobs).scatter(-1, order, ordered).log_softmax(-1)
    cumulative = logprobs.double().exp().cumsum(-1)
    tokens = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    tokens = tokens.clamp(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]
