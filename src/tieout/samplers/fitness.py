"""Whether a server's draws are fit to train on: what it cuts off, and which log-probabilities it reports."""

from __future__ import annotations

import math
from collections.abc import Mapping

from . import SamplingParams


def refuse_truncation(params: SamplingParams) -> None:
    """ValueError if the draws are not from the whole distribution: the policy's own ratio would be biased."""
    for name, neutral in {"top_p": 1.0, "top_k": 0, "min_p": 0.0}.items():
        value = getattr(params, name, neutral)
        if value not in (neutral, None) and not (name == "top_k" and value == -1):
            raise ValueError(
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
