"""Behaviour of a policy on some prompts: recorded while it is in memory, compared once it is on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ..chat.rendering import told_of
from ..chat.template import Chat
from ..errors import InputError, TieoutError
from ..learner.models.architecture import decoder_of, head_of
from ..learner.models.loading import load
from ..learner.models.model import Model
from ..learner.prefix.layouts import repeat
from ..samplers import SamplingParams
from ..samplers.local.sampler import LocalSampler
from ..types import Completion, Group, Messages, Prompt
from .merged_check import WORST, Exact, exact_of

TOLERANCES: Mapping[str, tuple[float, float]] = {
    "float32": (1e-3, 1e-4),
    "bfloat16": (0.25, 0.05),
    "float16": (0.05, 0.01),
}
"""dtype -> nats by which the log-probability of one token, and the mean over a completion's tokens, may differ.

In 16 bits this is for an adapter and for a model that is trained whole, which are loaded as they were and compute the
same on the same machine; and for a merged model too large to be computed in fp32 (see `merged_check`). In float32
merging rounds the sum of weight and update once more: on random models of 2 to 16 layers that moved a token by at most
8e-6, and one token of a policy that GRPO had sharpened by 1.4e-4 (2e-6 in the mean), where that policy in float32 was
itself 1.1e-4 from float64.
"""


class BehaviourError(TieoutError, RuntimeError):
    """A model from disk does other things than the policy did."""


@dataclass(frozen=True)
class Example:
    """What the policy writes, greedily, after one prompt."""

    prompt: Prompt
    prompt_tokens: list[int]
    """[P]"""
    tokens: list[int]
    """[C]"""
    logprobs: list[float]
    """[C] nats, by a plain forward: not shared, not packed, not merged."""
    margins: list[float]
    """[C] nats by which each token leads the best other one."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the row of a prompt of messages tells the chat template."""


@dataclass(frozen=True)
class Behaviour:
    """What a policy does: what has to be the same once it is loaded from disk. Plain values; goes into JSON."""

    dtype: str
    """Of the base: `float32`, `bfloat16` or `float16`."""
    max_new_tokens: int
    chat_template: str | None
    stop_tokens: list[int]
    examples: list[Example]


def observe(model: Model, chat: Chat, prompts: Sequence[Prompt], max_new_tokens: int) -> Behaviour:
    """Record the policy's greedy completions and their log-probabilities; best done while it is still in memory.

    The completions are sampled as in rollouts; log-probabilities come from a plain forward of each one alone.
    """
    if not prompts:
        raise InputError("no prompts given: what a policy does can only be seen on at least one")
    tokens = [chat.prompt(prompt) for prompt in prompts]
    params = SamplingParams(max_new_tokens, temperature=0.0)
    sampled = LocalSampler(model, chat).sample(tokens, 1, params)
    examples = [
        Example(prompt, ids, completion.tokens, *forced(model, ids, completion.tokens), told_of(prompt))
        for prompt, ids, (completion,) in zip(prompts, tokens, sampled, strict=True)
    ]
    dtype = str(model.causal.dtype).removeprefix("torch.")
    return Behaviour(dtype, max_new_tokens, _template(chat), sorted(chat.stop_tokens), examples)


@torch.no_grad()
def forced(model: Model, prompt: list[int], tokens: list[int]) -> tuple[list[float], list[float]]:
    """[C] log-probability of each token given those before it, [C] its lead over the best other token."""
    layout = repeat([Group(prompt, [Completion(tokens, [True] * len(tokens))])], 0).to(model.device)
    hidden = decoder_of(model.causal)(**layout.inputs, use_cache=False).last_hidden_state[0]
    logprobs, margins = [], []
    parts = zip(
        hidden[layout.predictors].split(64), layout.targets.split(64), strict=True
    )  # never [C, V] at once
    for states, targets in parts:
        every = head_of(model.causal).logits(states).log_softmax(-1)
        own = every.gather(-1, targets[:, None])
        others = every.scatter(-1, targets[:, None], -torch.inf).amax(-1)
        logprobs += own[:, 0].tolist()
        margins += (own[:, 0] - others).tolist()
    return logprobs, margins


def _template(chat: Chat) -> str | None:
    template: str | None = chat.tokenizer.chat_template
    return template


@dataclass(frozen=True)
class Difference:
    """How far a model is from what a policy did; nothing is allowed or refused."""

    worst: float
    """Largest difference of a token's log-probability, in nats."""
    mean: float
    """Mean over the tokens, in nats."""
    same_outputs: int
    """Prompts with the same greedy completion, token for token."""
    prompts: int
    tokens: int


def difference(folder: Path, policy: Behaviour, device: str | None = None) -> Difference:
    """Load a model from disk, and measure how far it is from the policy on the policy's own completions."""
    model, chat = load_part(folder, policy, device)
    found = [
        abs(a - b)
        for example in policy.examples
        for a, b in zip(
            forced(model, example.prompt_tokens, example.tokens)[0], example.logprobs, strict=True
        )
    ]
    same = sum(
        completion.tokens == example.tokens
        for example, completion in zip(policy.examples, _greedy(model, chat, policy), strict=True)
    )
    return Difference(max(found), fmean(found), same, len(policy.examples), len(found))


