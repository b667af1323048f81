from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from random_groups import (
    VOCABULARY,
    gradient,
    make_learner,
    own_logprobs,
    random_groups,
    relative,
    stir_weights,
)
from tieout.batch import Batch, Outputs, Totals
from tieout.errors import InputError
from tieout.learner import Learner, LearnerConfig, load
from tieout.learner.models.adapters import AdapterConfig
from tieout.methods import SFT, RejectionSampling
from tieout.methods.sft import marked_general
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


def general_rows(count: int) -> list[Group]:
    return [
        replace(group, row={"general": True}) for group in random_groups([(5, [6]), (8, [4])][:count], seed=5)
    ]


def kept(learner: Learner, groups: list[Group], weight: float) -> tuple[torch.Tensor, dict[str, float]]:
    method = SFT(general_kl=weight)
    return gradient(learner, method.annotate(groups, learner), method)


def test_general_rows_have_no_gradient_until_the_policy_leaves_them(tiny_model: ModelFolder) -> None:
    learner, general = make_learner(tiny_model("llama"), layout="repeated", stir=False), general_rows(2)
    learned, metrics = kept(learner, general, 2.0)
    assert metrics["general_kl"] == pytest.approx(0, abs=1e-6)
    assert learned.norm() < 1e-5 * gradient(learner, general, SFT())[0].norm()


def test_the_loss_is_cross_entropy_of_rows_and_kl_of_general_rows(tiny_model: ModelFolder) -> None:
    """Away from step 0: loss and gradient are those of the two formulas, of log-probabilities computed apart."""
    learner, general = make_learner(tiny_model("llama"), layout="repeated", stir=False), general_rows(2)
    rows = [replace(g, completions=g.completions[:1], scores=None) for g in random_groups()]
    reference = own_logprobs(learner, general).detach()
    stir_weights(learner)
    found, metrics = kept(learner, [rows[0], *general, *rows[1:]], 3.0)

    own, mine = own_logprobs(learner, general), own_logprobs(learner, rows)
    of_general, of_rows = (
        torch.tensor([m for g in groups for c in g.completions for m in c.mask]) for groups in (general, rows)
    )
    ratio = (own - reference).exp()
    kl = (ratio - 1 - ratio.log())[of_general].sum()
    tokens = int(of_general.sum() + of_rows.sum())
    loss = (3.0 * kl - mine[of_rows].sum()) / tokens
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["general_kl"] == pytest.approx(kl.item() / tokens, rel=1e-4)
    assert metrics["general_kl"] > 1e-4
    exact = torch.autograd.grad(loss, list(learner.model.trained().values()))
    assert relative(found, torch.cat([g.flatten() for g in exact])) < 1e-3


def test_the_kl_is_exact_over_all_tokens_that_the_reference_may_write(tiny_model: ModelFolder) -> None:
    """Averaged over every next token as the reference gives them, it is KL(reference || policy) of the two models."""
    learner = make_learner(tiny_model("llama"), layout="repeated", stir=False)
    prompt = random_groups()[0].prompt
    every = [
        Group(prompt, [Completion([token], [True])], row={"general": True}) for token in range(VOCABULARY)
    ]
    method = SFT(general_kl=1.0)
    annotated = method.annotate(every, learner)
    reference = torch.tensor([group.columns["reference_logprobs"][0][0] for group in annotated]).double()
    stir_weights(learner)
    policy = own_logprobs(learner, every).detach().double()
    exact = (reference.exp() * (reference - policy)).sum()
    terms = [
        method.loss(Outputs(own[None].float(), torch.zeros(1)), Batch([group], Totals.of([group])))[0]
        for own, group in zip(policy, annotated, strict=True)
    ]
    mean = (reference.exp() * torch.stack(terms).double()).sum()
    assert mean.item() == pytest.approx(exact.item(), rel=1e-3)
    assert exact > 1e-3


@pytest.mark.parametrize(("value", "marked"), [(True, True), (1, True), (False, False), (None, False)])
def test_a_row_is_marked_by_true_or_false(value: object, marked: bool) -> None:
    assert marked_general({"general": value}) == marked
    assert not marked_general({})


def test_a_column_of_another_meaning_is_no_mark() -> None:
    with pytest.raises(InputError, match="general is 'no' in a row; with general_kl it is true or false"):
        marked_general({"general": "no"})


def test_rejection_sampling_has_nothing_to_keep() -> None:
    with pytest.raises(InputError, match="general_kl is for sft"):
        RejectionSampling(general_kl=1.0)
