"""Decode with transformers' own cache: for models whose prompts cannot be shared. Slower, same draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..learner.models import head_of
from . import SamplingParams
from .decoder import Request, draw


def generate_plainly(
    network: Any,
    prompts: Sequence[list[int]],
    requests: Sequence[Sequence[Request]],
    params: SamplingParams,
    stop_tokens: Sequence[int],
) -> None:
    """Fill the requests' tokens and log-probabilities. Prompts of one length share a batch, so none is padded."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(i)
    for indices in by_length.values():
        rows = [prompts[i] for i in indices for _ in requests[i]]
        _decode(network, rows, [r for i in indices for r in requests[i]], params, set(stop_tokens))


def _decode(
    network: Any, rows: list[list[int]], requests: list[Request], params: SamplingParams, stop: set[int]
) -> None:
    device = next(network.parameters()).device
    head, decoder = head_of(network), network.get_decoder()
    tokens, cache = torch.tensor(rows, device=device), None
    for step in range(params.max_new_tokens):
        output = decoder(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        uniforms = torch.tensor([r.uniforms[step] for r in requests], device=device, dtype=torch.float64)
        drawn, logprobs = draw(head.logits(output.last_hidden_state[:, -1]), uniforms, params)
        for request, token, logprob in zip(requests, drawn.tolist(), logprobs.tolist(), strict=True):
            if not (request.tokens and request.tokens[-1] in stop):
                request.tokens.append(token)
                request.logprobs.append(logprob)
        if all(r.tokens[-1] in stop for r in requests):
            return
        tokens = drawn[:, None]
