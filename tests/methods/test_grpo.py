from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bandit import PROMPT, Words, make_bandit, probabilities
from random_groups import (
    flat,
    gradient,
    make_learner,
    own_logprobs,
    random_groups,
    relative,
    stir_weights,
    with_own_logprobs,
)
from tieout.errors import StopTraining
from tieout.learner import Learner
from tieout.methods import GRPO
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.loop import train
from tieout.training.monitors import stop_on_mismatch
from tieout.types import Completion, Group
from tiny_task import make_task

ModelFolder = Callable[[str], Path]
SHAPES = [(9, [7, 3, 12]), (21, [5, 16, 2])]


def mean_per_completion(values: torch.Tensor, groups: list[Group]) -> list[torch.Tensor]:
    """[T] -> mean over each completion's trained tokens."""
    lengths = [len(c.tokens) for g in groups for c in g.completions]
    masks = [torch.tensor(c.mask) for g in groups for c in g.completions]
    return [v[m].mean() for v, m in zip(values.split(lengths), masks, strict=True)]


def test_on_policy_the_gradient_is_that_of_reinforce_with_the_groups_zscore(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    groups = with_own_logprobs(random_groups(SHAPES), learner)
    found, metrics = gradient(learner, GRPO().annotate(groups, learner), GRPO())
    zscores = []
    for group in groups:
        scores = torch.tensor(group.scores, dtype=torch.float64)
        zscores += ((scores - scores.mean()) / (scores.std() + 1e-4)).tolist()
    per_completion = mean_per_completion(own_logprobs(learner, groups), groups)
    loss = -sum(z * m for z, m in zip(zscores, per_completion, strict=True)) / len(zscores)
    exact = torch.autograd.grad(loss, list(learner.model.trained().values()))  # type: ignore[arg-type]
    assert relative(found, torch.cat([g.flatten() for g in exact])) < 1e-4
    assert metrics["mismatch"] < 1e-5
    assert metrics["clipped"] == 0
    assert metrics["loss"] == pytest.approx(0, abs=1e-5)  # advantages of a group sum to zero


def test_groups_without_signal_move_nothing(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    groups = with_own_logprobs(random_groups(SHAPES), learner)
    groups = [replace(g, scores=[0.7] * len(g.completions)) for g in groups]
    found, _ = gradient(learner, GRPO().annotate(groups, learner), GRPO())
    assert found.norm() < 1e-6


def test_long_and_short_completions_weigh_the_same(tiny_model: ModelFolder) -> None:
    """The paper's mean: each completion's tokens are averaged first."""
    learner = make_learner(tiny_model("llama"), stir=False, layout="repeated")
    with torch.no_grad():
        learner.model.head.module.weight.zero_()  # every token is as likely as any other
    long, short = Completion([7] * 30, [True] * 30), Completion([9], [True])
    (group,) = with_own_logprobs([Group([1, 2, 3], [long, short], [1.0, 0.0])], learner)
    lower = replace(
        group,
        completions=[replace(c, logprobs=[x + 0.1 for x in c.logprobs or []]) for c in group.completions],
    )
    _, metrics = gradient(learner, GRPO().annotate([lower], learner), GRPO())
    ratio, z = math.exp(-0.1), math.sqrt(0.5) / (1 + 1e-4 / math.sqrt(0.5))
    assert metrics["loss"] == pytest.approx((-ratio * z + ratio * z) / 2, abs=1e-5)
    assert metrics["mismatch"] == pytest.approx(0.1, rel=1e-3)


def test_tokens_past_the_clip_give_no_gradient(tiny_model: ModelFolder) -> None:
    learner, method = make_learner(tiny_model("llama")), GRPO(epsilon_low=0.1, epsilon_high=0.3)
    base = with_own_logprobs(random_groups([(9, [5, 5])], tools=False), learner)
    (group,) = [replace(g, scores=[1.0, -1.0]) for g in base]

    def shifted(good: float, bad: float) -> Group:
        old = [[x - s for x in c.logprobs or []] for c, s in zip(group.completions, (good, bad), strict=True)]
        completions = [replace(c, logprobs=o) for c, o in zip(group.completions, old, strict=True)]
        return replace(group, completions=completions)

    past, metrics = gradient(
        learner, method.annotate([shifted(math.log(1.31), math.log(0.89))], learner), method.loss
    )
    assert past.norm() < 1e-7
    assert metrics["clipped"] == 1
    inside, metrics = gradient(
        learner, method.annotate([shifted(math.log(1.29), math.log(0.91))], learner), method.loss
    )
    assert inside.norm() > 1e-3
    assert metrics["clipped"] == 0


def test_the_kl_is_zero_at_the_start_and_pulls_back_after(tiny_model: ModelFolder) -> None:
    learner, method = make_learner(tiny_model("llama"), stir=False), GRPO(beta=0.5)
    groups = with_own_logprobs(random_groups(SHAPES), learner)
    groups = [replace(g, scores=[0.0] * len(g.completions)) for g in groups]  # nothing but the KL pulls
    found, metrics = gradient(learner, method.annotate(groups, learner), method)
    assert metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert found.norm() < 1e-6
    stir_weights(learner)
    groups = with_own_logprobs(groups, learner)
    annotated = method.annotate(groups, learner)
    _, before = gradient(learner, annotated, method)
    assert before["kl"] > 0.01
    learner.learning_rate = 1e-3
    for _ in range(5):
        learner.update(method.annotate(with_own_logprobs(groups, learner), learner), method.loss)
    _, after = gradient(learner, method.annotate(groups, learner), method)
    assert after["kl"] < before["kl"]


# ---------------------------------------------------------------- against enumeration


@pytest.fixture
def bandit() -> Learner:
    return make_bandit()


def test_the_expected_update_is_the_gradient_of_expected_reward(bandit: Learner) -> None:
    """All nine groups of two words are enumerated, each with its probability and its own update.

    With rewards of 0 and 1 the z-score of a pair is its centred score over sqrt(1/2), and the group's own score in its
    baseline takes (K - 1) / K: both constants are known, the direction must be exact.
    """
    reward = [0.0, 1.0, 0.0]
    policy = probabilities(bandit)
    parameters = list(bandit.model.trained().values())
    exact = torch.autograd.grad((policy * torch.tensor(reward)).sum(), parameters, allow_unused=True)
    exact_flat = torch.cat([g.flatten() for g in exact if g is not None])
    policy = policy.detach()
    total = torch.zeros_like(exact_flat)
    for pair in itertools.product(range(3), repeat=2):
        completions = [Completion([w], [True], [policy[w].log().item()]) for w in pair]
        groups = [Group(PROMPT, completions, [reward[w] for w in pair])]
        found, _ = gradient(bandit, GRPO().annotate(groups, bandit), GRPO())
        total -= policy[list(pair)].prod() * found
    scale = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert exact_flat.norm() > 0.01
    assert relative(total / scale, exact_flat) < 1e-4


def test_rewarded_words_become_likely(bandit: Learner) -> None:
    """The whole loop by hand: sample, score, update; the probability is read off the model."""
    sampler, method = LocalSampler(bandit.model, Words()), GRPO(group_size=8)  # type: ignore[arg-type]
    bandit.learning_rate = 3e-3
    before = probabilities(bandit)[1].item()
    for step in range(25):
        params = SamplingParams(max_new_tokens=1, seed=step)
        (completions,) = sampler.sample([PROMPT], 8, params)
        groups = [Group(PROMPT, completions, [float(c.tokens == [1]) for c in completions])]
        metrics = bandit.update(method.annotate(groups, bandit), method.loss)
        assert metrics["mismatch"] < 1e-5
    assert probabilities(bandit)[1].item() > before + 0.3


# ---------------------------------------------------------------- rollouts


def rollouts(learner: Learner, **options: Any) -> tuple[GRPO, Source]:
    method = GRPO(**{"batch_size": 2, "group_size": 3, "max_new_tokens": 6, **options})
    return method, Source(make_task(), learner.model.chat, LocalSampler(learner.model))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampled_groups_agree_with_the_learner(tiny_model: ModelFolder, temperature: float) -> None:
    learner = make_learner(tiny_model("qwen2"))
    learner.temperature = temperature
    method, source = rollouts(learner, temperature=temperature)
    groups = next(method.collect(source))
    assert [len(g.completions) for g in groups] == [3, 3]
    assert flat([g.scores for g in groups]).std() > 0
    _, metrics = gradient(learner, method.annotate(groups, learner), method)
    assert metrics["mismatch"] < 1e-5


def test_a_learner_at_another_temperature_is_caught(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    method, source = rollouts(learner, temperature=0.5)
    with pytest.raises(StopTraining, match="another temperature"):
        train(method, source, learner, steps=1, monitors=[stop_on_mismatch(0.1)])


def test_a_sampler_with_old_weights_is_caught(tiny_model: ModelFolder) -> None:
    """It answers from the weights it was born with, as a server that missed its update does."""
    learner, old = (make_learner(tiny_model("llama")) for _ in range(2))
    method, source = rollouts(learner)
    stale = LocalSampler(old.model)
    stale.load = lambda learner: None  # type: ignore[method-assign]
    source.sampler = stale
    train(method, source, learner, steps=1, monitors=[stop_on_mismatch(0.1)])  # still the same
    stir_weights(learner, 0.1, seed=5)
    with pytest.raises(StopTraining, match="may hold old weights"):
        train(method, source, learner, steps=2, monitors=[stop_on_mismatch(0.1)])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="group_size is 1"):
        GRPO(group_size=1)
    with pytest.raises(ValueError, match="temperature is 0"):
        GRPO(temperature=0)
