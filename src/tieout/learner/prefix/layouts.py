"""Layouts of groups for one forward: `pack` computes each prompt once, `repeat` once per completion (the oracle).

Both give the same `Layout`: what to feed, and which hidden state predicts which completion token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...batch import send_together
from ...errors import InputError
from ...types import Group
from .attention import SKIP_MASK, AttentionBackend, SharedPrefix
from .span import Span


@dataclass(frozen=True)
class Layout:
    """One forward of B groups, N completions, T completion tokens."""

    inputs: dict[str, Any]
    """Keyword arguments of the decoder. input_ids are [rows, columns]."""
    predictors: Tensor
    """[T] index into the flattened hidden states: the one that predicts each completion token."""
    targets: Tensor
    """[T] the completion tokens."""
    finals: Tensor
    """[N] index into the flattened hidden states: the one after each completion's last token that counts."""
    fed: int
    """Tokens computed, padding included."""

    @property
    def packed(self) -> bool:
        """Whether each prompt lies in it once."""
        return "plan" in self.inputs

    def to(self, device: torch.device) -> Layout:
        """The same layout on another device: built on the CPU, and copied once."""
        if device.type == "cpu":
            return self
        names = [name for name, x in self.inputs.items() if isinstance(x, Tensor) and x is not SKIP_MASK]
        parts = [self.predictors, self.targets, self.finals, *(self.inputs[name] for name in names)]
        predictors, targets, finals, *others = send_together(parts, device)
        inputs = {**self.inputs, **dict(zip(names, others, strict=True))}
        if inputs["attention_mask"] is SKIP_MASK:
            inputs["attention_mask"] = _skip_mask(device)
        return Layout(inputs, predictors, targets, finals, self.fed)


@cache
def _skip_mask(device: torch.device) -> Tensor:
    return SKIP_MASK.to(device)


def _as_is(tokens: int) -> int:
    return tokens


def pack(
    groups: Sequence[Group],
    backend: AttentionBackend,
    unread: int | None = None,
    opening: int = 0,
    length: Callable[[int], int] = _as_is,
) -> Layout:
    """One row: [P1 | c11 .. c1K | P2 | c21 ..]; positions of a completion continue its prompt's.

    Tokens that begin all completions of a group lie once, too, with the prompt.

    Args:
        groups: each with its prompt.
        backend: how the row is attended.
        unread: at the end of a sequence, `finals` pass over this token.
        opening: so many tokens begin every prompt, and none is the whole of one: all groups but the first leave them
            out.
        length: tokens -> the length of the row, if it is to be longer; padding at its end is seen by nothing else.
    """
    _refuse_empty_prompts(groups)
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    targets: list[int] = []
    finals: list[int] = []
    spans: list[Span] = []
    for group in groups:
        lead, before = _lead(group), opening if spans else 0
        shared = group.prompt + group.completions[0].tokens[:lead] if lead else group.prompt
        first_own, start = len(shared), len(ids)
        zero = start - before  # the place that the first token would have
        asked = zero + len(group.prompt) - 1
        spans.append(Span(start, first_own - before, tuple(len(c.tokens) - lead for c in group.completions)))
        ids += shared[before:]
        positions += range(before, first_own)
        for completion in group.completions:
            first, rest = len(ids), completion.tokens[lead:]
            ids += rest
            positions += range(first_own, first_own + len(rest))
            predictors += range(asked, asked + lead)
            if rest:
                predictors += [zero + first_own - 1, *range(first, len(ids) - 1)]
            targets += completion.tokens
            last = _last([*group.prompt, *completion.tokens], unread)
            if last >= first_own:
                finals.append(first + last - first_own)
            else:
                finals.append(last if last < before else zero + last)
    if spare := length(len(ids)) - len(ids):
        spans.append(Span(len(ids), spare, ()))
        ids += [0] * spare
        positions += range(spare)
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": SKIP_MASK,
        "plan": SharedPrefix(tuple(spans), backend, opening),
    }
    return Layout(inputs, _index(predictors), _index(targets), _index(finals), len(ids))


def _lead(group: Group) -> int:
    """Tokens that begin all of several completions."""
    if len(group.completions) < 2:
        return 0
    return _shared([completion.tokens for completion in group.completions])


def _shared(sequences: Sequence[list[int]]) -> int:
    """Tokens that begin all sequences."""
    least, most = min(sequences), max(sequences)  # all others lie between them, and begin as both do
    return next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))


def opening_of(groups: Sequence[Group]) -> int:
    """Tokens that begin the prompts of all groups, such as a system message, less than any prompt; 0 of a single group.

    >>> opening_of([Group([5, 6, 7], []), Group([5, 6, 8, 9], [])])
    2
    """
    if len(groups) < 2:
        return 0
    prompts = [group.prompt for group in groups]
    return min(_shared(prompts), min(map(len, prompts)) - 1)


def repeat(
    groups: Sequence[Group], pad: int, unread: int | None = None, length: Callable[[int], int] = _as_is
) -> Layout:
    """One row per completion, prompt repeated, padded on the right. `unread` and `length`: as of `pack`."""
    _refuse_empty_prompts(groups)
    sequences = [group.prompt + c.tokens for group in groups for c in group.completions]
    width = length(max(map(len, sequences)))
    ids = torch.full((len(sequences), width), pad)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    predictors: list[int] = []
    targets: list[int] = []
    finals: list[int] = []
    row = 0
    for group in groups:
        for completion in group.completions:
            size = len(sequences[row])
            ids[row, :size] = torch.tensor(sequences[row])
            mask[row, :size] = 1
            first = row * width + len(group.prompt) - 1
            predictors += range(first, first + len(completion.tokens))
            targets += completion.tokens
            finals.append(row * width + _last(sequences[row], unread))
            row += 1
    positions = torch.arange(width).expand(len(sequences), -1)
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask}
    return Layout(inputs, _index(predictors), _index(targets), _index(finals), ids.numel())


def _last(tokens: Sequence[int], unread: int | None) -> int:
    """The place of the rightmost token that is another than this one; 0 if none is, as in transformers."""
    return next((i for i in range(len(tokens) - 1, -1, -1) if tokens[i] != unread), 0)


def _index(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)


def _refuse_empty_prompts(groups: Sequence[Group]) -> None:
    """Without a prompt nothing predicts the first token: an index before it would read another group's state."""
    for i, group in enumerate(groups):
        if not group.prompt:
            raise InputError(f"group {i} of {len(groups)}: its prompt has no tokens; give at least one")


def plan(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Best fit, longest first: which items share a micro-batch of at most `budget` tokens.

    An item larger than the budget gets a micro-batch of its own. Every item appears once; bins keep input order.

    >>> plan([5, 3, 9, 2], budget=8)
    [[0, 1], [2], [3]]
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        fits = [b for b in range(len(bins)) if room[b] >= sizes[item]]
        if fits:
            best = min(fits, key=room.__getitem__)
            bins[best].append(item)
            room[best] -= sizes[item]
        else:
            bins.append([item])
            room.append(budget - sizes[item])
    return sorted(sorted(b) for b in bins)
