"""Does sharing prompts give the same numbers on this very model? Asked once, before the first packed forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...types import Completion, Group
from .layouts import Layout, pack, repeat

if TYPE_CHECKING:
    from ..learner import Learner


def disagreement(learner: Learner) -> str | None:
    """None if packed equals repeated, else what differs and by how much.

    Three checks on random tokens: isolation (changing one completion moves no other, bitwise), values (within four
    times the noise between two plain layouts of the same sequences), gradients (cosine above 0.999). An architecture
    on which the packed forward does not run at all fails too.
    """
    try:
        return _compare(learner)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"the packed forward failed with {type(error).__name__}: {error}"


def _compare(learner: Learner) -> str | None:
    groups, changed = probe(learner.model.causal.config.get_text_config().vocab_size)
    path = learner.attention_path
    with torch.no_grad():
        packed = learner.forward(pack(groups, path))[0]
        moved = learner.forward(pack(changed, path))[0]
        together = learner.forward(repeat(groups, 0))[0]
        apart = torch.cat([learner.forward(repeat([_only(g, k)], 0))[0] for g in groups for k in range(3)])
    first = len(groups[0].completions[0].tokens)
    if not torch.equal(packed[first:], moved[first:]):
        worst = (packed[first:] - moved[first:]).abs().max().item()
        return f"changing one completion moved another by {worst:.1e} nats"
    noise = max((together - apart).abs().max().item(), 32 * torch.finfo(learner.model.causal.dtype).eps)
    error = (packed - together).abs().max().item()
    if not error <= 4 * noise:
        return f"log-probabilities differ by {error:.1e} nats, where two plain layouts differ by {noise:.1e}"
    if not learner.model.trained():
        return None  # frozen: there will be no gradient
    a, b = (_gradient(learner, layout) for layout in (pack(groups, path), repeat(groups, 0)))
    cosine = (a @ b / (a.norm() * b.norm()).clamp(min=1e-30)).item()
    if not cosine > 0.999:
        return f"gradients point apart: cosine {cosine:.5f}"
    return None


def probe(vocabulary: int) -> tuple[list[Group], list[Group]]:
    """Two groups of random tokens, and the same with one completion changed."""
    generator = torch.Generator().manual_seed(0)

    def tokens(length: int) -> list[int]:
        return torch.randint(0, vocabulary, (length,), generator=generator).tolist()

    def completion(length: int) -> Completion:
        return Completion(tokens(length), [True] * length)

    groups = [Group(tokens(p), [completion(c) for c in (4, 7, 3)]) for p in (9, 13)]
    first = groups[0].completions[0]
    other = Completion([(t + 1) % vocabulary for t in first.tokens], first.mask)
    return groups, [Group(groups[0].prompt, [other, *groups[0].completions[1:]]), groups[1]]


def _only(group: Group, k: int) -> Group:
    return Group(group.prompt, [group.completions[k]])


def _gradient(learner: Learner, layout: Layout) -> Tensor:
    with torch.enable_grad():  # the check may be asked for by a forward that needs no gradient itself
        logprobs = learner.forward(layout)[0]
        loss = (logprobs * torch.linspace(-1, 1, len(logprobs), device=logprobs.device)).sum()
    parameters = list(learner.model.trained().values())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([g.flatten().float() for g in gradients if g is not None])
