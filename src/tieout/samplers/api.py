"""Sample text from an OpenAI-compatible API: concurrent requests, retries and a budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ..errors import InputError, TieoutError
from ..types import Answer, Messages, Prompt
from . import SamplingParams


class IncompleteError(TieoutError, RuntimeError):
    """Some requests failed for good. What did arrive is here, so that nothing paid for is lost."""

    def __init__(self, completions: list[str | None], reasons: dict[int, str]) -> None:
        first = next(iter(reasons.values()))
        super().__init__(f"{len(reasons)} of {len(completions)} requests failed; the first: {first}")
        self.completions = completions
        """One per prompt; None where the request failed."""
        self.reasons = reasons
        """Position of the prompt -> why it has no completion."""


class BudgetError(TieoutError, RuntimeError):
    """The next request would go beyond the budget; it was not sent."""


@dataclass
class Budget:
    """Limits on requests and tokens, and the use so far. Several samplers can share one budget."""

    max_requests: int | None = None
    """Requests sent, retries not counted."""
    max_tokens: int | None = None
    """Tokens read and written, as the server counts them. Requests under way are finished."""
    requests: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def take(self) -> None:
        """Count one request; BudgetError if it is one too many."""
        with self._lock:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetError(
                    f"all {self.max_requests} requests of the budget are used; raise max_requests"
                )
            if self.max_tokens is not None and self.tokens >= self.max_tokens:
                raise BudgetError(
                    f"{self.tokens} tokens are used, of a budget of {self.max_tokens}; raise max_tokens"
                )
            self.requests += 1

    def spend(self, tokens: int) -> None:
        """Count the tokens of a request that came back."""
        with self._lock:
            self.tokens += tokens


class APISampler:
    """A Sampler over a chat (or, for plain-text prompts, a completions) endpoint.

    Time-outs, connection errors and the statuses 408, 409, 429 and 5xx are retried with growing pauses; remaining
    failures are in IncompleteError, with the completions that arrived. An empty completion is a completion.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        num_workers: int = 8,
        max_retries: int = 4,
        timeout_seconds: float = 120.0,
        budget: Budget | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """
        Args:
            model: the name that the server knows it by.
            base_url: such as `http://127.0.0.1:8000/v1`; the environment's OPENAI_BASE_URL if None.
            api_key: the environment's OPENAI_API_KEY if None; servers of your own take any.
            num_workers: concurrent requests.
            max_retries: attempts after the first.
            timeout_seconds: for one attempt.
            budget: what may be spent; None counts only.
            progress: called with the number of completions that have just arrived.
        """
        from openai import OpenAI

        if api_key is None and base_url is not None:
            import os

            api_key = os.environ.get("OPENAI_API_KEY", "none")
        self.model, self.num_workers, self.progress = model, num_workers, progress
        self.budget = budget if budget is not None else Budget()
        self._client = OpenAI(
            api_key=api_key, base_url=base_url, max_retries=max_retries, timeout=timeout_seconds
        )

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt. Request i asks for the seed `params.seed + i`; servers may ignore seeds."""
        from openai import OpenAIError

        completions: list[str | None] = [None] * len(prompts)
        reasons: dict[int, str] = {}

        def ask(i: int) -> None:
            try:
                completions[i] = self._ask(prompts[i], params, params.seed + i)
            except (OpenAIError, BudgetError, ValueError) as error:
                reasons[i] = f"{type(error).__name__}: {error}"
            if self.progress:
                self.progress(1)

        with ThreadPoolExecutor(self.num_workers) as pool:
            list(pool.map(ask, range(len(prompts))))
        if reasons:
            raise IncompleteError(completions, dict(sorted(reasons.items())))
        return [text for text in completions if text is not None]

    def _ask(self, prompt: Prompt, params: SamplingParams, seed: int) -> str:
        self.budget.take()
        started = perf_counter()
        # Not max_completion_tokens: every server knows the older name, and few the newer.
        options: dict[str, Any] = {
            "model": self.model,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": seed % 2**31,
        }
        if isinstance(prompt, str):
            answer: Any = self._client.completions.create(prompt=prompt, **options)
            text = answer.choices[0].text if answer.choices else None
        else:
            messages: Any = [dict(message) for message in prompt]
            told = dict(prompt.told) if isinstance(prompt, Messages) else {}
            if tools := told.pop("tools", None):
                options["tools"] = tools
            if told:  # servers of open models take it; others refuse what they do not know
                options["extra_body"] = {"chat_template_kwargs": told}
            answer = self._client.chat.completions.create(messages=messages, **options)
            text = answer.choices[0].message.content if answer.choices else None
        usage, used = getattr(answer, "usage", None), {}
        if usage is not None:
            self.budget.spend(usage.total_tokens or 0)
            used = {"prompt_tokens": usage.prompt_tokens or 0, "tokens": usage.completion_tokens or 0}
            used["seconds"] = perf_counter() - started
        if not isinstance(text, str):
            raise InputError(f"{self.model} gave no text (choices: {answer.choices!r})"[:300])
        return Answer(text, used)
