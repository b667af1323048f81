"""Self-check of shared prompts: compare both layouts on the model itself, once, before the first packed forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...types import Completion, Group
from .attention import AttentionBackend
from .layouts import Layout, opening_of, pack, repeat

Forward = Callable[[Layout], tuple[Tensor, Tensor]]
"""[T] log-probabilities and [T] entropies of a layout."""


def disagreement(
    forward: Forward, causal: Any, trained: Sequence[Tensor], backend: AttentionBackend
) -> str | None:
    """None if packed equals repeated, else what differs and by how much.

    Three checks on random tokens: isolation (changing one completion moves no other, bitwise), values (within eight
    times the noise between plain forwards of the same sequences: together, one by one, and with attention summed in
    another order), gradients (cosine above 0.999). An architecture on which the packed forward does not run at all
    fails too.

    Args:
        forward: of the model.
        causal: the transformers model, for its vocabulary and precision.
        trained: the parameters whose gradients are compared; none of a frozen model.
        backend: how packed rows are attended.
    """
    try:
        return _compare(forward, causal, trained, backend)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"the packed forward failed with {type(error).__name__}: {error}"


def _compare(
    forward: Forward, causal: Any, trained: Sequence[Tensor], backend: AttentionBackend
) -> str | None:
    groups, changed = probe(causal.config.get_text_config().vocab_size)
    opening = opening_of(groups) if backend == "merge" else 0
    packed_as = partial(pack, backend=backend, opening=opening)
    with torch.no_grad():
        packed = forward(packed_as(groups))[0]
        moved = forward(packed_as(changed))[0]
        together = forward(repeat(groups, 0))[0]
        apart = torch.cat([forward(repeat([_only(g, k)], 0))[0] for g in groups for k in range(3)])
        with sdpa_kernel(SDPBackend.MATH):
            unfused = forward(repeat(groups, 0))[0]
    first = len(groups[0].completions[0].tokens)
    if not torch.equal(packed[first:], moved[first:]):
        worst = (packed[first:] - moved[first:]).abs().max().item()
        return f"changing one completion moved another by {worst:.1e} nats"
    if problem := beyond_rounding(packed, together, (apart, unfused), causal.dtype):
        return problem
    if not trained:
        return None
    a, b = (_gradient(forward, trained, layout) for layout in (packed_as(groups), repeat(groups, 0)))
    cosine = (a @ b / (a.norm() * b.norm()).clamp(min=1e-30)).item()
    if not cosine > 0.999:
        return f"gradients point apart: cosine {cosine:.5f}"
    return None


def beyond_rounding(found: Tensor, plain: Tensor, others: Sequence[Tensor], dtype: torch.dtype) -> str | None:
    """None if log-probabilities are within eight times what plain forwards of the same tokens differ by, else how far.

    Args:
        found: [T] nats, to be judged.
        plain: [T] of a plain forward.
        others: [T] each, of plain forwards that sum in another order.
        dtype: of the weights; 32 of its epsilon are the least noise.
    """
    noise = max((plain - other).abs().max().item() for other in others)
    noise = max(noise, 32 * torch.finfo(dtype).eps)
    error = (found - plain).abs().max().item()
    if error <= 8 * noise:
        return None
    return f"log-probabilities differ by {error:.1e} nats, where plain forwards differ by {noise:.1e}"


def probe(vocabulary: int, seed: int = 0) -> tuple[list[Group], list[Group]]:
    """Two groups of random tokens with an opening in common, and the same with one completion changed."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> list[int]:
        return torch.randint(0, vocabulary, (length,), generator=generator).tolist()

    def completion(length: int) -> Completion:
        return Completion(tokens(length), [True] * length)

    opening = tokens(4)
    groups = [Group([*opening, *tokens(p)], [completion(c) for c in (4, 7, 3)]) for p in (5, 9)]
    first = groups[0].completions[0]
    other = Completion([(t + 1) % vocabulary for t in first.tokens], first.mask)
    return groups, [Group(groups[0].prompt, [other, *groups[0].completions[1:]]), groups[1]]


def _only(group: Group, k: int) -> Group:
    return Group(group.prompt, [group.completions[k]])


def _gradient(forward: Forward, trained: Sequence[Tensor], layout: Layout) -> Tensor:
    with torch.enable_grad():  # the caller may be a forward without a gradient
        logprobs = forward(layout)[0]
        loss = (logprobs * torch.linspace(-1, 1, len(logprobs), device=logprobs.device)).sum()
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    return torch.cat([g.flatten().float() for g in gradients if g is not None])
