"""Sample in process, from the learner's own weights: each prompt is computed once for all its completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from math import isfinite
from time import perf_counter

import torch

from ...chat.template import Chat
from ...errors import InputError
from ...learner import Learner
from ...learner.digest import digest
from ...learner.memory import WORTH, release
from ...learner.models.adapters import POLICY
from ...learner.models.model import Model
from ...storage.identity import known_model
from ...types import Completion, Group, Prompt
from .. import SamplingParams, answers
from .backends import BACKENDS, Choice, choose
from .decoding.decode_job import DecodeJob
from .decoding.drafts import DraftCounts, Drafts
from .decoding.kept import Kept
from .decoding.sampling import Request

Progress = Callable[[int], None]
"""Called with the number of completions that have just finished."""


class LocalSampler:
    """A Sampler and a PolicySampler over a loaded model."""

    def __init__(
        self,
        model: Model,
        chat: Chat | None = None,
        batch_size: int = 192,
        progress: Progress | None = None,
        cache_gigabytes: float | None = None,
        drafts: bool = False,
    ) -> None:
        """
        Args:
            model: the policy; its adapter is folded into a copy of the weights while sampling.
            chat: tokens to text and back; the model's own if None.
            batch_size: completions decoded at the same time, at most; those that end make room for others.
            progress: called with the number of completions that have just finished.
            cache_gigabytes: keys and values at the same time, at most, but always those of one prompt's completions,
                and as much again for what is kept from turn to turn; 1 on a CPU and a third of the free memory of a
                GPU if None.
            drafts: guess several tokens of a completion and compute them together: in fewer steps the same tokens, up
                to rounding. A call repeats itself to the last bit.
        """
        self.model, self.chat = model, chat or model.chat
        self.batch_size, self.progress = batch_size, progress
        self.cache_gigabytes = cache_gigabytes
        self.choice: Choice | None = None
        self.drafts = Drafts() if drafts else None
        self.kept: Kept | None = None

    @property
    def known_by(self) -> dict[str, str]:
        """What changes with its answers: digests of the base and of what was trained on it."""
        own = {n: p for n, p in self.model.network.named_parameters() if f".{POLICY}." in n}
        return {"base": known_model(self.model.name), "adapter": digest(own) if own else ""}

    @property
    def context(self) -> int:
        """The model's."""
        return self.model.context

    def load(self, learner: Learner) -> None:
        """The weights are the learner's already, if it is the same model."""
        if learner.model is not self.model:
            raise InputError(
                "a local sampler reads the weights of the model it was made with; make one for this learner"
            )

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Meanwhile prompts that continue what the call before sampled are not computed again, up to rounding.

        For conversations, turn by turn. The weights must stay as they are.
        """
        self.kept = Kept(self._cache_bytes)
        try:
            yield
        finally:
            self.kept = None

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt, as text."""
        started = perf_counter()
        tokens = [self.chat.prompt(p) for p in prompts]
        sampled = [group[0] for group in self.sample(tokens, 1, params)]
        return answers(list(zip(tokens, sampled, strict=True)), started)

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """[prompt][completion], with fp32 log-probabilities under the (temperature-scaled) policy.

        InputError: the model gives NaN for a prompt, which has no completion then.
        """
        for prompt in prompts:
            if not prompt:
                raise InputError("a prompt has no tokens; give at least one")
            if len(prompt) + params.max_new_tokens > self.model.context:
                raise InputError(
                    f"a prompt of {len(prompt)} tokens and max_new_tokens={params.max_new_tokens} exceed the "
                    f"model's context of {self.model.context}; shorten one of them"
                )
        requests = [
            [Request.make(params, i * num_completions + k) for k in range(num_completions)]
            for i in map(params.stream, range(len(prompts)))
        ]
        if not any(requests):
            return requests  # type: ignore[return-value]
        limits = self.batch_size, self._cache_bytes, self.progress or (lambda count: None)
        job = DecodeJob(
            [list(p) for p in prompts],
            requests,
            params,
            self.chat.stop_tokens,
            *limits,
            self.drafts,
            self.kept,
        )
        if self.kept is not None:
            self.kept.begin()
        release(self.model.device, WORTH)
        with torch.no_grad(), self.model.merged() as network:
            self.choice = choose(self.model, network, self.drafts is not None)
            BACKENDS[self.choice.backend](network, job)
        if not all(map(isfinite, (sum(r.logprobs) for group in requests for r in group))):
            raise InputError(
                f"the logits of {self.model.name} are NaN or infinite: its numbers overflow in "
                f"{str(self.model.causal.dtype).removeprefix('torch.')}, or its weights blew up in training; load it "
                "in fp32, or take an earlier checkpoint"
            )
        return [[self._completion(r) for r in group] for group in requests]

    def monitor(self, step: int, groups: Sequence[Group], metrics: MutableMapping[str, float]) -> None:
        """Add what drafts did since the last call: tokens per forward of a row, and the share of guesses kept."""
        if self.drafts is None:
            return
        counts, self.drafts.counts = self.drafts.counts, DraftCounts()
        if counts.row_steps:
            metrics["tokens_per_row_step"] = counts.tokens / counts.row_steps
        if counts.drafted:
            metrics["drafts_kept"] = counts.accepted / counts.drafted

    @property
    def _cache_bytes(self) -> float:
        if self.cache_gigabytes is not None:
            return self.cache_gigabytes * 2**30
        if self.model.device.type != "cuda":
            return 2**30
        return torch.cuda.mem_get_info(self.model.device)[0] / 3

    def _completion(self, request: Request) -> Completion:
        stopped = bool(request.tokens) and request.tokens[-1] in self.chat.stop_tokens
        return Completion(
            request.tokens,
            [True] * len(request.tokens),
            request.logprobs,
            self.chat.text(request.tokens),
            "stop" if stopped else "length",
            request.entropies or None,
        )
