"""Time and memory of a learner's micro-batches, measured on updates that change no weight."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import Tensor

from ...batch import Batch, Outputs
from ...learner import Learner
from ...learner.memory import peak_bytes, reset_peak
from ...types import Completion, Group

Part = tuple[list[Group], int]
"""A micro-batch, and how many tokens it feeds to the model."""


FEW = 64
"""Tokens of a micro-batch that is measured for what it says of a larger one."""


class Meter:
    """Updates of one learner, timed a micro-batch at a time."""

    def __init__(self, learner: Learner, smallest: list[Group]) -> None:
        """
        Args:
            learner: its learning rate is 0 from now on; its gradients and moments are not kept clean.
            smallest: a micro-batch whose update is not counted: it allocates what stays.
        """
        self.learner, self.device = learner, learner.model.device
        learner.learning_rate = 0.0
        smallest = cut(smallest, FEW)
        learner.update(smallest, _loss)
        started = perf_counter()
        learner.optimizer.apply(0.0, 1.0)
        self.optimizer = perf_counter() - started
        """Seconds of one optimizer step."""
        started = perf_counter()
        learner.update(smallest, _loss)
        fed = learner.micro_batches.layout(smallest).fed
        self.first = max(1e-6, perf_counter() - started - self.optimizer) / fed
        """Seconds of a token in a micro-batch of few, which is more than in a large one."""
        reset_peak(self.device)
        self.resident = peak_bytes(self.device) or 0
        """Bytes between two updates."""
        self.token = 0.0
        """Seconds of a token, forward and backward, in the largest micro-batch so far."""
        self.largest, self.peak = 0, None if peak_bytes(self.device) is None else self.resident

    def update(self, part: Part) -> float:
        """Seconds of a micro-batch, forward and backward, with a loss that needs every gradient."""
        groups, fed = part
        reset_peak(self.device)
        started = perf_counter()
        self.learner.update(groups, _loss)
        seconds = max(0.0, perf_counter() - started - self.optimizer)
        peak = peak_bytes(self.device)
        if fed > self.largest:
            self.largest, self.token, self.peak = fed, seconds / fed, peak
        elif peak is not None and self.peak is not None:
            # What the allocator keeps of micro-batches of other sizes comes on top of the largest one.
            self.peak = max(self.peak, peak)
        return seconds

    def update_within(self, part: Part, seconds: float) -> bool:
        """The same of as much of a micro-batch as there is time for; returns whether that was less than all."""
        groups, fed = part
        tokens = int(2 * seconds / self.first)  # of many, each takes about half as long
        if fed > tokens:
            groups = cut(groups, tokens)
        own = self.learner.micro_batches.layout(groups).fed
        self.update((groups, own))
        return own < fed

    def rate(self, parts: Sequence[Part], deadline: float) -> float:
        """Seconds of a token, forward and backward, over as many of these micro-batches as there is time for."""
        taken, tokens = 0.0, 0
        for part in parts:
            if perf_counter() + part[1] * self.token > deadline:
                break
            taken, tokens = taken + self.update(part), tokens + part[1]
        return taken / tokens if tokens else self.token

    def forward(self, parts: Sequence[Part], reference: bool, deadline: float) -> float:
        """Seconds of a token, forward only, of the reference or of what is trained.

        Measured on the first of these micro-batches, or on a part of one group where there is no time for all.
        """
        learner, (groups, fed) = self.learner, parts[0]
        if (left := deadline - perf_counter()) < fed * self.token / 3:
            groups = cut(groups[:1], int(max(0.0, left) * 3 / self.token))
            fed = learner.micro_batches.layout(groups).fed
        ask = learner.reference_logprobs if reference else learner.logprobs
        started = perf_counter()
        learner.scores(groups) if learner.model.only_scores else ask(groups)
        return (perf_counter() - started) / fed

    def memory(self, fed: int) -> int | None:
        """Peak of updates whose largest micro-batch has so many tokens: in proportion to the largest one measured."""
        if self.peak is None:
            return None
        return self.resident + int((self.peak - self.resident) * fed / self.largest)


def cut(groups: Sequence[Group], tokens: int) -> list[Group]:
    """As many of these groups and of their completions as have so many tokens in all: one completion at least, which is
    cut too."""
    found, left = list[Group](), tokens
    for group in groups:
        kept, left = list[Completion](), left - len(group.prompt)
        for completion in group.completions:
            if (found or kept) and len(completion.tokens) > left:
                break
            size = min(len(completion.tokens), max(FEW, left))
            kept.append(Completion(completion.tokens[:size], completion.mask[:size]))
            left -= size
        if kept:
            found.append(Group(group.prompt, kept, None, group.row))
        if left <= 0:
            break
    return found


def _loss(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    terms = (outputs.logprobs, outputs.values) if outputs.scores is None else (outputs.scores,)
    return sum((x.mean() for x in terms if x is not None), torch.zeros((), device=terms[0].device)), {}
