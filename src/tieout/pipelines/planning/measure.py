"""A short measurement of trainings on this machine: the real model, at the real lengths, for some seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from time import perf_counter

import torch

from ...learner import Learner
from ...learner.memory import free_bytes, peak_bytes, reset_peak
from ...learner.models.bases import Bases
from ...methods import GRPO, Method
from ...training.build import prepare
from ...types import Group
from ..planned import Planned
from .contention import Waited
from .meter import Meter, Part
from .rollouts import Rollouts, probe_peak, rollouts_of
from .work import Work, groups_of

LEAST = 5.0
"""Seconds that the largest micro-batch may take, at least."""
SHARED = 1.25
"""Times that what is measured may take longer than the processor is had."""


def measure(works: Sequence[Work], budget: float, bases: Bases | None = None) -> list[Planned]:
    """Plan trainings from about so many seconds of them; loading models comes on top.

    Trainings of the same model with the same adapter are measured on one copy of it. Random numbers are as before
    afterwards, and a base that was loaded into `bases` is there for the run.
    """
    alike: dict[str, list[Work]] = {}
    for work in works:
        alike.setdefault(_model_of(work), []).append(work)
    found: dict[str, Planned] = {}
    with torch.random.fork_rng():
        for some in alike.values():
            planned = _measure(some, budget * len(some) / len(works), bases)
            found |= {one.name: one for one in planned}
    return [found[work.name] for work in works]


def _model_of(work: Work) -> str:
    """What a training's model, learner and heads are made of."""
    spec, needs = work.spec, work.spec.method.needs
    copied = needs.reference and spec.adapter.method == "full"
    heads = needs.head, needs.value_adapter, needs.reward_model, needs.teachers
    return repr(
        (spec.model, spec.start, spec.dtype, spec.placement.device, spec.adapter, spec.learner, heads, copied)
    )


@dataclass(frozen=True)
class _Step:
    """Steps of one training before their updates are timed."""

    work: Work
    rollouts: Rollouts
    count: int
    """Steps that the micro-batches belong to."""
    parts: list[Part]
    """All micro-batches."""
    planning: float
    """Seconds until the first of them was known: of the learner's checks of itself, which it makes once."""
    collect: float
    """Seconds of making one step's groups, sampling not counted."""

    @property
    def groups(self) -> list[Group]:
        """Of one step."""
        return self.rollouts.groups[: self.work.spec.method.batch_size]


def _measure(works: Sequence[Work], budget: float, bases: Bases | None) -> list[Planned]:
    """Plan trainings of one model."""
    spec = works[0].spec
    learner, _ = prepare(replace(spec, placement=replace(spec.placement, vllm="")), works[0].task, bases)
    device, deadline = learner.model.device, perf_counter() + budget
    free = free_bytes(device)
    reset_peak(device)
    if free is not None:
        free += peak_bytes(device) or 0  # what the process has taken already is its own
    steps = [_step(learner, work, budget / len(works) / 2) for work in works]
    every = sorted((part for step in steps for part in step.parts), key=lambda part: part[1])
    meter = Meter(learner, every[0][0][:1])
    waited = Waited()
    part = meter.update_within(every[-1], max(LEAST, deadline - perf_counter()))
    notes = list[str]()
    if part:
        notes.append(
            f"memory of {every[-1][1]:,} tokens in proportion to {meter.largest:,}: the time was short"
        )
    given = [group for step in steps if not step.work.spec.method.needs.samples for group in step.groups]
    probe = probe_peak(learner, given) if given else None
    planned = list[Planned]()
    for i, step in enumerate(steps):
        left = (deadline - perf_counter()) / (len(steps) - i)
        checks = max(one.planning for one in steps)
        planned.append(_plan(step, meter, free, probe, checks, perf_counter() + left))
    if (times := waited.times) > SHARED:
        notes.append(f"the machine stays as shared as it is: alone, time would be 1/{times:.1f}")
    return [replace(one, assumed=(*one.assumed, *notes)) for one in planned]


def _step(learner: Learner, work: Work, budget: float) -> _Step:
    """Sample or take the groups of some steps, and divide them as the learner does."""
    size, micro_batches = work.spec.method.batch_size, learner.micro_batches
    started = perf_counter()
    given = groups_of(work, learner.model.chat)
    collect = (perf_counter() - started) * size / len(given)
    rollouts = rollouts_of(learner, work, given, budget)
    groups, started = rollouts.groups, perf_counter()
    batches = [groups[i : i + size] for i in range(0, len(groups), size)]
    batches = [b for b in batches if len(b) == size] or batches
    list(micro_batches.of(batches[0]))
    planning = perf_counter() - started
    parts = [(part, micro_batches.layout(part).fed) for batch in batches for part in micro_batches.of(batch)]
    return _Step(work, rollouts, len(batches), parts, planning, collect)


def _plan(
    step: _Step, meter: Meter, free: int | None, probe: int | None, checks: float, deadline: float
) -> Planned:
    """Figures of one training, after updates until the deadline."""
    work, rollouts, learner = step.work, step.rollouts, meter.learner
    method, needs = work.spec.method, work.spec.method.needs
    largest = max(step.parts, key=lambda part: part[1])
    again = needs.reference + (needs.head == "value")
    if isinstance(method, GRPO) and method.updates_per_batch > 1:
        again += method.cap(learner) > 0
    forward = meter.forward(step.parts, needs.reference, deadline) if again else 0.0
    passes, tokens = passes_of(method, step.groups), sum(fed for _, fed in step.parts) / step.count
    # Of given rows, the reference is kept.
    forwards = again * (1.0 if needs.samples else min(1.0, 1 / method.epochs))
    update = tokens * passes * meter.rate(step.parts, deadline) + math.ceil(passes) * meter.optimizer
    seconds = step.collect + rollouts.seconds + tokens * forwards * forward + update
    sampling = rollouts.peak if needs.samples else probe
    found = [x for x in (meter.memory(largest[1]), sampling) if x is not None]
    return Planned(
        work.name,
        work.rows,
        work.at_most,
        round(tokens * passes * work.steps),
        work.steps,
        len(step.parts) / step.count,
        learner.micro_batches.recomputes(largest[1]),
        max(found, default=None),
        free,
        checks + rollouts.once + seconds * work.steps,
        assumed=_assumed(step),
        longest=needs.samples and not rollouts.sampled and work.length >= needs.max_new_tokens,
    )


def _assumed(step: _Step) -> tuple[str, ...]:
    """What is not known, and what was taken for it."""
    work, notes = step.work, list(step.work.assumed)
    if work.spec.placement.vllm:
        notes.append("time on the vLLM servers is not counted")
    if step.rollouts.sampled:
        mean = fmean(len(c.tokens) for g in step.groups for c in g.completions)
        notes.append(f"completions stay as long as the policy writes now: {mean:.0f} tokens on average")
    elif work.spec.method.needs.samples:
        notes.append(work.lengths)
    return tuple(notes)


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
