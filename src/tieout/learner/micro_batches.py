"""Micro-batches: which groups share a forward, in which layout, and whether their activations are computed twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch

from ..errors import InputError
from ..types import Group
from .config import LearnerConfig
from .forward import Forward
from .memory import USABLE, free_bytes, kept_bytes, training_mode
from .models.model import why_not_packed
from .prefix.cost import Cost, cheaper_repeated
from .prefix.layouts import Layout, opening_of, pack, plan, repeat
from .prefix.row_lengths import with_padding
from .prefix.selfcheck import disagreement, probe

KEPT = 3 << 29
"""Bytes of activations that a micro-batch on a CPU may keep for backward: nothing is gained by more, since a product of
a matrix with `ENOUGH` tokens is as fast per token as one with thousands.

What is only measured keeps none, and still has the same micro-batches: of its temporary tensors glibc's allocator holds
about half as much (0.9 GiB of 3,000 tokens of a model of 135 million parameters, of which 0.3 are in use at a time)."""
ENOUGH = 512


class MicroBatches:
    """The micro-batches of one model on one machine."""

    def __init__(self, forward: Forward, config: LearnerConfig, num_processes: int, sharded: bool) -> None:
        """
        Args:
            forward: of the model.
            config: the budget of tokens, and what it fixes of layout and recomputation.
            num_processes: that share the memory of a CPU.
            sharded: whether the base is sharded over the ranks, which must then all decide alike.
        """
        self.forward, self.model, self.config = forward, forward.model, config
        self.num_processes, self.sharded = num_processes, sharded
        self.scarce = False
        """Whether one group alone was out of memory: all activations are computed again."""

    @cached_property
    def packs(self) -> bool:
        """Whether prompts are shared. Decided on first use; a refusal is never silent."""
        if self.config.layout == "repeated":
            return False
        causal, trained = self.model.causal, list(self.model.trained().values())
        reason = why_not_packed(self.model)
        reason = reason or disagreement(self.forward, causal, trained, self.forward.attention_backend)
        if reason is None:
            return True
        message = f"{self.model.name} cannot share prompts between completions: {reason}"
        if self.config.layout == "packed":
            raise InputError(f"{message}; use layout='auto' or 'repeated'")
        warnings.warn(f"{message}. The plain layout is used: same numbers, more work", stacklevel=2)
        return False

    def decide(self) -> None:
        """Choose layout and size now, with the adapter of the policy on: both look at its gradients."""
        self.packs  # noqa: B018
        self._budget  # noqa: B018

    def plan(self, groups: Sequence[Group]) -> list[list[int]]:
        """Indices of the groups of each micro-batch, of an update or of a measurement."""
        budget = self._budget
        if not self.packs:
            return plan([sum(len(g.prompt) + len(c.tokens) for c in g.completions) for g in groups], budget)
        opening = self._opening(groups)
        return plan([g.unique_tokens - opening for g in groups], budget - opening)

    def of(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """The groups of each micro-batch."""
        for indices in self.plan(groups):
            yield [groups[i] for i in indices]

    @cached_property
    def _budget(self) -> int:
        """Tokens of a micro-batch."""
        tokens = self.config.micro_batch_tokens
        if self.model.device.type != "cpu" or self.sharded or self.config.activation_checkpointing:
            return tokens
        kept = self.bytes_per_token or 1.0  # a model that is frozen keeps nothing
        return min(tokens, max(ENOUGH, int(KEPT / kept)))

    def shrink(self, groups: Sequence[Group]) -> bool:
        """Make micro-batches smaller from now on, after one of these groups' was out of memory; False: they cannot be.

        Where each is one group already, activations are computed again. Ranks of a sharded base need equally many.
        """
        if self.sharded:
            return False
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        parts = self.plan(groups)
        if len(parts) < len(groups):
            while len(self.plan(groups)) == len(parts):
                self._budget = max(1, self._budget // 2)
            return True
        scarce, self.scarce = self.scarce, self.config.activation_checkpointing is None
        return self.scarce and not scarce

    def _opening(self, groups: Sequence[Group]) -> int:
        """Tokens at the start of all prompts that are computed once for all groups."""
        opening = opening_of(groups)
        return opening if self._cost.opens(opening, len(groups)) else 0

    def layout(self, groups: Sequence[Group]) -> Layout:
        """The cheaper layout of one micro-batch."""
        budget, chosen = self.config.micro_batch_tokens, self.config.layout == "packed"
        chosen = chosen or self._length(1) > 1  # a plain row that is padded needs a mask
        unread = self.model.score.pad if self.model.score else None
        if self.packs:
            opening = self._opening(groups)
            if chosen or not cheaper_repeated(self._cost, groups, budget, opening):
                return pack(groups, self.forward.attention_backend, unread, opening, self._length)
        return repeat(groups, self.model.tokenizer.pad_token_id or 0, unread, self._length)

    def _length(self, tokens: int) -> int:
        return with_padding(tokens, self.model.causal.dtype, self.model.device)

    def recomputes(self, fed: int) -> bool:
        """Whether a micro-batch of so many tokens is computed again in backward, because it would not fit."""
        if self.config.activation_checkpointing is not None or self.sharded:
            return bool(self.config.activation_checkpointing)
        if self.scarce:
            return True
        free = free_bytes(self.model.device)
        sharing = self.num_processes if self.model.device.type == "cpu" else 1
        return free is not None and fed * self.bytes_per_token > USABLE * free / sharing

    @cached_property
    def bytes_per_token(self) -> float:
        """Bytes that one token keeps for backward, measured on a few."""
        layout = self.layout(probe(self.model.causal.config.get_text_config().vocab_size)[0])
        weights = list(self.model.network.parameters())
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        # Dropout uses random numbers, and a resumed run measures at another step than the unbroken one.
        with torch.random.fork_rng(devices), training_mode(self.model, False):
            return kept_bytes(lambda: self.forward.outputs(layout), weights) / layout.fed

    @cached_property
    def _cost(self) -> Cost:
        return Cost.of(self.model.causal, self.forward.attention_backend)
