"""Sampled and scored completions that pairs are made of, from a policy that is loaded here or a model behind an API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from ...chat.template import Chat
from ...evidence.pool import calls_of, scored
from ...rewards.processes.workers import Workers
from ...rewards.scoring.failures import Failures
from ...rows.checks import with_prompts
from ...rows.spread import spread
from ...samplers import SamplingParams
from ...samplers.api import APISampler
from ...samplers.best_of_n import several
from ...samplers.local.sampler import LocalSampler
from ...source import Source
from ...tasks import Task
from ...training.progress import bar
from ...types import Group, Row
from ..pair_rules import SampledSettings
from .measures import Scored

CHUNK = 64
"""Prompts that are sampled and scored at a time."""


@dataclass(frozen=True)
class Ground:
    """What pairs are made on: a run, or one command."""

    task: Task
    seed: int
    console: Console
    sampler: Callable[[str], LocalSampler | APISampler]
    """Of a policy by name."""
    workers: Callable[[], Workers | None]
    """Where rewards run; started when first asked for."""
    carry: bool = False
    """Whether pairs keep the other columns of their row."""


@dataclass
class Batch:
    """Some prompts with their completions."""

    groups: list[Scored]
    asked: int
    """Prompts; those without two scored completions have no group."""


def batches(ground: Ground, stage: SampledSettings, policy: str) -> Iterator[tuple[Batch, Chat | None]]:
    """Groups of sampled and scored completions, some prompts at a time; the chat is None behind an API."""
    sampler = ground.sampler(policy)
    if isinstance(sampler, APISampler):
        found, chat, total = _of_api(ground, stage, sampler), None, len(_rows(ground, stage))
    else:
        given = Source(ground.task, sampler.chat, sampler, seed=ground.seed, workers=ground.workers())
        rows = given.take(min(stage.max_prompts or len(given.rows), len(given.rows)))
        found, chat, total = _of_policy(ground, stage, given, rows), sampler.chat, len(rows)
    points, count = 0.0, 0
    with bar(ground.console, "sampling", total) as shown:
        for batch in found:
            yield batch, chat
            points += sum(score for group in batch.groups for score in group.scores)
            count += sum(len(group.texts) for group in batch.groups)
            shown.advance(batch.asked, {"score": points / max(1, count)})
    ground.console.print(f"  mean score of samples {points / max(1, count):.3f}", highlight=False)


def _of_policy(ground: Ground, stage: SampledSettings, given: Source, rows: Sequence[Row]) -> Iterator[Batch]:
    rows = sorted(rows, key=lambda row: len(str(row["prompt"])))  # similar lengths are decoded together
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        seed = ground.seed * 1_000_003 + start
        params = SamplingParams(ground.task.max_new_tokens, stage.temperature, seed=seed)
        groups = given.rollout(part, stage.num_completions, params)
        yield Batch([_scored(group) for group in groups], len(part))


def _of_api(ground: Ground, stage: SampledSettings, sampler: APISampler) -> Iterator[Batch]:
    """One seed for all parts: which prompts are asked together changes no sample, so that replies are found again."""
    params = SamplingParams(ground.task.max_new_tokens, stage.temperature, seed=ground.seed)
    rows, reward, failures = _rows(ground, stage), ground.task.reward, Failures("the reward")
    assert reward is not None, "an environment is refused"
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        prompts = [row["prompt"] for row in part]
        sampled = several(sampler, prompts, stage.num_completions, params)
        groups = []
        calls = calls_of(part, prompts, sampled)
        for row, (texts, outcomes) in zip(part, scored(reward, calls, ground.workers()), strict=True):
            kept = [(text, one) for text, one in zip(texts, outcomes, strict=True) if one.worth is not None]
            failures.count(outcomes)
            if len(kept) > 1:
                parts = [{k: v for k, v in one.parts.items() if v is not None} for _, one in kept]
                scores = [float(one.worth or 0.0) for _, one in kept]
                groups.append(Scored(row, [text for text, _ in kept], scores, parts, [""] * len(kept)))
        failures.check()
        yield Batch(groups, len(part))


def _rows(ground: Ground, stage: SampledSettings) -> list[Row]:
    return spread(list(with_prompts(ground.task.rows("train"))), stage.max_prompts)


def _scored(group: Group) -> Scored:
    """A sampled group; what each part of a combined reward gave is in its columns."""
    assert group.scores is not None
    given = {k.removeprefix("reward/"): v for k, v in group.columns.items() if k.startswith("reward/")}
    parts = [
        {name: values[i] for name, values in given.items() if values[i] is not None}
        for i in range(len(group.completions))
    ]
    opened = [c.opened for c in group.completions]
    return Scored(group.row, [c.text for c in group.completions], group.scores, parts, opened)
