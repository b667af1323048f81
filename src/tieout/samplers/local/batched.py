"""Decode with transformers' continuous batching (`generate_batch`): for models that our own decoder does not know.

It computes each prompt once too. But it uses one stream of random numbers for the whole call, so samples
depend on the batch: the same call gives the same completions, a call with fewer prompts gives others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from ...errors import TieoutError
from ...learner.prefix.attention import NAME
from .. import SamplingParams
from .decoding.sampling import Request

PAGE = 32
"""Tokens of a page of the cache."""


def generate_batched(
    network: Any,
    prompts: Sequence[list[int]],
    requests: Sequence[list[Request]],
    params: SamplingParams,
    stop_tokens: Sequence[int],
    max_rows: int = 192,
) -> None:
    """Fill the requests. ValueError, RuntimeError or TieoutError: transformers cannot do it for this model."""
    greedy = params.temperature == 0
    group = 1 if greedy else len(requests[0])  # greedy completions of a prompt are all the same
    sampling: dict[str, Any] = (
        {} if greedy else {"temperature": params.temperature, "top_k": 0, "top_p": params.top_p}
    )
    generation = GenerationConfig(
        do_sample=not greedy,
        **sampling,
        max_new_tokens=params.max_new_tokens,
        num_return_sequences=group,
        eos_token_id=list(stop_tokens) or -1,
        pad_token_id=0,
    )
    pages = math.ceil((max(map(len, prompts)) + params.max_new_tokens) / PAGE) + 1
    rows = min(max_rows, group * len(prompts))
    # Without num_blocks it would take 60% of the memory.
    batching = ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=pages * rows,
        max_batch_tokens=max(rows, 512),
        max_requests_per_batch=rows,
        return_logprobs=True,
    )
    before, state = network.config._attn_implementation, torch.random.get_rng_state()
    try:
        torch.manual_seed(params.seed % 2**63)
        if before == NAME:
            network.set_attn_implementation("sdpa")
        done = network.generate_batch(
            [list(p) for p in prompts], generation, continuous_batching_config=batching, warmup=False
        )
    finally:
        torch.random.set_rng_state(state)
        if network.config._attn_implementation != before:
            network.set_attn_implementation(before)
    outputs = list(done.values())
    if len(outputs) != group * len(prompts) or any(output.error for output in outputs):
        errors = {output.error for output in outputs if output.error}
        raise TieoutError(
            f"generate_batch gave {len(outputs)} of {group * len(prompts)} completions; errors: {errors or 'none'}"
        )
    for i, own in enumerate(requests):
        for k, request in enumerate(own):
            output = outputs[i * group + k % group]
            request.tokens, request.logprobs = list(output.generated_tokens), list(output.logprobs)