def compare(
    folder: Path,
    policy: Behaviour,
    device: str | None = None,
    four_bits: bool = False,
    loaded: tuple[Model, Chat] | None = None,
    exact: Exact | None = None,
) -> tuple[float, int]:
    """Load a model or an adapter from disk and compare it with the policy.

    Every token of the policy's completions is compared by log-probability. The greedy completions must be the same
    token for token, unless at a near-tie: a step where the policy's token led by no more than twice the tolerance
    (both candidates may have moved by the tolerance, towards each other); what follows it is not compared.

    Args:
        folder: the model or adapter.
        policy: what `observe` saw.
        device: to load on.
        four_bits: load the adapter's base in 4 bits, as it was trained.
        loaded: what `folder` holds, if it is loaded already.
        exact: of a merged model in 16 bits: the policy in fp32, which is then what it is compared with.

    Returns:
        the largest difference of a log-probability in nats; how many completions parted at a near-tie.

    Raises:
        BehaviourError: folder, prompt, token and difference.
    """
    model, chat = loaded or load_part(folder, policy, device, four_bits)
    if _template(chat) != policy.chat_template:
        raise BehaviourError(
            f"{folder.name}/: the chat template is not the one that the policy was trained with"
        )
    limits = exact.allowed if exact else TOLERANCES[policy.dtype]
    differences = [
        _compare_logprobs(
            f"{folder.name}/, prompt {number}",
            model,
            chat,
            example,
            exact.logprobs[number] if exact else example.logprobs,
            limits[0] if exact else limits,
            f"in {policy.dtype}" if exact is None else f"{WORST:g} times what rounding does to the policy",
        )
        for number, example in enumerate(policy.examples)
    ]
    every = [x for found in differences for x in found]
    if exact and not (mean := fmean(every)) <= (most := min(limits[1], TOLERANCES[policy.dtype][1])):
        raise BehaviourError(
            f"{folder.name}/: log-probabilities differ from the policy in fp32 by {mean:.1e} nats in the mean over "
            f"{len(every)} tokens; {most:.1e} is allowed, and in {policy.dtype} the policy itself differs by "
            f"{exact.mean_noise:.1e}"
        )
    near_ties = sum(
        _near_tie(f"{folder.name}/, prompt {number}", chat, example, completion.tokens, limits[0])
        for number, (example, completion) in enumerate(
            zip(policy.examples, _greedy(model, chat, policy), strict=True)
        )
    )
    return max(every), near_ties


def in_fp32(model: Model, policy: Behaviour) -> Exact:
    """The policy of a model in 16 bits, computed in fp32 by PEFT's own layers; the model stays in fp32."""
    rounded = [forced(model, e.prompt_tokens, e.tokens)[0] for e in policy.examples]
    model.network.float()
    return exact_of(rounded, [forced(model, e.prompt_tokens, e.tokens)[0] for e in policy.examples])


def load_part(
    folder: Path, policy: Behaviour, device: str | None, four_bits: bool = False
) -> tuple[Model, Chat]:
    """A part of a candidate, with the policy's stop tokens. BehaviourError: it cannot be loaded."""
    try:
        model = load(str(folder), dtype=getattr(torch, policy.dtype), device=device, four_bits=four_bits)
        return model, Chat(model.tokenizer, tuple(policy.stop_tokens))
    except Exception as error:  # whatever broken files make transformers or PEFT raise
        raise BehaviourError(f"{folder.name}/ cannot be loaded: {error}") from error


def _greedy(model: Model, chat: Chat, policy: Behaviour) -> list[Completion]:
    """A completion for every prompt of the policy's."""
    params = SamplingParams(policy.max_new_tokens, temperature=0.0)
    prompts = [example.prompt_tokens for example in policy.examples]
    return [completion for (completion,) in LocalSampler(model, chat).sample(prompts, 1, params)]


def _compare_logprobs(
    where: str,
    model: Model,
    chat: Chat,
    example: Example,
    expected: Sequence[float],
    limits: float | tuple[float, float],
    said: str,
) -> list[float]:
    """[C] differences in nats; `limits` at one token, and in the mean if there are two of them."""
    told, given = example.told, example.prompt
    prompt = chat.prompt(given if isinstance(given, str) or not told else Messages(given, told))
    at = _first_difference(prompt, example.prompt_tokens)
    if at is not None:
        raise BehaviourError(f"{where}: the tokenizer makes other tokens of it, from token {at} on")
    logprobs, _ = forced(model, prompt, example.tokens)
    differences = [abs(a - b) for a, b in zip(logprobs, expected, strict=True)]
    t = max(range(len(differences)), key=lambda t: (math.isnan(differences[t]), differences[t]))
    worst, mean = differences[t], fmean(differences)
    allowed, allowed_mean = limits if isinstance(limits, tuple) else (limits, limits)
    if worst <= allowed and mean <= allowed_mean:  # NaN is neither
        return differences
    raise BehaviourError(
        f"{where}, token {t} ({chat.tokenizer.decode([example.tokens[t]])!r}): log-probability {logprobs[t]:.6f} "
        f"where the policy had {expected[t]:.6f}, a difference of {worst:.1e} nats (mean {mean:.1e} over "
        f"{len(differences)} tokens); {said} {allowed:.2g} is allowed (mean {allowed_mean:.2g})"
    )


def _near_tie(where: str, chat: Chat, example: Example, tokens: list[int], allowed: float) -> bool:
    """False: the same tokens. True: others, from a near-tie on."""
    t = _first_difference(tokens, example.tokens)
    if t is None:
        return False
    if t < len(example.tokens) and example.margins[t] <= 2 * allowed:
        return True
    there, policy = (chat.tokenizer.decode(x[t : t + 8]) for x in (tokens, example.tokens))
    raise BehaviourError(
        f"{where}, token {t}: greedily it continues {there!r} where the policy continued {policy!r}, and there was "
        "no near-tie"
    )


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Where two sequences part, or None."""
    for t, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return t
    return None if len(a) == len(b) else min(len(a), len(b))
