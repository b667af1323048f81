"""Cost of a forward in each layout, so that each micro-batch takes the cheaper one.

Counted in tokens: the work of one token in the linear layers is 1, and a query-key pair is its share of that. Shared
prompts are never computed twice, but the packed row pays for pairs that a mask hides (`dense`) and for a kernel call
per completion (`merge`); the plain layout pays for padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...types import Group
from .attention import AttentionBackend
from .span import Span

ATTENTION = 2.0
"""A FLOP of attention costs as much as two of a matrix product (measured on a CPU, forward and backward)."""
CALL = 4e6
"""Weights whose product with one token costs as much as one more segment of `merge` (measured on a CPU: with 0.7M
weights a layer, sharing prompts of 8 tokens between completions of 16 gains nothing)."""


@dataclass(frozen=True)
class Cost:
    """Of one model on one attention backend."""

    pair: float
    """One query-key pair in all layers, in tokens."""
    backend: AttentionBackend
    call: float = 0.0
    """One more segment of `merge` in all layers, in tokens."""
    windows: tuple[int | None, ...] = (None,)
    """The sliding window of each layer; None: it sees everything."""

    @classmethod
    def of(cls, causal: Any, backend: AttentionBackend) -> Cost:
        """From the sizes of a transformers model."""
        config = causal.config.get_text_config()
        linear = [m for m in causal.get_decoder().modules() if isinstance(m, nn.Linear)]
        weights = sum(m.in_features * m.out_features for m in linear) or 1
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        window = getattr(config, "sliding_window", None)
        # Mistral names no types: where it has a window, every layer has it.
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
        windows = tuple(window if kind == "sliding_attention" else None for kind in kinds)
        # A pair is a product of width numbers with the key and one with the value.
        return cls(
            ATTENTION * 2 * width * len(kinds) / weights, backend, CALL * len(kinds) / weights, windows
        )

    def opens(self, opening: int, groups: int) -> bool:
        """Whether it pays that all groups but the first leave out the tokens that begin every prompt."""
        return self.backend == "merge" and opening * (groups - 1) > self.call

    def packed(self, spans: Sequence[Span], opening: int = 0) -> float:
        """Of one row in which each prompt lies once, and an opening of all prompts, too."""
        calls = sum(len(s.completions) + 1 for s in spans) if self.backend == "merge" else 0
        pairs = sum(self._packed_pairs(spans, w) for w in self.windows) / len(self.windows)
        fed = sum(s.end - s.start for s in spans) - opening * (len(spans) - 1)
        return fed + self.call * (calls + (opening > 0)) + self.pair * pairs

    def repeated(self, spans: Sequence[Span]) -> float:
        """Of one row per completion, padded to the longest."""
        lengths = [s.prompt + c for s in spans for c in s.completions]
        fed = len(lengths) * max(lengths)
        hidden = (
            0.5 if min(lengths) == max(lengths) else 1.0
        )  # without padding the kernel skips what is masked
        return fed + self.pair * hidden * fed * max(lengths)

    def _packed_pairs(self, spans: Sequence[Span], window: int | None) -> float:
        total = 0.0
        for span in spans:
            size = span.end - span.start
            active = window is not None and span.longest > window
            if self.backend == "dense" or (self.backend == "merge" and active):
                total += size**2
                continue
            reach = min(span.prompt, window) if active and window else span.prompt
            own = [span.prompt, *span.completions]
            total += sum(n * min(n, window or n) for n in own) / 2 + reach * sum(span.completions)
        return total


def cheaper_repeated(cost: Cost, groups: Sequence[Group], budget: int, opening: int = 0) -> bool:
    """Whether the plain layout costs less for these groups, and stays within a budget of tokens, padding included."""
    spans, start = [], 0
    for group in groups:
        spans.append(Span(start, len(group.prompt), tuple(len(c.tokens) for c in group.completions)))
        start = spans[-1].end
    longest = max(span.longest for span in spans)
    fed = longest * sum(len(span.completions) for span in spans)
    return 0 < fed <= budget and cost.repeated(spans) < cost.packed(spans, opening)
