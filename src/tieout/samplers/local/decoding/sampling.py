"""Sample tokens. Each request has random numbers of its own, so its batch changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ... import SamplingParams

BLOCK = 256
"""The vocabulary is searched in two steps, block and token: no cumulative sum over all of it is needed."""


@dataclass(eq=False)
class Request:
    """One completion being sampled."""

    uniforms: np.ndarray
    """[max_new_tokens] in [0, 1), of this request alone."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """[C] nats, after temperature."""
    entropies: list[float] = field(default_factory=list)
    """[C] nats, of the distribution that each token was sampled from; empty if the backend does not give it."""
    prompt: Sequence[int] = ()
    fed: int = 0
    """Tokens of the prompt that stand among the request's own, after what was kept of the prompt."""

    @classmethod
    def make(cls, params: SamplingParams, index: int) -> Request:
        """Request `index` of a call: the stream (seed, index)."""
        generator = np.random.Generator(np.random.Philox(key=[params.seed % 2**64, index]))
        return cls(generator.random(params.max_new_tokens))

    def keep(self, token: int, logprob: float, entropy: float) -> None:
        """The next token."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.entropies.append(entropy)


def sample_tokens(logits: Tensor, uniforms: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor, Tensor]:
    """Pick a token from each row by inverting its cumulative distribution.

    Args:
        logits: [N, V] fp32.
        uniforms: [N] float64 in [0, 1).
        params: temperature and top_p.

    Returns:
        [N] tokens, and in nats after temperature and top_p (greedy: of the plain softmax) [N] log-probabilities and
        [N] entropies.
    """
    scaled = logits if params.temperature in (0, 1) else logits / params.temperature
    logprobs = scaled.log_softmax(-1)
    if params.top_p < 1 and params.temperature > 0:
        logprobs = _nucleus(logprobs, params.top_p)
    probabilities = logprobs.exp()
    tokens = logits.argmax(-1) if params.temperature == 0 else _invert(probabilities, uniforms)
    own = logprobs.gather(-1, tokens[:, None])[:, 0]
    entropies = -torch.linalg.vecdot(
        probabilities, logprobs.clamp_(min=-1e4)
    )  # 0 where a token is impossible
    return tokens, own, entropies


def sample_into(requests: list[Request], logits: Tensor, params: SamplingParams) -> Tensor:
    """[N, V] logits of N requests -> their next tokens [N], written into the requests too."""
    uniforms = [r.uniforms[len(r.tokens)] for r in requests]
    tokens, columns = sample_lists(logits, uniforms, params)
    for request, token, logprob, entropy in zip(requests, *columns, strict=True):
        request.keep(token, logprob, entropy)
    return tokens


def sample_lists(
    logits: Tensor, uniforms: Sequence[float], params: SamplingParams
) -> tuple[Tensor, tuple[list[int], list[float], list[float]]]:
    """[T, V] -> tokens [T], and the same as numbers, with their log-probabilities and entropies."""
    numbers = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)
    tokens, logprobs, entropies = sample_tokens(logits, numbers, params)
    return tokens, (tokens.tolist(), logprobs.tolist(), entropies.tolist())


def _nucleus(logprobs: Tensor, top_p: float) -> Tensor:
    ordered, order = logprobs.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    return torch.empty_like(logprobs).scatter(-1, order, ordered).log_softmax(-1)


def _invert(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """[N, V], [N] -> [N]: the block that the uniform falls into, then the token within it."""
    if probabilities.shape[-1] <= BLOCK:
        return _possible(probabilities, _search(probabilities, uniforms)[0])
    padding = -probabilities.shape[-1] % BLOCK
    blocks = torch.nn.functional.pad(probabilities, (0, padding)).unflatten(-1, (-1, BLOCK))
    block, share = _search(blocks.sum(-1), uniforms)
    row = torch.arange(len(block), device=block.device)
    return _possible(probabilities, block * BLOCK + _search(blocks[row, block], share)[0])


def _possible(probabilities: Tensor, tokens: Tensor) -> Tensor:
    """The tokens; the likeliest where rounding, at the very end of a block, points at one that has no probability."""
    known = tokens.clamp(max=probabilities.shape[-1] - 1)
    possible = probabilities.gather(-1, known[:, None])[:, 0] > 0
    return known if possible.all() else torch.where(possible, known, probabilities.argmax(-1))


def _search(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """[N, M], [N] -> where the uniform falls [N], and how far into it, from 0 to 1 [N]."""
    weights = weights.double()
    cumulative = weights.cumsum(-1)
    target = (uniforms * cumulative[:, -1])[:, None]
    index = torch.searchsorted(cumulative, target, right=True).clamp(max=weights.shape[-1] - 1)
    own, end = weights.gather(-1, index), cumulative.gather(-1, index)
    inside = ((target - (end - own)) / own).clamp(0, 1)
    return index[:, 0], inside[:, 0]
