"""A short measurement of one training on this machine: the real model, at the real lengths, for some seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ...batch import Batch, Outputs
from ...learner import Learner
from ...learner.memory import free_bytes, peak_bytes, reset_peak
from ...methods import Method
from ...samplers import SamplingParams
from ...training.build import prepare
from ...types import Group
from ..planned import Planned
from .work import Work, groups_of

FIRST, MORE = 2, 6
"""Tokens of two samplings, whose difference is that of decoding steps alone."""


@dataclass(frozen=True)
class Rates:
    """Seconds of parts of a step."""

    token: float
    """One token, forward and backward."""
    measured: float
    """One token, forward only."""
    optimizer: float
    """One optimizer step."""


def measure(work: Work, budget: float) -> Planned:
    """Plan a training from about so many seconds of it; loading the model comes on top."""
    spec, notes = work.spec, list(work.assumed)
    if spec.placement.vllm:
        notes.append("time on the vLLM servers is not counted")
    device_memory = None
    with torch.random.fork_rng():
        spec = replace(spec, placement=replace(spec.placement, vllm=""))
        learner, source = prepare(spec, work.task)
        device, method = learner.model.device, spec.method
        free = free_bytes(device)
        reset_peak(device)
        loaded = peak_bytes(device)
        groups = groups_of(work, learner.model.chat)
        batches = [groups[i : i + method.batch_size] for i in range(0, len(groups), method.batch_size)]
        whole = [b for b in batches if len(b) == method.batch_size] or batches
        parts = [list(learner.micro_batches.of(batch)) for batch in whole]
        fed = {id(part): learner.micro_batches.layout(part).fed for batch in parts for part in batch}
        every = [part for batch in parts for part in batch]
        largest = max(every, key=lambda part: fed[id(part)])
        recompute = learner.micro_batches.recomputes(fed[id(largest)])
        rates = _rates(learner, largest, every, fed, budget)
        rollouts = 0.0
        if method.needs.samples and not work.spec.placement.vllm:
            rollouts = _rollouts(source.sampler, whole[0], method, work.length, budget)
        device_memory = peak_bytes(device)
    if free is not None and loaded is not None:
        free += loaded  # what the process has taken already is its own
    passes = passes_of(method, whole[0])
    step = sum(fed.values()) / len(whole)
    again = method.needs.reference + (method.needs.head == "value") + bool(getattr(method, "tis_cap", None))
    once = (
        1.0 if method.needs.samples else min(1.0, 1 / method.epochs)
    )  # of given rows, the reference is kept
    seconds = (
        rollouts
        + step * (passes * rates.token + again * once * rates.measured)
        + math.ceil(passes) * rates.optimizer
    )
    return Planned(
        work.name,
        work.rows,
        work.at_most,
        round(step * passes * work.steps),
        work.steps,
        len(every) / len(whole),
        recompute,
        device_memory,
        free,
        seconds * work.steps,
        assumed=tuple(notes),
        longest=work.longest,
    )


def passes_of(method: Method, batch: Sequence[Group]) -> float:
    """How often a step's groups are learned from."""
    count, plan = 0, method.updates(list(batch))
    part = next(plan, None)
    while part is not None:
        count += len(part)
        try:
            part = plan.send({})
        except StopIteration:
            part = None
    return count / len(batch)


def _rates(
    learner: Learner, largest: list[Group], parts: list[list[Group]], fed: Mapping[int, int], budget: float
) -> Rates:
    """Time micro-batches: the largest one first, which also shows the peak of memory."""
    learner.learning_rate = 0.0
    learner.packs  # noqa: B018  its self-check belongs to no step
    started = perf_counter()
    warm = _update(learner, largest)
    tried = perf_counter()
    learner.optimizer.apply(0.0, 1.0)
    optimizer = perf_counter() - tried
    taken, tokens = 0.0, 0
    for part in parts:
        if perf_counter() + warm > started + budget / 2:
            break
        taken += max(0.0, _update(learner, part) - optimizer)
        tokens += fed[id(part)]
    token = taken / tokens if tokens else max(0.0, warm - optimizer) / fed[id(largest)]
    tried, part = perf_counter(), parts[0]
    learner.scores(part) if learner.model.only_scores else learner.logprobs(part)
    return Rates(token, (perf_counter() - tried) / fed[id(part)], optimizer)


def _update(learner: Learner, groups: list[Group]) -> float:
    """Seconds of an update whose learning rate is 0, with a loss that needs every gradient."""
    started = perf_counter()
    learner.update(groups, _loss)
    return perf_counter() - started


def _loss(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    terms = (outputs.logprobs, outputs.values) if outputs.scores is None else (outputs.scores,)
    return sum((x.mean() for x in terms if x is not None), torch.zeros((), device=terms[0].device)), {}


def _rollouts(sampler: Any, batch: Sequence[Group], method: Method, length: int, budget: float) -> float:
    """Seconds of sampling one step's completions, from a few tokens of as many prompts as the budget allows."""

    def sample(groups: Sequence[Group], tokens: int) -> float:
        started = perf_counter()
        params = SamplingParams(tokens, method.needs.temperature)
        sampler.sample([g.prompt for g in groups], len(groups[0].completions), params)
        return perf_counter() - started

    sample(batch[:1], 1)  # chooses its backend
    alone = sample(batch[:1], MORE)
    taken = batch[: max(1, int(budget / 4 / max(alone, 1e-3)))]
    short = sample(taken, min(FIRST, length))
    if length <= FIRST:
        return short * len(batch) / len(taken)
    step = max(0.0, sample(taken, MORE) - short) / (MORE - FIRST)
    return (short + step * (length - FIRST)) * len(batch) / len(taken)
