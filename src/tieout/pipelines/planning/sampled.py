"""Time of what stages sample, measured on the base: evaluation, challengers, pairs, demonstrations, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import Any

import torch

from ...learner.memory import free_bytes, peak_bytes, reset_peak
from ...rows.checks import with_prompts
from ...rows.spread import spread
from ...samplers import SamplingParams
from ...samplers.api.opening import is_api
from ...samplers.local.sampler import LocalSampler
from ...tasks import Task
from ...tasks.splits import calibration_rows
from ...training.held_out import right_completion
from ...types import Prompt, Row
from ..alternatives import OptimizePrompt
from ..challengers import before_of
from ..kinds import Calibrate, Demonstrations, Evaluate, Pairs
from ..links import BASE
from ..planned import Planned
from ..run import Run
from ..searching import splits_of
from ..stages.challengers import is_found, is_made, policy_of
from ..stages.evaluate import is_done
from .rollouts import FIRST, MORE

SAMPLED = {"sampled", "judged", "ranked"}
"""Sources of pairs that sample the policy that a stage names."""
RIGHT = 64
"""Right completions whose length is measured."""


@dataclass(frozen=True)
class Asked:
    """Prompts that one or several models answer in the same way."""

    names: tuple[tuple[str, bool], ...]
    """Of each model: what its line is called, and whether it is the base itself."""
    prompts: Sequence[Prompt]
    count: int
    """Samples of each."""
    temperature: float
    max_new_tokens: int
    right: Sequence[tuple[Prompt, Any]] = ()
    """Some prompts with the completion that is right."""
    note: str = ""
    """What is left out."""


def asked_of(run: Run) -> list[Asked]:
    """What the stages of a run have yet to sample. Episodes are left out: how many turns they take is not known."""
    found = list[Asked]()
    if run.task.environment is not None:
        return found
    for stage in run.recipe.stages:
        if isinstance(stage, Evaluate):
            found += _evaluated(run, stage)
        elif (run.folder.path / stage.name / "done.json").exists():
            continue
        elif isinstance(stage, Demonstrations):
            rows = spread(run.task.rows("train"), stage.max_prompts)
            found += _one(run, stage.name, stage.start, rows, stage.num_completions, stage.temperature)
        elif isinstance(stage, OptimizePrompt):
            splits = splits_of(run.task, stage, run.recipe.accept_leakage)[1]
            rows = [*splits.validation, *splits.train]
            times = -(-stage.budget // len(rows))
            found += _one(run, stage.name, stage.start, (rows * times)[: stage.budget], 1, 0.0)
        elif isinstance(stage, Pairs):
            found += _paired(run, stage)
        elif isinstance(stage, Calibrate):
            rows = calibration_rows(run.task, stage.max_rows)
            found += _one(run, stage.name, stage.start, rows, stage.num_completions, stage.temperature)
    return found


def _paired(run: Run, stage: Pairs) -> Iterator[Asked]:
    """Of the policy and of the base, each for as many sources as sample it."""
    rows = spread(run.task.rows("train"), stage.max_prompts)
    own, base = len(SAMPLED & set(stage.sources)), "base" in stage.sources
    if own or base:
        start = stage.start if own else BASE
        yield from _one(
            run, stage.name, start, [*rows] * (own + base), stage.num_completions, stage.temperature
        )


def _one(
    run: Run, name: str, start: str, rows: Sequence[Row], count: int, temperature: float
) -> Iterator[Asked]:
    policy = run.policy(start)
    if rows and not is_api(policy.base):  # the time of an API is its server's
        rows = with_prompts(rows)
        prompts, right = [row["prompt"] for row in rows], _right(run.task, rows)
        names = ((name, policy.trained is None),)
        yield Asked(names, prompts, count, temperature, run.task.max_new_tokens, right)


def _evaluated(run: Run, stage: Evaluate) -> Iterator[Asked]:
    """All models that are asked alike, and each challenger."""
    rows = [row for given in run.asked(stage).values() for row in with_prompts(given)]
    rows += with_prompts([one.row for one in run.again(stage)])
    right = _right(run.task, rows)
    if run.controls:
        controls = with_prompts(run.controls.rows("test"))
        rows, right = [*rows, *controls], [*right, *_right(run.controls, controls)]
    prompts, most = [row["prompt"] for row in rows], run.task.max_new_tokens
    plain, others = list[tuple[str, bool]](), list[Asked]()
    for name in stage.evaluated:
        own, policy = stage.challenged.get(name), policy_of(run, stage, name)
        if is_api(policy.base) or not _waits(run, stage, name):
            continue
        called = f"{stage.name}, {name}", policy.trained is None
        if own is None:
            plain.append(called)
        elif own.best_of_n:
            others.append(Asked((called,), prompts, own.best_of_n, stage.temperature, most, right))
        else:
            told, note = list(prompts), ""
            if not is_found(run, own.prompt):
                note = f"the prompt of {own.prompt.stage} is not found yet and not counted"
            elif own.prompt.given:
                told = list(map(before_of(run.task, own.prompt, stage.name, run.folder.path), prompts))
            others.append(Asked((called,), told, 1, 0.0, most, right, note))
    if plain:
        yield Asked(tuple(plain), prompts, 1, 0.0, most, right)
    yield from others


def _waits(run: Run, stage: Evaluate, name: str) -> bool:
    """Whether a model was not evaluated yet, for it or what chooses among its samples may not be trained yet."""
    own, models = stage.challenged.get(name), {one.name for one in run.recipe.stages}
    later = not is_made(run, stage, name)
    if own is not None and own.best_of_n and stage.selector in models:
        later = later or not run.adapter(stage.selector).exists()
    return later or not is_done(run, stage, name)


def _right(task: Task, rows: Sequence[Row]) -> list[tuple[Prompt, Any]]:
    some = ((row["prompt"], right_completion(task, row)) for row in spread(rows, RIGHT))
    return [(prompt, right) for prompt, right in some if right is not None]


def plan_asked(run: Run, asked: Sequence[Asked], budget: float, length: int = 0) -> list[Planned]:
    """Plan from about so many seconds of sampling the base; loading it comes on top."""
    if not asked:
        return []
    with torch.random.fork_rng():
        sampler = LocalSampler(run.open(run.policy(BASE)), drafts=run.recipe.placement.drafts)
        return [line for one in asked for line in _plan(sampler, one, budget / len(asked), length)]


def _plan(sampler: LocalSampler, asked: Asked, budget: float, length: int) -> list[Planned]:
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
    samples, times = asked.count * len(part), len(asked.prompts) / len(part)
    count = asked.count * len(asked.prompts)

    def line(name: str, mean: float, seconds: float, like: str) -> Planned:
        said = f"{count:,} answers of {mean:.0f} tokens {like}; time of rewards is not counted"
        return Planned(
            name,
            len(asked.prompts),
            False,
            round(mean * count),
            0,
            0.0,
            False,
            peak_bytes(device),
            free,
            seconds * times,
            assumed=(said, *filter(None, [asked.note])),
            longest=like == "each",
        )

    def of_length(mean: float) -> float:
        return short + step * max(0.0, mean - FIRST)

    mean, seconds, like = float(most), of_length(most), "each"
    if seconds <= budget and any(base for _, base in asked.names):
        written, seconds = sample(part, most)
        mean, like = written / samples, "on average"
        if len(part) < len(
            asked.prompts
        ):  # then others take the rows of those that end, and none waits for the longest
            seconds = of_length(mean)
    right = 0.0
    if asked.right and not length:
        tokens = (sampler.chat.given(prompt, [one]).completions[0] for prompt, one in asked.right)
        right = min(most, fmean(map(len, tokens)))
    found = list[Planned]()
    for name, base in asked.names:
        if base or not right:
            found.append(line(name, mean, seconds, like))
        else:
            found.append(line(name, right, of_length(right), "on average, as right ones have"))
    return found
