"""Time of one step's rollouts, and where the policy is there already, how long its completions are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from ...learner import Learner
from ...learner.memory import peak_bytes, release, reset_peak
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...training.probe import PROMPTS
from ...types import Completion, Group
from .work import Work

FIRST, MORE = 2, 6
"""Tokens of two samplings, whose difference is that of decoding steps alone."""


@dataclass(frozen=True)
class Rollouts:
    """Of one step."""

    groups: list[Group]
    """With the completions that were sampled, or with those that were assumed."""
    seconds: float = 0.0
    once: float = 0.0
    """Seconds that only the first step takes: the sampler chooses how it decodes."""
    peak: int | None = None
    sampled: bool = False
    """Whether the completions were sampled to their ends."""


def rollouts_of(learner: Learner, work: Work, groups: list[Group], budget: float) -> Rollouts:
    """Sample one step's prompts: to the end if that is allowed and takes no longer than the budget.

    Otherwise some tokens are sampled, and every completion is taken to be as long as `work.length`.
    """
    needs = work.spec.method.needs
    if not needs.samples or work.spec.placement.vllm:
        return Rollouts(groups)
    sampler = LocalSampler(learner.model, drafts=work.spec.placement.drafts)

    def sample(part: Sequence[Group], tokens: int) -> tuple[list[list[Completion]], float]:
        started = perf_counter()
        params = SamplingParams(min(tokens, work.length), needs.temperature, seed=work.spec.seed)
        found = sampler.sample([g.prompt for g in part], len(part[0].completions), params)
        return found, perf_counter() - started

    device, batch = learner.model.device, groups[: work.spec.method.batch_size]
    reset_peak(device)
    once = sample(batch[:1], 1)[1]
    part = batch[: max(1, int(budget / max(sample(batch[:1], MORE)[1], 1e-3)))]
    short = sample(part, FIRST)[1]
    step = max(0.0, sample(part, MORE)[1] - short) / (MORE - FIRST)
    seconds = (short + step * max(0, work.length - FIRST)) * len(batch) / len(part)
    if work.to_the_end and len(part) == len(batch) and seconds <= budget:
        found, seconds = sample(batch, work.length)
        batch = [replace(g, completions=made) for g, made in zip(batch, found, strict=True)]
        return Rollouts(batch, seconds, once, peak_bytes(device), True)
    return Rollouts(groups, seconds, once, peak_bytes(device))


def probe_peak(learner: Learner, groups: Sequence[Group]) -> int | None:
    """Peak of memory while a policy that learns from given rows is sampled: in probes, and when its stage ends."""
    if learner.model.only_scores:
        return None
    release(learner.model.device)
    reset_peak(learner.model.device)
    LocalSampler(learner.model).sample([g.prompt for g in groups[:PROMPTS]], 1, SamplingParams(MORE))
    return peak_bytes(learner.model.device)
