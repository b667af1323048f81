"""Sample in process, from the learner's own weights: each prompt is computed once for all its completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ..chat import Chat
from ..learner.models import Model, why_not_packed
from ..types import Completion, Prompt
from . import SamplingParams
from .decoder import Request, Wave
from .plain import generate_plainly

if TYPE_CHECKING:
    from ..learner import Learner

Progress = Callable[[int], None]
"""Called with the number of completions that have just finished."""


class LocalSampler:
    """A Sampler and a PolicySampler over a loaded model."""

    def __init__(
        self, model: Model, chat: Chat | None = None, batch_size: int = 192, progress: Progress | None = None
    ) -> None:
        """
        Args:
            model: the policy; its adapter is folded into a copy of the weights while sampling.
            chat: tokens to text and back; the model's own if None.
            batch_size: completions decoded at the same time.
            progress: told of completions as they finish.
        """
        self.model, self.chat = model, chat or model.chat
        self.batch_size, self.progress = batch_size, progress
        self.shares_prompts = why_not_packed(model) is None

    def load(self, learner: Learner) -> None:
        """The weights are the learner's already, if it is the same model."""
        if learner.model is not self.model:
            raise ValueError(
                "a local sampler reads the weights of the model it was made with; make one for this learner"
            )

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt, as text."""
        tokens = [self.chat.prompt(p) for p in prompts]
        return [group[0].text for group in self.sample(tokens, 1, params)]

    def sample(
        self, prompts: Sequence[Sequence[int]], num_completions: int, params: SamplingParams
    ) -> list[list[Completion]]:
        """[prompt][completion], with fp32 log-probabilities under the (temperature-scaled) policy."""
        for prompt in prompts:
            if not prompt:
                raise ValueError("a prompt has no tokens; give at least one")
            if len(prompt) + params.max_new_tokens > self.model.context:
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens and max_new_tokens={params.max_new_tokens} exceed the "
                    f"model's context of {self.model.context}; shorten one of them"
                )
        requests = [
            [Request.make(params, i * num_completions + k) for k in range(num_completions)]
            for i in range(params.first_prompt, params.first_prompt + len(prompts))
        ]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        size = max(1, self.batch_size // num_completions)
        with torch.no_grad(), self.model.merged() as network:
            for start in range(0, len(order), size):
                part = order[start : start + size]
                tokens, drawn = [list(prompts[i]) for i in part], [requests[i] for i in part]
                if self.shares_prompts:
                    Wave(network, tokens, drawn, params, self.chat.stop_tokens).run()
                else:
                    generate_plainly(network, tokens, drawn, params, self.chat.stop_tokens)
                if self.progress:
                    self.progress(len(part) * num_completions)
        return [[self._completion(r) for r in group] for group in requests]

    def _completion(self, request: Request) -> Completion:
        stopped = bool(request.tokens) and request.tokens[-1] in self.chat.stop_tokens
        return Completion(
            request.tokens,
            [True] * len(request.tokens),
            request.logprobs,
            self.chat.text(request.tokens),
            "stop" if stopped else "length",
        )
