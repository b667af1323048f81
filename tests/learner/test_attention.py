"""All paths against attention written out: one query, its visible keys, softmax, in double precision.

CUDA's kernels are stood in for by plain arithmetic that keeps their contract: what is tested of `flash` here is which
sequences it asks for, the merge and the backward; the self-check holds the kernels themselves against the plain layout.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tieout.learner.prefix import attention, flash
from tieout.learner.prefix.attention import NAME, SharedPrefix, best_backend
from tieout.learner.prefix.span import Span

SPANS = (Span(0, 5, (7, 1, 3)), Span(16, 1, (4,)), Span(21, 9, (2, 12, 6, 6, 1)))
LENGTH = SPANS[-1].end
BACKENDS = ["dense", "merge", "flash"]
PROMPTS_ONLY = (Span(0, 6, ()), Span(6, 1, ()), Span(7, 11, ()))


def scores(q: Tensor, k: Tensor, scale: float, left: int | None, right: int | None) -> Tensor:
    """[T, H, D], [S, H, D] -> [H, T, S]; a query sees keys from `left` before to `right` after its own place, counted
    from the end of both (the kernels' convention)."""
    distance = torch.arange(len(k)) - (torch.arange(len(q))[:, None] + len(k) - len(q))
    hidden = torch.zeros(distance.shape, dtype=torch.bool)
    if left is not None:
        hidden |= distance < -left
    if right is not None:
        hidden |= distance > right
    return torch.einsum("thd,shd->hts", q, k).mul(scale).masked_fill(hidden, -torch.inf)


def sequences(q_ends: Tensor, k_ends: Tensor, longest: tuple[int, int]) -> list[tuple[slice, slice]]:
    assert q_ends.dtype == k_ends.dtype == torch.int32
    result = []
    for ends in zip(
        q_ends[:-1].tolist(), q_ends[1:].tolist(), k_ends[:-1].tolist(), k_ends[1:].tolist(), strict=True
    ):
        assert ends[1] - ends[0] <= longest[0]
        assert ends[3] - ends[2] <= longest[1]
        result.append((slice(*ends[:2]), slice(*ends[2:])))
    return result


def kernel_forward(
    q: Tensor, k: Tensor, v: Tensor, q_ends: Tensor, k_ends: Tensor, max_q: int, max_k: int,
    dropout: float, causal: bool, debug: bool, *, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    assert q.is_contiguous()
    assert (q_ends[-1], k_ends[-1]) == (len(q), len(k))
    out, lse = torch.empty_like(q), torch.empty(q.shape[1], len(q))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    for a, b in sequences(q_ends, k_ends, (max_q, max_k)):
        z = scores(q[a], k[b], scale, None, 0 if causal else None)
        lse[:, a] = z.logsumexp(-1)
        out[a] = torch.einsum("hts,shd->thd", z.softmax(-1), v[b])
    return out, lse, torch.zeros(2), torch.zeros(0), torch.zeros(0)


def kernel_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, q_ends: Tensor, k_ends: Tensor,
    max_q: int, max_k: int, dropout: float, causal: bool, state: Tensor, unused: Tensor, *, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Algorithm 4 of https://arxiv.org/abs/2205.14135: from the output and log-sum-exp that it is given."""
    heads = q.shape[1] // k.shape[1]
    wide_k, wide_v = (x.repeat_interleave(heads, 1) for x in (k, v))
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(wide_k), torch.zeros_like(wide_v)
    for a, b in sequences(q_ends, k_ends, (max_q, max_k)):
        p = (scores(q[a], wide_k[b], scale, None, 0 if causal else None) - lse[:, a, None]).exp()
        dv[b] += torch.einsum("hts,thd->shd", p, grad[a])
        dp = torch.einsum("thd,shd->hts", grad[a], wide_v[b])
        ds = p * (dp - (grad[a] * out[a]).sum(-1).T[..., None]) * scale
        dq[a] += torch.einsum("hts,shd->thd", ds, wide_k[b])
        dk[b] += torch.einsum("hts,thd->shd", ds, q[a])
    return dq, *(x.view(len(k), -1, heads, q.shape[-1]).sum(2) for x in (dk, dv))


def kernel_window(
    q: Tensor, k: Tensor, v: Tensor, q_ends: Tensor, k_ends: Tensor, max_q: int, max_k: int,
    *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    assert enable_gqa
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    parts = [
        torch.einsum("hts,shd->thd", scores(q[a], k[b], scale, *window_size).softmax(-1), v[b])
        for a, b in sequences(q_ends, k_ends, (max_q, max_k))
    ]
    return torch.cat(parts)


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "_forward", kernel_forward)
    monkeypatch.setattr(flash, "_backward", kernel_backward)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel_window)


def visible(spans: tuple[Span, ...], window: int | None, opening: int = 0) -> dict[int, list[int]]:
    """Query -> keys, by walking through each sequence as if it stood alone."""
    result: dict[int, list[int]] = {}
    for span in spans:
        before = list(range(opening)) if span.start else []
        prompt = before + list(range(span.start, span.start + span.prompt))
        start = span.start + span.prompt
        for length in span.completions or (0,):
            sequence = prompt + list(range(start, start + length))
            for i, query in enumerate(sequence):
                first = 0 if window is None else max(0, i + 1 - window)
                if i >= len(before):
                    result[query] = sequence[first : i + 1]
            start += length
    return result


def written_out(q: Tensor, k: Tensor, v: Tensor, sees: dict[int, list[int]], scale: float) -> Tensor:
    heads = q.shape[1] // k.shape[1]
    rows = []
    for query in range(q.shape[2]):
        keys = sees[query]
        of_head = []
        for h in range(q.shape[1]):
            weights = (k[0, h // heads, keys] @ q[0, h, query] * scale).softmax(0)
            of_head.append(weights @ v[0, h // heads, keys])
        rows.append(torch.stack(of_head))
    return torch.stack(rows, 1)[None]


def qkv(length: int, heads: int = 4, key_heads: int = 2, dim: int = 8, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, dim), (1, key_heads, length, dim), (1, key_heads, length, dim)]
    return tuple(torch.randn(s, generator=generator) * 2 for s in shapes)


def attend(
    backend: Any,
    spans: tuple[Span, ...],
    inputs: tuple[Tensor, ...],
    window: int | None = None,
    opening: int = 0,
) -> Tensor:
    return SharedPrefix(spans, backend, opening).attend(0, *inputs, 0.3, window)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heads", [(4, 2), (4, 4), (4, 1)])
def test_values_and_gradients_are_those_of_attention_written_out(
    backend: str, heads: tuple[int, int]
) -> None:
    inputs = qkv(LENGTH, *heads)
    weights = torch.randn(1, heads[0], LENGTH, 8, generator=torch.Generator().manual_seed(1))
    fast = [x.clone().requires_grad_() for x in inputs]
    slow = [x.double().requires_grad_() for x in inputs]
    out = attend(backend, SPANS, tuple(fast))
    exact = written_out(*slow, visible(SPANS, None), 0.3)
    assert (out - exact).abs().max() < 1e-5
    found = torch.autograd.grad((out * weights).sum(), fast)
    expected = torch.autograd.grad((exact * weights).sum(), slow)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("few", [0, attention.FEW], ids=["16 bits", "fp32"])
def test_gradients_in_bf16_are_those_of_attention_written_out(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "FEW", few)
    inputs = tuple((x / 4).bfloat16() for x in qkv(LENGTH))
    weights = torch.randn(1, 4, LENGTH, 8, generator=torch.Generator().manual_seed(1))
    fast = [x.clone().requires_grad_() for x in inputs]
    slow = [x.double().requires_grad_() for x in inputs]
    out = attend("merge", SPANS, tuple(fast), opening=4)
    exact = written_out(*slow, visible(SPANS, None, 4), 0.3)
    found = torch.autograd.grad((out.float() * weights).sum(), fast)
    expected = torch.autograd.grad((exact * weights).sum(), slow)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a - b).norm() < 1e-2 * b.norm()


@pytest.mark.parametrize("backend", ["dense", "merge"])
@pytest.mark.parametrize("opening", [1, 4, 5])
@pytest.mark.parametrize("window", [None, 3, 9])
@pytest.mark.parametrize("spans", [SPANS, (Span(0, 6, (3,)), Span(9, 2, (5,)), Span(16, 1, (0, 4)))])
def test_later_groups_see_the_opening_that_lies_in_the_first(
    backend: str, opening: int, window: int | None, spans: tuple[Span, ...]
) -> None:
    length = spans[-1].end
    inputs = qkv(length)
    weights = torch.randn(1, 4, length, 8, generator=torch.Generator().manual_seed(1))
    fast = [x.clone().requires_grad_() for x in inputs]
    slow = [x.double().requires_grad_() for x in inputs]
    out = attend(backend, spans, tuple(fast), window, opening)
    exact = written_out(*slow, visible(spans, window, opening), 0.3)
    assert (out - exact).abs().max() < 1e-5
    found = torch.autograd.grad((out * weights).sum(), fast)
    expected = torch.autograd.grad((exact * weights).sum(), slow)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [1, 4, 8, 13, 100])
def test_a_sliding_window_counts_positions_not_places_in_the_row(backend: str, window: int) -> None:
    inputs = qkv(LENGTH)
    exact = written_out(*(x.double() for x in inputs), visible(SPANS, window), 0.3)
    assert (attend(backend, SPANS, inputs, window) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_prompts_without_completions_are_plain_causal(backend: str) -> None:
    inputs = qkv(PROMPTS_ONLY[-1].end)
    exact = written_out(*(x.double() for x in inputs), visible(PROMPTS_ONLY, None), 0.3)
    assert (attend(backend, PROMPTS_ONLY, inputs) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("completions", [(0,), (3, 0, 2), (0, 4), (0, 0)])
def test_an_empty_completion_is_no_accident(backend: str, completions: tuple[int, ...]) -> None:
    spans = (Span(0, 4, completions),)
    inputs = tuple(x.requires_grad_() for x in qkv(spans[-1].end))
    out = attend(backend, spans, inputs)
    exact = written_out(*(x.double() for x in inputs), visible(spans, None), 0.3)
    assert (out - exact).abs().max() < 1e-5
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [None, 6])
def test_what_a_query_may_not_see_moves_nothing_bitwise(backend: str, window: int | None) -> None:
    """Change one completion's queries, keys and values: not one bit of any other segment moves, nor of a gradient."""
    start = SPANS[2].start + 9 + 2  # the third group's completion of twelve tokens
    changed = slice(start, start + 12)
    inputs = qkv(LENGTH)
    other = tuple(x.clone() for x in inputs)
    for x in other:
        x[:, :, changed] = torch.randn_like(x[:, :, changed])
    results = []
    for given in (inputs, other):
        leaves = tuple(x.clone().requires_grad_() for x in given)
        out = attend(backend, SPANS, leaves, window)
        elsewhere = torch.cat([out[:, :, : changed.start], out[:, :, changed.stop :]], 2)
        gradients = torch.autograd.grad(elsewhere.sum(), leaves)
        results.append((elsewhere, gradients))
    assert torch.equal(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(a[:, :, : changed.start], b[:, :, : changed.start])
        assert torch.equal(a[:, :, changed.stop :], b[:, :, changed.stop :])
        assert not a[:, :, changed].any()


def test_large_scores_do_not_overflow_the_merge() -> None:
    inputs = tuple(x * 40 for x in qkv(LENGTH))
    exact = written_out(*(x.double() for x in inputs), visible(SPANS, None), 0.3)
    out = attend("merge", SPANS, inputs)
    assert out.isfinite().all()
    assert (out - exact).abs().max() < 1e-2


def test_sharing_saves_one_copy_of_the_prompt_for_backward() -> None:
    """What attention keeps is linear in the row: no [T, T] tensor, no copy of the prompt's keys per completion."""
    spans = (Span(0, 64, (4,) * 8),)
    sizes: list[int] = []
    leaves = tuple(x.requires_grad_() for x in qkv(spans[0].end))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        attend("merge", spans, leaves)
    assert sizes
    assert max(sizes) <= leaves[0].numel()


def test_sequences_are_found_once_for_all_layers() -> None:
    flash.parts_of.cache_clear()
    for _ in range(3):
        attend("flash", SPANS, qkv(LENGTH))
    assert flash.parts_of.cache_info().misses == 1


def test_the_path_fits_the_device_and_the_numbers() -> None:
    cuda = torch.device("cuda", 0)
    assert best_backend(torch.device("cpu"), torch.bfloat16, 64) == "merge"
    assert best_backend(cuda, torch.bfloat16, 128) == "flash"
    assert best_backend(cuda, torch.float32, 128) == "dense"
    assert best_backend(cuda, torch.bfloat16, 512) == "dense"


def test_models_are_asked_for_this_attention_by_a_name_that_takes_no_flash_shortcut() -> None:
    assert "flash" not in NAME
