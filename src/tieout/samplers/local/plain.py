"""Decode with transformers' own cache: for models that no other backend computes right. Slow; the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...learner.models.architecture import head_of
from .. import SamplingParams
from .decoding.sampling import Request, sample_into


def generate_plainly(
    network: Any,
    prompts: Sequence[list[int]],
    requests: Sequence[list[Request]],
    params: SamplingParams,
    stop_tokens: Sequence[int],
) -> None:
    """Fill the requests. Prompts of one length share a batch, so none is padded."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(i)
    for indices in by_length.values():
        rows = [prompts[i] for i in indices for _ in requests[i]]
        _decode(network, rows, [r for i in indices for r in requests[i]], params, set(stop_tokens))


@torch.no_grad()
def _decode(
    network: Any, rows: list[list[int]], requests: list[Request], params: SamplingParams, stop: set[int]
) -> None:
    device = next(network.parameters()).device
    head, decoder = head_of(network), network.get_decoder()
    tokens, cache = torch.tensor(rows, device=device), None
    for _ in range(params.max_new_tokens):
        output = decoder(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits = head.logits(output.last_hidden_state[:, -1])
        live = [i for i, r in enumerate(requests) if not (r.tokens and r.tokens[-1] in stop)]
        index = torch.tensor(live, device=device)
        sampled = sample_into([requests[i] for i in live], logits[index], params)
        if all(r.tokens[-1] in stop for r in requests):
            return
        tokens = torch.zeros(len(requests), 1, dtype=torch.long, device=device)
        tokens[index, 0] = sampled
