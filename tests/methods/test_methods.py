"""What holds for every method in the table, and must hold for the next one."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import gradient, make_learner, random_groups, relative, with_own_logprobs
from tieout.batch import Totals
from tieout.learner import Learner
from tieout.learner.teachers import Teachers
from tieout.methods import DPO, GRPO, METHODS, SFT, Distill, Method, RewardModel
from tieout.training.teachers import open_teacher
from tieout.types import Group

ModelFolder = Callable[[str], Path]

CASES: list[Method] = [
    *(method() for method in METHODS.values()),
    GRPO(beta=0.1),
    DPO(beta=0.5, loss_type="ipo", rpo_alpha=0.3, ld_alpha=0.5),
    RewardModel(center_rewards_coefficient=0.1),
    Distill(loss_type="forward_kl", top_k=5),
    Distill(loss_type="reverse_kl"),
]
SHAPES = [(5, [7, 4]), (21, [3, 12, 1, 30, 8, 2]), (34, [25, 9, 17, 3]), (2, [6, 6])]


@pytest.fixture
def learner(tiny_model: ModelFolder, method: Method) -> Learner:
    learner = make_learner(tiny_model("qwen3"), head=method.needs.head)
    if method.needs.taught:
        learner.teachers = Teachers({"base": open_teacher(str(tiny_model("qwen3")), learner)})
    return learner


def scored(learner: Learner) -> list[Group]:
    """Groups of two to six, with tool tokens, and old log-probabilities far enough away to clip some ratios."""
    return with_own_logprobs(random_groups(SHAPES, seed=4), learner, noise=0.25)


def other(learner: Learner, **config: Any) -> Learner:
    """The same weights under other settings."""
    made = Learner(learner.model, config=replace(learner.config, **config))
    made.teachers = learner.teachers
    return made


@pytest.mark.parametrize("method", CASES, ids=repr)
def test_the_gradient_is_the_same_for_one_and_for_many_micro_batches(
    learner: Learner, method: Method
) -> None:
    groups = method.annotate(scored(learner), learner)
    whole, metrics = gradient(other(learner, micro_batch_tokens=1 << 30), groups, method)
    assert whole.norm() > 1e-4
    for budget in (1, 50, 100):
        part, counted = gradient(other(learner, micro_batch_tokens=budget), groups, method)
        assert relative(part, whole) < 1e-4
        for name in metrics.keys() - {"token_ratio", "shared_prefix"}:  # the layout follows the cost
            assert counted[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", CASES, ids=repr)
def test_packed_and_repeated_give_the_same_update(learner: Learner, method: Method) -> None:
    results = []
    for layout in ("packed", "repeated"):
        with_layout = other(learner, layout=layout)
        groups = method.annotate(scored(learner), with_layout)
        results.append(gradient(with_layout, groups, method))
    (packed, a), (repeated, b) = results
    assert relative(packed, repeated) < 1e-4
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5, abs=1e-6)
    assert (a["shared_prefix"], b["shared_prefix"]) == (1, 0)


@pytest.mark.parametrize("method", CASES, ids=repr)
def test_order_of_groups_and_completions_changes_nothing(learner: Learner, method: Method) -> None:
    groups = scored(learner)
    expected, metrics = gradient(learner, method.annotate(groups, learner), method)
    rng = random.Random(0)
    shuffled = []
    for group in rng.sample(groups, len(groups)):
        order = rng.sample(range(len(group.completions)), len(group.completions))
        assert group.scores is not None
        shuffled.append(
            replace(
                group,
                completions=[group.completions[i] for i in order],
                scores=[group.scores[i] for i in order],
            )
        )
    found, again = gradient(learner, method.annotate(shuffled, learner), method)
    assert relative(found, expected) < 1e-4
    assert again["loss"] == pytest.approx(metrics["loss"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("method", CASES, ids=repr)
def test_twice_the_same_groups_is_the_same_mean(learner: Learner, method: Method) -> None:
    """A loss is a mean over the step: doubling the step doubles nothing."""
    groups = method.annotate(scored(learner), learner)
    once, metrics = gradient(learner, groups, method)
    twice, again = gradient(learner, [*groups, *groups], method)
    assert relative(twice, once) < 1e-4
    assert again["loss"] == pytest.approx(metrics["loss"], rel=1e-5, abs=1e-6)
    assert again["tokens"] == 2 * metrics["tokens"] == 2 * Totals.of(groups).tokens


@pytest.mark.parametrize("method", CASES, ids=repr)
def test_annotating_computes_no_gradient_and_moves_nothing(learner: Learner, method: Method) -> None:
    before = {n: p.clone() for n, p in learner.model.network.named_parameters()}
    groups = scored(learner)
    annotated = method.annotate(groups, learner)
    assert [replace(g, columns={}) for g in annotated] == groups
    for name, parameter in learner.model.network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_frozen_dataclass_that_needs_no_argument(name: str) -> None:
    method = METHODS[name]()
    assert dataclasses.is_dataclass(method)
    assert type(method).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert min(method.learning_rate, method.batch_size, method.epochs) > 0


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("dpo", "loss_type"),
        ("kto", "loss_type"),
        ("cpo", "loss_type"),
        ("grpo", "advantage"),
        ("ppo", "kl_estimator"),
    ],
)
def test_a_name_that_is_none_of_the_choices_is_refused_with_them(name: str, field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field} is 'typo'; it must be one of \w+, \w+"):
        METHODS[name](**{field: "typo"})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("learning_rate", -1e-3, "learning_rate is -0.001; it must be at least 0"),
        ("learning_rate", float("nan"), "learning_rate is nan; it must be at least 0"),
        ("batch_size", 0, "batch_size is 0; it must be at least 1"),
        ("epochs", 0.0, "epochs is 0.0; it must be above 0"),
        ("epochs", float("nan"), "epochs is nan; it must be above 0"),
    ],
)
def test_a_rate_a_size_or_epochs_that_cannot_be_are_refused(
    name: str, field: str, value: float, expected: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        METHODS[name](**{field: value})


def test_the_table_names_the_classes() -> None:
    assert {"sft": SFT, "dpo": DPO, "grpo": GRPO}.items() <= METHODS.items()
