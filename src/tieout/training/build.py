"""Build what a specification names: the model, its learner, the source of its groups, the processes of its rewards."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import InputError
from ..learner import AdapterConfig, Learner, Model, load
from ..learner.models.bases import Bases
from ..learner.models.loading import load_chat
from ..learner.parallel import randomness, sharding
from ..rewards.library.reward_model import ModelReward, SharedReward, models_in
from ..rewards.processes.workers import Workers, start_workers
from ..rewards.scoring.runner import Combined, Limits
from ..samplers import PolicySampler
from ..samplers.local.sampler import LocalSampler
from ..samplers.staleness import StalenessCheck
from ..samplers.tinker.sampler import ServedStaleness, TinkerSampler
from ..samplers.vllm.sampler import VLLMSampler
from ..source import Source
from ..tasks import Task
from ..types import Reward
from .served import open_served
from .spec import TrainSpec
from .teachers import open_teachers


def prepare(spec: TrainSpec, task: Task, bases: Bases | None = None) -> tuple[Learner, Source]:
    """Load the model and make the learner and the source; raises for whatever is wrong with them.

    Random numbers begin at the seed: dropout, and what a reward or method of the user's draws, are the same in a stage
    that is trained in a process of its own as after the stages before it.

    `bases` holds the base that is loaded already, if this run may use it.
    """
    made = _prepare_served(spec, task) if spec.engine == "tinker" else _prepare_here(spec, task, bases)
    randomness.seed(spec.seed)
    return made


def _prepare_served(spec: TrainSpec, task: Task) -> tuple[Any, Source]:
    learner = open_served(spec)
    drawn = ServedStaleness(TinkerSampler(learner)) if spec.method.needs.samples else None
    return learner, Source(task, learner.model.chat, drawn, seed=spec.seed)


def _prepare_here(spec: TrainSpec, task: Task, bases: Bases | None) -> tuple[Learner, Source]:
    method, needs, device = spec.method, spec.method.needs, spec.placement.device
    if sharding.wanted():
        bases = None  # the network would be cut over the ranks
    options: dict[str, Any] = {"head": needs.head, "value_adapter": needs.value_adapter, "bases": bases}
    options["dtype"] = spec.dtype
    model = open_model(spec.model, spec.start, spec.adapter, spec.seed, device, needs.reference, **options)
    learner = Learner(model, method.learning_rate, spec.learner, needs.temperature)
    if learner.sharded and (needs.samples or needs.taught):
        raise InputError(
            f"{type(method).__name__} samples or has a teacher, and a model that is cut over the ranks cannot: leave "
            "FSDP out, or train on given completions"
        )
    sampler = _sampler(spec, model) if needs.samples else None
    if needs.teachers:
        learner.teachers = open_teachers(needs, learner, model.chat)
    if needs.reward_model:
        model.add_reward(Path(needs.reward_model))
        reward = SharedReward(learner, load_chat(needs.reward_model), folder=Path(needs.reward_model))
        task = replace(task, reward=reward)
    return learner, Source(task, model.chat, sampler, seed=spec.seed)


def _sampler(spec: TrainSpec, model: Model) -> PolicySampler:
    """A sampler in this process, or vLLM servers behind a check for stale weights."""
    return (
        StalenessCheck(VLLMSampler(spec.placement.vllm, model.chat))
        if spec.placement.vllm
        else LocalSampler(model, drafts=spec.placement.drafts)
    )


def under_deadline(rewards: Sequence[Reward], count: int, seconds: float, console: Console) -> Workers | None:
    """Processes that call these rewards; None: rewards run in this process.

    That is logged, except for reward models, which always do.
    """
    workers = None
    if any(isinstance(reward, ModelReward) for reward in rewards):
        return None
    if any(model for reward in rewards for model in models_in(reward)):
        console.print(
            "  no deadline for rewards: one of them is a reward model, which is loaded once, in this process"
        )
        return None
    try:
        for reward in rewards:
            if workers is None:
                workers = start_workers(reward, count, Limits(seconds))
            elif not isinstance(reward, Combined) and not inspect.iscoroutinefunction(reward):
                workers.load(reward)
    except ValueError as error:
        if workers is not None:
            workers.close()
        console.print(f"  no deadline for rewards: {error}", markup=False, highlight=False)
        return None
    return workers


def open_model(
    name: str,
    start: Path | None,
    adapter: AdapterConfig | None = None,
    seed: int = 0,
    device: str | None = None,
    keep_reference: bool = False,
    **options: Any,
) -> Model:
    """The base with what a stage left (an adapter, or a whole model); `adapter` None: only to sample from."""
    if start is not None and not (start / "adapter_config.json").exists():
        name, start = str(start), None
    return load(
        name, adapter, start=start, seed=seed, device=device, keep_reference=keep_reference, **options
    )
