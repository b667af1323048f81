"""Both paths against attention written out: one query, its visible keys, softmax, in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tieout.learner.attention import NAME, SharedPrefix, Span

SPANS = (Span(0, 5, (7, 1, 3)), Span(16, 1, (4,)), Span(21, 9, (2, 12, 6, 6, 1)))
LENGTH = SPANS[-1].end
PROMPTS_ONLY = (Span(0, 6, ()), Span(6, 1, ()), Span(7, 11, ()))


def visible(spans: tuple[Span, ...], window: int | None) -> dict[int, list[int]]:
    """Query -> keys, by walking through each sequence as if it stood alone."""
    result: dict[int, list[int]] = {}
    for span in spans:
        prompt = list(range(span.start, span.start + span.prompt))
        start = span.start + span.prompt
        for length in span.completions or (0,):
            sequence = prompt + list(range(start, start + length))
            for i, query in enumerate(sequence):
                first = 0 if window is None else max(0, i + 1 - window)
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
    path: Any, spans: tuple[Span, ...], inputs: tuple[Tensor, ...], window: int | None = None
) -> Tensor:
    return SharedPrefix(spans, path).attend(0, *inputs, 0.3, window)


@pytest.mark.parametrize("path", ["dense", "merge"])
@pytest.mark.parametrize("heads", [(4, 2), (4, 4), (4, 1)])
def test_values_and_gradients_are_those_of_attention_written_out(path: str, heads: tuple[int, int]) -> None:
    inputs = qkv(LENGTH, *heads)
    weights = torch.randn(1, heads[0], LENGTH, 8, generator=torch.Generator().manual_seed(1))
    fast = [x.clone().requires_grad_() for x in inputs]
    slow = [x.double().requires_grad_() for x in inputs]
    out = attend(path, SPANS, tuple(fast))
    exact = written_out(*slow, visible(SPANS, None), 0.3)
    assert (out - exact).abs().max() < 1e-5
    found = torch.autograd.grad((out * weights).sum(), fast)
    expected = torch.autograd.grad((exact * weights).sum(), slow)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("path", ["dense", "merge"])
@pytest.mark.parametrize("window", [1, 4, 8, 13, 100])
def test_a_sliding_window_counts_positions_not_places_in_the_row(path: str, window: int) -> None:
    inputs = qkv(LENGTH)
    exact = written_out(*(x.double() for x in inputs), visible(SPANS, window), 0.3)
    assert (attend(path, SPANS, inputs, window) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("path", ["dense", "merge"])
def test_prompts_without_completions_are_plain_causal(path: str) -> None:
    inputs = qkv(PROMPTS_ONLY[-1].end)
    exact = written_out(*(x.double() for x in inputs), visible(PROMPTS_ONLY, None), 0.3)
    assert (attend(path, PROMPTS_ONLY, inputs) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("path", ["dense", "merge"])
@pytest.mark.parametrize("completions", [(0,), (3, 0, 2), (0, 4), (0, 0)])
def test_an_empty_completion_is_no_accident(path: str, completions: tuple[int, ...]) -> None:
    spans = (Span(0, 4, completions),)
    inputs = tuple(x.requires_grad_() for x in qkv(spans[-1].end))
    out = attend(path, spans, inputs)
    exact = written_out(*(x.double() for x in inputs), visible(spans, None), 0.3)
    assert (out - exact).abs().max() < 1e-5
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("path", ["dense", "merge"])
@pytest.mark.parametrize("window", [None, 6])
def test_what_a_query_may_not_see_moves_nothing_bitwise(path: str, window: int | None) -> None:
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
        out = attend(path, SPANS, leaves, window)
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


def test_models_are_asked_for_this_attention_by_a_name_that_takes_no_flash_shortcut() -> None:
    assert "flash" not in NAME
