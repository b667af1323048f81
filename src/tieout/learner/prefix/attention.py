"""Attention over rows in which the completions of a group share one copy of their prompt.

Three ways to compute the same thing: `dense` (SDPA with a boolean mask per group; the reference, any device), `merge`
(the prompt's keys once, parts merged by log-sum-exp; CPU) and `flash` (the same on CUDA). Registered with transformers,
so that no model is patched: a forward that passes `plan=...` comes here, every other forward goes to plain SDPA.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ...errors import InputError
from .flash import DTYPES, MAX_HEAD, flash_attend
from .row_lengths import with_padding
from .span import Span

NAME = "tieout"
"""The attention implementation that models are loaded with."""

SKIP_MASK = torch.empty(1, 1, 1, 1)
"""A 4D mask is passed through by every model untouched: this one stops transformers from building its own."""


AttentionBackend = Literal["dense", "merge", "flash"]


class Plan(Protocol):
    """Knows which keys each query sees."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """[*, H, T, D], [*, Hk, S, D], [*, Hk, S, D] -> [*, H, T, D]."""
        ...


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    plan: Plan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise InputError("this attention has no soft cap and no sinks: load with attn_implementation='eager'")
    if plan is None:
        output, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
        return output, None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = plan.attend(module.layer_idx, query, key, value, scale, sliding_window)  # type: ignore[arg-type]
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@dataclass(frozen=True)
class SharedPrefix:
    """The plan of one packed row: each completion sees its group's prompt and itself."""

    spans: tuple[Span, ...]
    backend: AttentionBackend
    opening: int = 0
    """So many tokens begin all prompts. They lie in the first span only, and the others see them there."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        if window is not None and all(self.opening + span.longest <= window for span in self.spans):
            window = None  # it hides nothing
        if self.backend == "flash":
            return flash_attend(self.spans, query, key, value, scale, window)
        if self.backend == "merge" and window is None:
            return _Merge.apply(query, key, value, self.spans, self.opening, scale)
        return torch.cat([self._dense(span, query, key, value, scale, window) for span in self.spans], 2)

    def _dense(
        self, span: Span, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        q, k, v = (x[:, :, span.start : span.end] for x in (query, key, value))
        before = self.opening if span.start else 0
        if before:
            k, v = (torch.cat([x[:, :, :before], own], 2) for x, own in ((key, k), (value, v)))
        heads = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(heads, 1) for x in (k, v))
        mask = _mask(Span(0, before + span.prompt, span.completions), window, q.device)[:, :, before:]
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def best_backend(device: torch.device, dtype: torch.dtype, head_size: int) -> AttentionBackend:
    """The fastest of the three there."""
    if device.type == "cpu":
        return "merge"
    flash = device.type == "cuda" and dtype in DTYPES and head_size <= MAX_HEAD
    return "flash" if flash else "dense"


def _mask(span: Span, window: int | None, device: torch.device) -> Tensor:
    """[1, 1, T, T] bool over one group: True where the query (row) sees the key (column)."""
    lengths = torch.tensor([span.prompt, *span.completions])
    segment = torch.arange(len(lengths)).repeat_interleave(lengths)
    position = torch.cat(
        [torch.arange(span.prompt), *(torch.arange(c) + span.prompt for c in span.completions)]
    )
    sees = (segment == 0) | (segment[:, None] == segment)
    distance = position[:, None] - position
    sees &= distance >= 0
    if window is not None:
        sees &= distance < window
    return sees[None, None].to(device)


_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
FEW = 1 << 16
"""Scores of a head. Up to so many, torch's backward for 16 bits is slower than that for fp32 with conversions."""


