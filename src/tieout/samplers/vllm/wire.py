"""Requests to a vLLM server and its replies: pure functions between plain values and our types."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...types import Completion
from .. import SamplingParams
from .server import Garbled

NEUTRAL = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Sent with every request: what is left out, vLLM takes from the model's generation_config.json."""


def request(
    model: str, prompt: list[int], count: int, params: SamplingParams, seed: int, stop_tokens: tuple[int, ...]
) -> dict[str, Any]:
    """The body of /v1/completions for `count` samples, with the log-probability of each token."""
    return {
        **NEUTRAL,
        "model": model,
        "prompt": prompt,
        "n": count,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": seed,
        "stop_token_ids": list(stop_tokens),
        "logprobs": 0,
        "return_token_ids": True,
    }


def seed_of(seed: int, index: int) -> int:
    """The first seed of request `index` of a call; completion k of it has the k-th after that.

    >>> seed_of(0, 0) == seed_of(0, 0), seed_of(0, 1) - seed_of(0, 0) > 1000
    (True, True)
    """
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 2  # a signed 64-bit number, with room above


@dataclass(frozen=True)
class Asked:
    """What a reply must keep to."""

    count: int
    most: int
    """Tokens of a completion."""
    stop_tokens: tuple[int, ...]
    vocabulary: int | None
    """Rows of the policy's embedding; None: not known, where nothing is trained on the tokens."""


def completions_of(reply: Any, asked: Asked, text: Callable[[list[int]], str]) -> list[Completion]:
    """Garbled: not `count` choices with as many finite log-probabilities as tokens, ended as they say and as asked."""
    count = asked.count
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or len(choices) != count:
        raise Garbled(f"expected {count} choices, got {str(reply)[:200]}")
    if not all(isinstance(choice, Mapping) for choice in choices):
        raise Garbled(f"expected choices with token_ids, got {str(choices)[:200]}")
    return [_completion(c, asked, text) for c in sorted(choices, key=lambda c: c.get("index", 0))]


def _completion(choice: Mapping[str, Any], asked: Asked, text: Callable[[list[int]], str]) -> Completion:
    tokens: Any = choice.get("token_ids")
    logprobs: Any = (choice.get("logprobs") or {}).get("token_logprobs")
    whole = isinstance(tokens, list) and isinstance(logprobs, list) and len(tokens) == len(logprobs) > 0
    if not whole or not all(map(_is_token, tokens)) or not all(map(_is_logprob, logprobs)):
        raise Garbled(f"a completion has token_ids {str(tokens)[:80]} and logprobs {str(logprobs)[:80]}")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):  # abort, error: neither the policy nor the limit ended it
        raise Garbled(f"a completion ended by {reason!r}")
    if len(tokens) > asked.most or (reason == "length" and len(tokens) < asked.most):
        raise Garbled(
            f"a completion has {len(tokens)} tokens and ended by {reason!r}; asked were {asked.most}"
        )
    if reason == "stop" and tokens[-1] not in asked.stop_tokens:
        raise Garbled(
            f"a completion ended by 'stop' at token {tokens[-1]}, and the policy's stop tokens are "
            f"{sorted(asked.stop_tokens)}; serve the same model and generation_config.json"
        )
    if asked.vocabulary is not None and max(tokens) >= asked.vocabulary:
        raise Garbled(f"a completion has token {max(tokens)}, and the policy's vocabulary {asked.vocabulary}")
    try:
        said = text(tokens)
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise Garbled(f"the tokenizer has no text for token_ids {str(tokens)[:80]}") from error
    return Completion(tokens, [True] * len(tokens), logprobs, said, reason)


def best_of(reply: Any) -> dict[str, float]:
    """The likeliest tokens at the first position, by name."""
    try:
        return {str(t): float(x) for t, x in reply["choices"][0]["logprobs"]["top_logprobs"][0].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Garbled(f"no top_logprobs in {str(reply)[:200]}") from error


def base_of(reply: Any) -> tuple[str, int]:
    """(name of the base, its context in tokens) from /v1/models."""
    try:
        (card,) = [model for model in reply["data"] if not model.get("parent")]
        return str(card["id"]), int(card.get("max_model_len") or 1 << 30)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Garbled(f"/v1/models gave no single base model: {str(reply)[:200]}") from error


def _is_logprob(value: Any) -> bool:
    """A finite log-probability; -9999 is how vLLM writes minus infinity."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and -1000 < value <= 1e-3
    )  # NaN fails both


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
