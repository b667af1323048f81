"""Check that a vLLM server's samples can be trained on: truncation, log-probability mode, adapter type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...chat.template import Chat
from ...errors import InputError
from .. import SamplingParams
from .server import Server
from .wire import base_of, best_of, request

if TYPE_CHECKING:
    from ...learner import Learner

PROBE_SECONDS = 60.0
"""For one token, or the list of models: a server that takes longer hangs."""
PROBES = ("The", "1 + 1 =", "Total assets were")
"""Texts whose next token is asked for, until the mode is clear; after most of them several tokens are likely."""


def refuse_truncation(params: SamplingParams) -> None:
    """InputError if samples are not from the whole distribution: the policy's importance ratio would be biased."""
    for name, neutral in {"top_p": 1.0, "top_k": 0, "min_p": 0.0}.items():
        value = getattr(params, name, neutral)
        if value not in (neutral, None) and not (name == "top_k" and value == -1):
            raise InputError(
                f"{name} is {value}; training samples need {name}={neutral:g}. Tokens cut off by {name} have "
                "probability 0 under the sampler and more under the policy, so the importance ratio is biased"
            )


def logprobs_mode(plain: Mapping[str, float], hot: Mapping[str, float]) -> str:
    """vLLM's name for what a server reports, from its best tokens at temperature 1 and at temperature 2.

    Differences between tokens halve at temperature 2 if it is applied, and stay if it is not. Logits halve themselves;
    log-probabilities halve and move, since they are normalised again.

    >>> logprobs_mode({"a": -0.1, "b": -2.5}, {"a": -0.26, "b": -1.46})
    'processed_logprobs'
    >>> logprobs_mode({"a": -0.1, "b": -2.5}, {"a": -0.1, "b": -2.5})
    'raw_logprobs'
    """
    shared = [(plain[t], hot[t]) for t in plain if t in hot]
    if any(x < -1000 for pair in shared for x in pair):
        return "log-probabilities after top-k or top-p"
    mean_plain = math.fsum(p for p, _ in shared) / max(1, len(shared))
    mean_hot = math.fsum(h for _, h in shared) / max(1, len(shared))
    spread = math.fsum((p - mean_plain) ** 2 for p, _ in shared)
    if spread < 1e-4:
        return "unclear"
    slope = math.fsum((p - mean_plain) * (h - mean_hot) for p, h in shared) / spread
    normalised = all(p <= 1e-4 for p, _ in shared)
    if abs(slope - 1) < 0.2:
        return "raw_logprobs" if normalised else "raw_logits"
    if abs(slope - 0.5) > 0.2:
        return "unclear"
    moved = abs(mean_hot - mean_plain / 2) > 1e-3
    whole = abs(math.log(math.fsum(math.exp(min(p, 50.0)) for p, _ in shared))) < 0.05
    return "processed_logprobs" if normalised and (moved or whole) else "processed_logits"


def probe(server: Server, chat: Chat) -> tuple[str, int]:
    """(name of a vLLM server's base, its context in tokens). InputError: its samples cannot be trained on."""
    model, context = server.ask("/v1/models", read=base_of, seconds=PROBE_SECONDS)
    verdict = "unclear"
    for text in PROBES:
        prompt, replies = chat.prompt(text), []
        for temperature in (1.0, 2.0):
            body = request(model, prompt, 1, SamplingParams(1, temperature), 0, chat.stop_tokens)
            body |= {"logprobs": 5, "return_tokens_as_token_ids": True}
            replies.append(server.ask("/v1/completions", body, best_of, seconds=PROBE_SECONDS))
        if (verdict := logprobs_mode(replies[0], replies[1])) != "unclear":
            break
    if verdict != "processed_logprobs":
        raise InputError(
            f"{server.url} reports {verdict}, but training needs the log-probabilities that tokens are sampled "
            "with: start the server with --logprobs-mode processed_logprobs"
        )
    return model, context


def refuse_all_but_lora(learner: Learner) -> None:
    """InputError if more than a LoRA adapter is trained."""
    configs = getattr(learner.model.network, "peft_config", None)
    if configs is None:
        raise InputError(
            "full fine-tuning cannot be sampled by vLLM here: only adapters are swapped; train LoRA, or sample locally"
        )
    if any(config.use_dora for config in configs.values()):
        raise InputError("vLLM serves no DoRA adapters; use adapter.method=lora, or sample locally")
