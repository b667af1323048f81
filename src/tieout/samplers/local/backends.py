"""Decoding backends, fastest first. The first that agrees with the model's own forward is used.

| backend | for | each prompt | samples depend on the batch |
|---|---|---|---|
| lean | the families that `lean.py` knows | once | no |
| shared | every architecture whose prompts may be shared | once | no |
| batched | others: transformers' continuous batching | once | yes |
| plain | the rest: transformers' cache | once per completion | no |
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...learner.models.model import Model, why_not_shared
from ...learner.prefix.selfcheck import beyond_rounding
from .. import SamplingParams
from .batched import generate_batched
from .cpu.lean import LeanStep, NotLean
from .cpu.threads import in_parts
from .decoding.decode_job import DecodeJob
from .decoding.decoder import Decoder, SharedStep, Step
from .decoding.drafts import Drafts
from .decoding.sampling import Request
from .plain import generate_plainly

BackendName = Literal["lean", "shared", "batched", "plain"]


def _lean(network: Any, job: DecodeJob) -> None:
    step = LeanStep(network)

    in_parts(network, job, lambda part: _decode(network, step, part))


def _shared(network: Any, job: DecodeJob) -> None:
    _decode(network, SharedStep(network), job)


def _decode(network: Any, step: Step, job: DecodeJob) -> None:
    limits = job.max_rows, job.cache_bytes, job.ended, job.drafts, job.kept
    Decoder(network, step, job.params, job.stop_tokens, *limits).run(job.prompts, job.requests)


def _batched(network: Any, job: DecodeJob) -> None:
    generate_batched(network, job.prompts, job.requests, job.params, job.stop_tokens, job.max_rows)
    job.ended(sum(map(len, job.requests)))


def _plain(network: Any, job: DecodeJob) -> None:
    order = sorted(range(len(job.prompts)), key=lambda i: len(job.prompts[i]))
    size = max(1, job.max_rows // len(job.requests[0]))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        prompts, requests = [job.prompts[i] for i in part], [job.requests[i] for i in part]
        generate_plainly(network, prompts, requests, job.params, job.stop_tokens)
        job.ended(sum(map(len, requests)))


BACKENDS: dict[BackendName, Callable[[Any, DecodeJob], None]] = {
    "lean": _lean,
    "shared": _shared,
    "batched": _batched,
    "plain": _plain,
}


DRAFTING: tuple[BackendName, ...] = ("lean", "shared")
"""Those that can use drafts."""


@dataclass(frozen=True)
class Choice:
    """The backend of a model, and the reasons against faster ones."""

    backend: BackendName
    reason: str = ""


_chosen: WeakKeyDictionary[Model, dict[bool, Choice]] = WeakKeyDictionary()


def choose(model: Model, network: Any, drafting: bool = False) -> Choice:
    """The fastest backend that gives this network's own log-probabilities; found out once a model, on first use.

    Args:
        model: what is decoded, for its name and architecture.
        network: the same with its adapter folded in.
        drafting: whether drafts are used, which is then checked too.
    """
    chosen = _chosen.setdefault(model, {})
    if drafting not in chosen:
        chosen[drafting] = _choose(model, network, drafting)
    return chosen[drafting]


def _choose(model: Model, network: Any, drafting: bool) -> Choice:
    reasons: list[str] = []
    unexpected = False
    unshared = why_not_shared(model)
    if unshared:
        reasons.append(f"its prompts cannot be shared: {unshared}")
    names: list[BackendName] = ["batched"] if unshared else ["lean", "shared", "batched"]
    for name in names:
        try:
            problem = disagreement(network, BACKENDS[name], drafting and name in DRAFTING)
        except NotLean as error:
            reasons.append(f"{name}: {error}")
            continue
        if problem is None:
            break
        reasons.append(f"{name}: {problem}")
        unexpected = True
    else:
        name = "plain"
    choice = Choice(name, "; ".join(reasons))
    if unexpected or unshared:
        warnings.warn(
            f"the sampler decodes {model.name} by its {name!r} backend, not the fastest: {choice.reason}",
            stacklevel=4,
        )
    return choice


# ---------------------------------------------------------------------- the self-check


def disagreement(
    network: Any, decode: Callable[[Any, DecodeJob], None], drafting: bool = False
) -> str | None:
    """None if the log-probabilities of a backend are those of the network's own forward, else how far apart they are.

    On random prompts of several lengths, more than there are rows for, so that rows are refilled; if it drafts, once
    more with drafts that go wrong halfway. The bound is eight times the noise between plain forwards of the same
    tokens: together, one by one, and with attention summed in another order. A backend that does not run at all
    fails too.
    """
    generator = torch.Generator().manual_seed(0)
    vocabulary = network.config.get_text_config().vocab_size
    prompts = [torch.randint(0, vocabulary, (n,), generator=generator).tolist() for n in (12, 5, 9)]
    params = SamplingParams(max_new_tokens=8)
    stop_tokens, drafts = range(0, vocabulary, 8), Drafts()
    computed: list[tuple[list[int], list[int]]] = []
    for used in (None, drafts) if drafting else (None,):
        requests = [[Request.make(params, 2 * i + k) for k in range(2)] for i in range(len(prompts))]
        try:
            decode(network, DecodeJob(prompts, requests, params, stop_tokens, max_rows=4, drafts=used))
            sequences = [(p, r.tokens) for p, group in zip(prompts, requests, strict=True) for r in group]
            if sequences != computed:  # drafts change no token
                together, *others = _plain_forwards(network, sequences)
                computed = sequences
        except (torch.OutOfMemoryError, NotLean):
            raise
        except Exception as error:
            return f"it failed with {type(error).__name__}: {error}"
        sampled = torch.tensor([x for group in requests for r in group for x in r.logprobs])
        problem = beyond_rounding(sampled, together, others, network.dtype)
        if problem:
            return f"with drafts: {problem}" if used else problem
        halfway = [[[*r.tokens[:3], 1, *r.tokens[4:]] for r in group] for group in requests]
        drafts.hints = {tuple(p): texts for p, texts in zip(prompts, halfway, strict=True)}
    return None


@torch.no_grad()
def _plain_forwards(network: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
    """Log-probabilities of the same tokens three times: together, one by one, with attention in another order."""
    together = _logprobs(network, sequences)
    apart = torch.cat([_logprobs(network, [sequence]) for sequence in sequences])
    with sdpa_kernel(SDPBackend.MATH):
        return [together, apart, _logprobs(network, sequences)]


def _logprobs(network: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Of all completions' tokens, by a plain forward; padded at the end, which no token sees."""
    width = max(len(p) + len(c) for p, c in sequences)
    rows = [[*p, *c, *[0] * (width - len(p) - len(c))] for p, c in sequences]
    logits = network(input_ids=torch.tensor(rows, device=network.device), use_cache=False).logits
    logprobs = logits.float().log_softmax(-1).cpu()
    parts = [
        logprobs[i, len(p) - 1 : len(p) + len(c) - 1].gather(-1, torch.tensor(c)[:, None])[:, 0]
        for i, (p, c) in enumerate(sequences)
    ]
    return torch.cat(parts)
