"""Time of asking challengers, measured on the base: N samples per row, or a longer prompt before each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from ...learner.memory import free_bytes, peak_bytes, reset_peak
from ...rows.checks import with_prompts
from ...rows.spread import spread
from ...samplers import SamplingParams
from ...samplers.api.opening import is_api
from ...samplers.local.sampler import LocalSampler
from ...types import Prompt
from ..challengers import before_of
from ..kinds import Evaluate
from ..links import BASE
from ..planned import Planned
from ..run import Run
from ..stages.challengers import policy_of
from ..stages.evaluate import is_done
from .rollouts import FIRST, MORE


@dataclass(frozen=True)
class Asked:
    """One challenger of one stage."""

    name: str
    prompts: Sequence[Prompt]
    """Every prompt that it answers, as the base gets it."""
    count: int
    """Samples of each."""
    temperature: float
    max_new_tokens: int


def asked_of(run: Run) -> list[Asked]:
    """The challengers of a run that were not evaluated yet."""
    found = []
    for stage in run.recipe.stages:
        if not isinstance(stage, Evaluate):
            continue
        models = {one.name for one in run.recipe.stages}
        waits = stage.selector in models and not run.adapter(stage.selector).exists()
        for name, own in stage.challenged.items():
            if is_api(own.model):
                continue  # its time is the server's
            trained = policy_of(run, stage, name).trained
            later = (own.best_of_n and waits) or (trained is not None and not trained.exists())
            if later or not is_done(run, stage, name):
                found.append(_asked(run, stage, name))
    return found


def _asked(run: Run, stage: Evaluate, name: str) -> Asked:
    own = stage.challenged[name]
    rows = [row for given in run.asked(stage).values() for row in with_prompts(given)]
    rows += with_prompts([one.row for one in run.again(stage)])
    rows += with_prompts(run.controls.rows("test")) if run.controls else []
    prompts = [row["prompt"] for row in rows]
    called = f"{stage.name}, {name}"
    if own.prompt.given:
        prompts = list(map(before_of(run.task, own.prompt, stage.name), prompts))
    count, temperature = (own.best_of_n, stage.temperature) if own.best_of_n else (1, 0.0)
    return Asked(called, prompts, count, temperature, run.task.max_new_tokens)


def plan_asked(run: Run, asked: Sequence[Asked], budget: float, length: int = 0) -> list[Planned]:
    """Plan challengers from about so many seconds of sampling the base; loading it comes on top."""
    if not asked:
        return []
    with torch.random.fork_rng():
        sampler = LocalSampler(run.open(run.policy(BASE)), drafts=run.recipe.placement.drafts)
        return [_plan(sampler, one, budget / len(asked), length) for one in asked]


def _plan(sampler: LocalSampler, asked: Asked, budget: float, length: int) -> Planned:
    device, most = sampler.model.device, length or asked.max_new_tokens
    free = free_bytes(device)
    reset_peak(device)
    if free is not None:
        free += peak_bytes(device) or 0  # what the process has taken already is its own

    def sample(part: Sequence[Prompt], tokens: int) -> tuple[int, float]:
        """(tokens that were written, seconds)."""
        started = perf_counter()
        prompts = [sampler.chat.prompt(prompt) for prompt in part]
        made = sampler.sample(prompts, asked.count, SamplingParams(min(tokens, most), asked.temperature))
        return sum(len(one.tokens) for group in made for one in group), perf_counter() - started

    # As many as are decoded at the same time, if there is time to measure that: few of them cost more each.
    most_prompts, size = min(len(asked.prompts), max(1, sampler.batch_size // asked.count)), 1
    sample(asked.prompts[:1], 1)  # the sampler chooses how it decodes
    part = asked.prompts[:1]
    while (short := sample(part, FIRST)[1]) < budget / 12 and size < most_prompts:
        size = min(most_prompts, 4 * size)
        part = spread(asked.prompts, size)
    step = max(0.0, sample(part, MORE)[1] - short) / (MORE - FIRST)
    seconds, written, to_the_end = short + step * max(0, most - FIRST), most * asked.count * len(part), False
    if seconds <= budget:
        (written, seconds), to_the_end = sample(part, most), True
    times = len(asked.prompts) / len(part)
    mean = written / (asked.count * len(part))
    lengths = f"{mean:.0f} tokens on average" if to_the_end else f"{most} tokens each"
    return Planned(
        asked.name,
        len(asked.prompts),
        False,
        round(written * times),
        0,
        0.0,
        False,
        peak_bytes(device),
        free,
        seconds * times,
        assumed=(
            f"{asked.count * len(asked.prompts):,} answers of {lengths}; time of rewards is not counted",
        ),
        longest=not to_the_end,
    )
