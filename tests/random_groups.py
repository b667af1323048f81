"""Groups of random tokens, and how two gradients compare: what tests of the learner and of the methods share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.methods import Method
from tieout.types import Completion, Group

VOCABULARY = 262
"""Of the tiny tokenizer: six special tokens and the bytes."""

MIXED = [(5, [7]), (21, [3, 12, 1, 30, 8, 2, 19, 4]), (1, [6, 6]), (34, [25, 9, 17])]
"""(prompt, completions): K from 1 to 8, a prompt of one token, completions of one, most beyond a window of 16."""


def random_groups(
    shapes: Sequence[tuple[int, Sequence[int]]] = MIXED, seed: int = 0, tools: bool = True
) -> list[Group]:
    """Scored groups with the sampler's log-probabilities; with `tools`, some tokens are not the policy's own."""
    rng = random.Random(seed)

    def tokens(length: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(length)]

    def completion(length: int) -> Completion:
        mask = [not tools or i % 5 != 3 for i in range(length)]
        return Completion(tokens(length), mask, [-rng.uniform(3, 8) * m for m in mask])

    return [
        Group(tokens(p), [completion(c) for c in lengths], [rng.gauss(0, 1) for _ in lengths])
        for p, lengths in shapes
    ]


def with_own_logprobs(groups: Sequence[Group], learner: Learner, noise: float = 0.0) -> list[Group]:
    """The same groups as if the learner had sampled them, with noise in nats to make some ratios clip."""
    rng = random.Random(1)
    result = []
    for group, logprobs in zip(groups, learner.logprobs(groups), strict=True):
        completions = [
            replace(c, logprobs=[(x + rng.gauss(0, noise)) * m for x, m in zip(row, c.mask, strict=True)])
            for c, row in zip(group.completions, logprobs, strict=True)
        ]
        result.append(replace(group, completions=completions))
    return result


def make_learner(
    folder: Path,
    *,
    adapter: AdapterConfig | None = None,
    start: Path | None = None,
    stir: bool = True,
    head: Any = None,
    **config: Any,
) -> Learner:
    """A learner over a tiny model; `stir` moves a fresh adapter away from zero, so that all of it has a gradient."""
    model = load(
        str(folder), adapter or AdapterConfig(rank=4, alpha=8.0), start=start, device="cpu", head=head
    )
    learner = Learner(model, config=LearnerConfig(**{"max_grad_norm": float("inf"), **config}))
    if stir and start is None:
        stir_weights(learner)
    return learner


def stir_weights(learner: Learner, scale: float = 0.05, seed: int = 3) -> None:
    """Add noise to everything that is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.model.trained().values():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def gradient(
    learner: Learner, groups: Sequence[Group], objective: Any
) -> tuple[torch.Tensor, dict[str, float]]:
    """The flat gradient of one update that moves nothing, and the metrics; of a method, or of a loss alone."""
    learner.learning_rate = 0.0
    if isinstance(objective, Method):
        metrics = learner.update(groups, objective.loss, objective.counts(groups))
    else:
        metrics = learner.update(groups, objective)
    gradients = [p.grad for p in learner.model.trained().values() if p.grad is not None]
    return torch.cat([g.flatten().clone() for g in gradients]), metrics


def own_logprobs(learner: Learner, groups: Sequence[Group]) -> torch.Tensor:
    """[T] from the network's own logits, sequence by sequence, with gradient: no layout, no head, no padding."""
    parts = []
    for group in groups:
        for completion in group.completions:
            ids = torch.tensor([group.prompt + completion.tokens])
            logits = learner.model.network(input_ids=ids).logits[0].float() / learner.temperature
            before = logits.log_softmax(-1)[len(group.prompt) - 1 : -1]
            parts.append(before.gather(-1, torch.tensor(completion.tokens)[:, None])[:, 0])
    return torch.cat(parts)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """How far a is from b, as a share of b's norm."""
    return ((a - b).norm() / b.norm()).item()


def flat(nested: Any) -> torch.Tensor:
    """Nested lists of numbers as one tensor."""
    if isinstance(nested, list):
        return torch.cat([flat(x) for x in nested]) if nested else torch.empty(0)
    return torch.tensor([nested])
