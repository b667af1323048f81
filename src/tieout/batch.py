"""Batch: groups laid flat, without padding. Outputs: the learner's numbers for each completion token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from .errors import InputError
from .groups import decided, extremes, ranked_pairs
from .types import Group


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy to the device, without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def send_together(parts: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy tensors of one dtype to the device at once, without waiting for it."""
    flat = send(torch.cat([part.flatten() for part in parts]), device)
    split = torch.split(flat, [part.numel() for part in parts])
    return [x.view(part.shape) for x, part in zip(split, parts, strict=True)]


class _Counts(dict[str, float]):
    """Counts of a method, and an error that says where a missing one comes from."""

    def __missing__(self, name: str) -> float:
        raise InputError(
            f"the loss divides by a count {name!r} that was not given; pass it to the learner: "
            "learner.update(groups, method.loss, method.counts(groups))"
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the whole optimizer step (all micro-batches, all ranks): the only denominators."""

    tokens: int
    """Trained tokens (mask True)."""
    completions: int
    groups: int
    counts: Mapping[str, float] = field(default_factory=dict)
    """Counts of the method's own: see `Method.counts`."""

    @classmethod
    def of(cls, groups: Sequence[Group], counts: Mapping[str, float] | None = None) -> Totals:
        """Count the groups of one optimizer step. ValueError: one has more or fewer scores than completions."""
        for group in groups:
            if group.scores is not None and len(group.scores) != len(group.completions):
                raise InputError(
                    f"a group has {len(group.completions)} completions and {len(group.scores)} scores; expected one "
                    f"score for each. Its row: {dict(group.row)!r:.200}"
                )
        completions = [c for g in groups for c in g.completions]
        return cls(
            sum(sum(c.mask) for c in completions), len(completions), len(groups), _Counts(counts or {})
        )


OfTokens = Callable[[Tensor, slice], Tensor]
"""(logits [n, V], which of the T tokens they are before) -> [n], each from its own row."""


class Predictions(Protocol):
    """Distributions before each of T tokens; no [T, V] tensor is stored."""

    def logits(self, part: slice) -> Tensor:
        """[n, V] in fp32, without gradient."""
        ...

    def per_token(self, function: OfTokens) -> Tensor:
        """[T] the function of each token's logits, with gradient to them."""
        ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """Result of a forward: entry t is about completion token t, given all before it."""

    logprobs: Tensor
    """[T] nats, with gradient."""
    entropies: Tensor
    """[T] nats of the distribution the token was sampled from, no gradient."""
    values: Tensor | None = None
    """[T] the value head's output BEFORE each token, with gradient; None without one."""
    scores: Tensor | None = None
    """[N] a reward model's output AFTER the last token, with gradient; None for a policy."""
    predictions: Predictions | None = None
    """The policy's, with gradient; None for a reward model."""
    teacher: Callable[[], Predictions] | None = None
    """Computes the teacher's, for methods that have one."""


@dataclass(frozen=True)
class Batch:
    """B groups, N completions, T completion tokens, in the order of the groups."""

    groups: Sequence[Group]
    totals: Totals
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def lengths(self) -> Tensor:
        """[N] tokens per completion."""
        return self._send([len(c.tokens) for g in self.groups for c in g.completions])

    @cached_property
    def mask(self) -> Tensor:
        """[T] bool, True for trained tokens."""
        return self._send([m for g in self.groups for c in g.completions for m in c.mask], torch.bool)

    @cached_property
    def _owner(self) -> Tensor:
        """[T] which of the N completions a token belongs to."""
        completions = (c for g in self.groups for c in g.completions)
        return self._send([i for i, c in enumerate(completions) for _ in c.tokens])

    def __getitem__(self, name: str) -> Tensor:
        """A column: [N] if annotated per completion, [T] if per token. `sampler_logprobs` are the sampler's own."""
        values: list[Any]
        if name == "sampler_logprobs":
            values = [c.logprobs for g in self.groups for c in g.completions]
            if any(v is None for v in values):
                raise InputError(
                    "these completions carry no log-probabilities: they were not sampled by a policy"
                )
        else:
            values = list(chain.from_iterable(g.columns[name] for g in self.groups))
        if isinstance(values[0], list):
            values = list(chain.from_iterable(values))
        return self._send(values, torch.float32)

    def _send(self, values: list[Any], dtype: torch.dtype = torch.long) -> Tensor:
        return send(torch.tensor(values, dtype=dtype), self.device)

    def per_token(self, per_completion: Tensor) -> Tensor:
        """[N] -> [T]."""
        return per_completion.index_select(0, self._owner)  # one order in the backward, unlike x[owner]

    def sum_tokens(self, per_token: Tensor) -> Tensor:
        """[T] -> [N], over trained tokens."""
        result = torch.zeros(len(self.lengths), device=self.device, dtype=per_token.dtype)
        return result.index_add(0, self._owner, per_token * self.mask)

    def token_mean(self, per_token: Tensor) -> Tensor:
        """[T] -> []: every trained token of the step weighs the same (DAPO, eq. 8 of https://arxiv.org/abs/2503.14476)."""
        return (per_token * self.mask).sum() / self.totals.tokens

    def best_token_mean(
        self, per_token: Tensor, among: Tensor | None = None, count: str = "best_tokens"
    ) -> Tensor:
        """[T] -> []: every trained token of the groups' best completions weighs the same, no other counts.

        Args:
            per_token: [T].
            among: [B] 1 for the groups that count, 0 for others; all count if None.
            count: the method's count of these tokens, by `groups.best_tokens`.
        """
        best, _ = self.best_and_worst()
        sums = self.sum_tokens(per_token)[best]
        return (sums if among is None else sums * among).sum() / max(1, self.totals.counts[count])

    @property
    def compared(self) -> Tensor:
        """[B] 1 for groups in which a completion is better than another, 0 for general rows."""
        return self._send([float(decided(group)) for group in self.groups], torch.float32)

    @property
    def num_compared(self) -> float:
        """Groups of the step that are no general rows, which the method counts as `general`; at least 1."""
        return max(1.0, self.totals.groups - self.totals.counts.get("general", 0.0))

    def ranked(self) -> tuple[Tensor, Tensor, Tensor]:
        """[P], [P]: better and worse of every decided pair within the groups; [P] weights.

        The weights of a group sum to the `pair_weight` of its row, or to 1.
        """
        pairs: list[tuple[int, int, float]] = []
        start = 0
        for group in self.groups:
            own = ranked_pairs(group.scores or [])
            pairs += [(start + i, start + j, _pair_weight(group) / len(own)) for i, j in own]
            start += len(group.completions)
        places = self._send([p[:2] for p in pairs]).reshape(-1, 2)
        return places[:, 0], places[:, 1], self._send([p[2] for p in pairs], torch.float32)

    @property
    def pair_weights(self) -> Tensor:
        """[B] of each group in a loss over pairs: the column `pair_weight` of its row, or 1."""
        return self._send([_pair_weight(group) for group in self.groups], torch.float32)

    def sequence_mean(self, per_token: Tensor) -> Tensor:
        """[T] -> []: every completion of the step weighs the same (GRPO, eq. 3 of https://arxiv.org/abs/2402.03300)."""
        trained = self.sum_tokens(torch.ones_like(per_token)).clamp(min=1)
        return (self.sum_tokens(per_token) / trained).sum() / self.totals.completions

    def best_and_worst(self) -> tuple[Tensor, Tensor]:
        """[B], [B]: which of the N completions is each group's best, and which its worst; two of them even in a tie."""
        best: list[int] = []
        worst: list[int] = []
        start = 0
        for group in self.groups:
            if not group.scores or len(group.scores) < 2:
                raise InputError("best and worst need groups of at least two scored completions")
            for places, place in zip((best, worst), extremes(group.scores), strict=True):
                places.append(start + place)
            start += len(group.scores)
        return self._send(best), self._send(worst)


def _pair_weight(group: Group) -> float:
    return float(group.row.get("pair_weight", 1.0))
