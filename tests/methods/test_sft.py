from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from random_groups import VOCABULARY, gradient, make_learner, own_logprobs, random_groups, relative
from tieout.learner import Learner, LearnerConfig, load
from tieout.learner.models.adapters import AdapterConfig
from tieout.methods import SFT
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.loop import train
from tieout.training.schedule import Schedule
from tieout.types import Completion, Group
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]


def test_the_loss_is_the_mean_over_the_trained_tokens_of_the_step(tiny_model: ModelFolder) -> None:
    learner, groups = make_learner(tiny_model("llama")), random_groups()
    found, metrics = gradient(learner, groups, SFT())
    mask = torch.tensor([m for g in groups for c in g.completions for m in c.mask])
    loss = -own_logprobs(learner, groups)[mask].mean()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    exact = torch.autograd.grad(loss, list(learner.model.trained().values()))
    assert relative(found, torch.cat([g.flatten() for g in exact])) < 1e-4


def test_a_model_that_knows_nothing_has_the_loss_of_a_uniform_guess(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"), layout="repeated")
    with torch.no_grad():
        learner.model.head.module.weight.zero_()
    _, metrics = gradient(learner, random_groups(), SFT())
    assert metrics["loss"] == pytest.approx(math.log(VOCABULARY), rel=1e-5)
    assert metrics["entropy"] == pytest.approx(math.log(VOCABULARY), rel=1e-5)


def test_prompts_and_tool_tokens_are_not_trained_on(tiny_model: ModelFolder) -> None:
    """A group of tool tokens only adds nothing to the step, neither to the gradient nor to the mean."""
    learner, groups = make_learner(tiny_model("llama")), random_groups()
    silent = Group(groups[1].prompt, [Completion([5, 6, 7], [False] * 3)])
    with_it, a = gradient(learner, [*groups, silent], SFT())
    without, b = gradient(learner, groups, SFT())
    assert relative(with_it, without) < 1e-5
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


def test_demonstrations_are_learned_by_heart_and_end(tiny_model: ModelFolder) -> None:
    """The whole path: rows, chat template, updates, sampling. What is learned is said, and said to the end."""
    model = load(str(tiny_model("llama")), AdapterConfig(method="full"))
    learner, rows = Learner(model, config=LearnerConfig()), ROWS[:3]
    method = SFT(batch_size=3, learning_rate=1e-2)
    source = Source(make_task(rows=lambda split: rows), model.chat)
    losses: list[float] = []
    train(
        method,
        source,
        learner,
        steps=40,
        schedule=Schedule("constant"),
        on_step=lambda step, metrics: losses.append(metrics["loss"]),
    )
    assert losses[-1] < 0.05 < losses[0]
    sampler, params = LocalSampler(model), SamplingParams(max_new_tokens=8, temperature=0)
    prompts = [model.chat.prompt(row["prompt"]) for row in rows]
    for row, (completion,) in zip(rows, sampler.sample(prompts, 1, params), strict=True):
        assert completion.text == row["completion"]
        assert completion.finish_reason == "stop"
