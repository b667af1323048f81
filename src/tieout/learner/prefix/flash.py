"""Shared-prefix attention on CUDA, by torch's own flash operators for sequences of many lengths (bf16 and fp16).

The twin of `attention._Merge`: the same parts, the same merge, the same backward, with all groups of a row in two
kernel calls. A sliding window that hides something cannot be merged (a completion's distance to its prompt grows with
every token): there each completion gets the part of the prompt that it still sees, gathered before its own keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ...batch import send_together
from .span import Span

DTYPES = (torch.bfloat16, torch.float16)
MAX_HEAD = 256

_forward = torch.ops.aten._flash_attention_forward
_backward = torch.ops.aten._flash_attention_backward


@dataclass(frozen=True)
class Pieces:
    """Sequences that lie one after another: where each starts and ends, and the longest."""

    ends: Tensor
    """[sequences + 1] int32, from 0."""
    longest: int


@dataclass(frozen=True)
class Parts:
    """The two parts of a row's attention, on the device."""

    own: Pieces
    """The causal sequences: each prompt with its first completion, each further completion. They tile the row."""
    places: Tensor
    """[Q] where the further completions lie in the row."""
    prompts: Tensor
    """[K] where the prompts lie of groups that have further completions."""
    queries: Pieces
    """The further completions by group, in `places`."""
    keys: Pieces
    """Their prompts, in `prompts`."""


def flash_attend(
    spans: tuple[Span, ...], query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
) -> Tensor:
    """[1, H, T, D], [1, Hk, T, D], [1, Hk, T, D] -> [1, H, T, D]; a window only where it hides something."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if window is None:
        out = _FlashMerge.apply(q, k, v, parts_of(spans, q.device), scale)
    else:
        from torch.nn.attention.varlen import varlen_attn  # newer than the oldest torch that we take

        places, queries, keys = windowed(spans, window, q.device)
        out = varlen_attn(
            q.contiguous(), k.index_select(0, places), v.index_select(0, places), queries.ends, keys.ends,
            queries.longest, keys.longest, scale=scale, window_size=(window - 1, 0), enable_gqa=True,
        )  # fmt: skip
    return out.transpose(0, 1)[None]


class _FlashMerge(torch.autograd.Function):
    """[T, H, D], [T, Hk, D], [T, Hk, D] -> [T, H, D]. See `attention._Merge` for the mathematics."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: Parts, scale: float) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        own = parts.own
        out, lse, state, unused, _ = _forward(
            q, k, v, own.ends, own.ends, own.longest, own.longest, 0.0, True, False, scale=scale
        )  # [T, H, D], [H, T]
        if len(parts.places):
            queries, keys = parts.queries, parts.keys
            o, l, *_ = _forward(
                q[parts.places], k[parts.prompts], v[parts.prompts], queries.ends, keys.ends,
                queries.longest, keys.longest, 0.0, False, False, scale=scale,
            )  # fmt: skip
            mine = lse[:, parts.places]
            both = torch.logaddexp(mine, l)
            weights = ((mine - both).exp().T[..., None], (l - both).exp().T[..., None])  # [Q, H, 1]
            merged = out[parts.places] * weights[0] + o * weights[1]
            out[parts.places], lse[:, parts.places] = merged.to(out.dtype), both
        ctx.save_for_backward(q, k, v, out, lse, state, unused)
        ctx.parts, ctx.scale = parts, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, state, unused = ctx.saved_tensors
        parts: Parts = ctx.parts
        own, grad = parts.own, grad.contiguous()
        dq, dk, dv = _backward(
            grad, q, k, v, out, lse, own.ends, own.ends, own.longest, own.longest, 0.0, True, state, unused,
            scale=ctx.scale,
        )  # fmt: skip
        if len(parts.places):
            queries, keys, a, p = parts.queries, parts.keys, parts.places, parts.prompts
            gq, gk, gv = _backward(
                grad[a], q[a], k[p], v[p], out[a], lse[:, a].contiguous(), queries.ends, keys.ends,
                queries.longest, keys.longest, 0.0, False, state, unused, scale=ctx.scale,
            )  # fmt: skip
            dq[a] += gq  # every place occurs once
            dk[p] += gk
            dv[p] += gv
        return dq, dk, dv, None, None


@lru_cache(maxsize=4)
def parts_of(spans: tuple[Span, ...], device: torch.device) -> Parts:
    """Built on the CPU and copied once for all layers."""
    own: list[int] = []
    places: list[int] = []
    prompts: list[int] = []
    queries: list[int] = []
    keys: list[int] = []
    for span in spans:
        first = span.prompt + (span.completions[0] if span.completions else 0)
        own += [first, *span.completions[1:]]
        if further := sum(span.completions[1:]):
            places += range(span.start + first, span.end)
            prompts += range(span.start, span.start + span.prompt)
            queries.append(further)
            keys.append(span.prompt)
    moved = _together(device, _ends(own), places, prompts, _ends(queries), _ends(keys))
    return Parts(
        Pieces(moved[0].int(), max(own)),
        moved[1],
        moved[2],
        Pieces(moved[3].int(), max(queries, default=0)),
        Pieces(moved[4].int(), max(keys, default=0)),
    )


@lru_cache(maxsize=4)
def windowed(spans: tuple[Span, ...], window: int, device: torch.device) -> tuple[Tensor, Pieces, Pieces]:
    """(places of the keys, queries, keys): each prompt by itself, and each completion after what it sees of its prompt.

    The kernel counts a window from the end of keys and queries, which is the position in the whole sequence.
    """
    places: list[int] = []
    queries: list[int] = []
    keys: list[int] = []
    for span in spans:
        places += range(span.start, span.start + span.prompt)
        queries.append(span.prompt)
        keys.append(span.prompt)
        start, seen = span.start + span.prompt, min(span.prompt, window - 1)
        for length in span.completions:
            places += range(span.start + span.prompt - seen, span.start + span.prompt)
            places += range(start, start + length)
            queries.append(length)
            keys.append(seen + length)
            start += length
    moved = _together(device, places, _ends(queries), _ends(keys))
    return moved[0], Pieces(moved[1].int(), max(queries)), Pieces(moved[2].int(), max(keys))


def _ends(lengths: Sequence[int]) -> list[int]:
    return [0, *accumulate(lengths)]


def _together(device: torch.device, *parts: Sequence[int]) -> list[Tensor]:
    """Several lists as tensors on the device."""
    return send_together([torch.tensor(part, dtype=torch.int64) for part in parts], device)