class _Merge(torch.autograd.Function):
    """Prompt and first completion as one causal sequence; each further completion causal on itself, and all of them
    together against the prompt, not causal; then all later groups against the opening. The parts are merged by
    log-sum-exp (Hydragen, section 3.2 of https://arxiv.org/abs/2402.05099). The backward gives each part the merged
    output and log-sum-exp, as ring attention does (https://arxiv.org/abs/2310.01889), and adds: differentiating the
    merge itself would need the gradient of the log-sum-exp, which the kernels do not return.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, spans: tuple[Span, ...], opening: int, scale: float
    ) -> Tensor:
        out = torch.empty_like(q)
        lse = torch.empty(q.shape[:3], dtype=torch.float32)
        for a, b in _own(spans):
            out[:, :, a:b], lse[:, :, a:b] = _forward(
                q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], 0.0, True, scale=scale
            )
        for a, b, p, end in _cross(spans, opening):
            o, l = _forward(_fold(q[:, :, a:b], k), k[:, :, p:end], v[:, :, p:end], 0.0, False, scale=scale)
            o, l = o.reshape(1, -1, b - a, o.shape[-1]), l.reshape(1, -1, b - a)
            own = lse[:, :, a:b]
            both = torch.logaddexp(own, l)
            merged = out[:, :, a:b] * (own - both).exp()[..., None] + o * (l - both).exp()[..., None]
            out[:, :, a:b], lse[:, :, a:b] = merged.to(out.dtype), both
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.spans, ctx.opening, ctx.scale = spans, opening, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        heads = q.shape[1] // k.shape[1]
        grad = grad.contiguous()
        dq, dk, dv = (torch.zeros(x.shape) for x in (q, k, v))  # in fp32: parts of 16 bits are added up

        def repeat(x: Tensor) -> Tensor:
            return x.repeat_interleave(heads, 1)

        def sum_heads(x: Tensor) -> Tensor:
            return x.reshape(1, -1, heads, *x.shape[2:]).sum(2)

        for a, b in _own(ctx.spans):
            part = slice(a, b)
            gq, gk, gv = _gradients(
                grad[:, :, part].contiguous(), q[:, :, part], repeat(k[:, :, part]), repeat(v[:, :, part]),
                out[:, :, part].contiguous(), lse[:, :, part].contiguous(), True, ctx.scale,
            )  # fmt: skip
            dq[:, :, part] = gq
            dk[:, :, part] += sum_heads(gk)
            dv[:, :, part] += sum_heads(gv)
        for a, b, p, end in _cross(ctx.spans, ctx.opening):
            gq, gk, gv = _gradients(
                _fold(grad[:, :, a:b], k), _fold(q[:, :, a:b], k), k[:, :, p:end], v[:, :, p:end],
                _fold(out[:, :, a:b], k), lse[:, :, a:b].reshape(1, k.shape[1], -1), False, ctx.scale,
            )  # fmt: skip
            dq[:, :, a:b] += gq.reshape(1, -1, b - a, gq.shape[-1])
            dk[:, :, p:end] += gk
            dv[:, :, p:end] += gv
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None, None


def _gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of q, k and v, by the faster kernel."""
    if q.dtype != torch.float32 and q.shape[2] * k.shape[2] <= FEW:
        grad, q, k, v, out = (x.float() for x in (grad, q, k, v, out))
    queries, keys = q.shape[2], k.shape[2]
    if spare := with_padding(queries, q.dtype, q.device) - queries:  # zeros, whose gradients are zeros
        grad, q, out = (pad(x, (0, 0, 0, spare)) for x in (grad, q, out))
        lse = pad(lse, (0, spare))
        if causal:  # only the further queries see them
            k, v = (pad(x, (0, 0, 0, spare)) for x in (k, v))
    gq, gk, gv = _backward(grad, q, k, v, out, lse, 0.0, causal, scale=scale)
    return gq[:, :, :queries], gk[:, :, :keys], gv[:, :, :keys]


def _own(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """[start, end) of what is causal on itself: each prompt with its first completion, each other completion."""
    for span in spans:
        start = span.start
        end = start + span.prompt
        for length in span.completions or (0,):
            end += length
            if start < end:  # the kernel divides by the length: an empty part ends the process
                yield start, end
            start = end


def _cross(spans: Sequence[Span], opening: int) -> Iterator[tuple[int, int, int, int]]:
    """(query start, query end, key start, key end): further completions look at the prompt, later groups at the
    opening."""
    for span in spans:
        prompt = span.start + span.prompt
        first = prompt + (span.completions[0] if span.completions else 0)
        if first < span.end:
            yield first, span.end, span.start, prompt
    if opening and len(spans) > 1:
        yield spans[1].start, spans[-1].end, 0, opening


def _fold(x: Tensor, key: Tensor) -> Tensor:
    """[1, H, T, D] -> [1, Hk, H / Hk * T, D]: grouped query heads become further queries of their key head."""
    return x.reshape(1, key.shape[1], -1, x.shape[-1])
