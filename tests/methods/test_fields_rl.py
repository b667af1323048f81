"""Every field of GRPO and PPO does something: a step on fixed rollouts ends elsewhere, or asks for other rollouts."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import make_learner, random_groups, stir_weights, with_own_logprobs
from tieout.learner import AdapterConfig, Learner
from tieout.learner.checkpoint import save_adapter
from tieout.methods import GRPO, METHODS, PPO, OnlineDPO, RejectionSampling
from tieout.source import Source
from tieout.training.build import prepare
from tieout.training.loop import train
from tieout.training.placement import Placement
from tieout.training.schedule import num_steps
from tieout.training.spec import TrainSpec
from tieout.types import Group
from tiny_task import make_task

ModelFolder = Callable[[str], Path]

KL = {"beta": 0.1}
ENTROPY = {"entropy_coef": 0.1}
CHANGES: dict[type, dict[str, tuple[dict[str, Any], Any]]] = {
    # field -> (what else must be set for it to matter, its other value)
    GRPO: {
        "learning_rate": ({}, 5e-4),
        "batch_size": ({}, 3),
        "epochs": ({}, 3.0),
        "group_size": ({}, 5),
        "temperature": ({}, 0.7),
        "max_new_tokens": ({"aggregation": "constant"}, 9),
        "advantage": ({}, "mean"),
        "policy_loss": ({}, "sequence"),
        "aggregation": ({}, "token"),
        "epsilon_low": ({}, 0.05),
        "epsilon_high": ({}, 0.05),
        "tau_positive": ({"policy_loss": "sapo"}, 3.0),
        "tau_negative": ({"policy_loss": "sapo"}, 3.0),
        "beta": ({}, 0.1),
        "kl_estimator": (KL, "k2"),
        "kl_in": (KL, "reward"),
        "kl_correction": (KL, True),
        "entropy_coef": ({}, 0.1),
        "entropy_floor": (ENTROPY, 0.001),
        "tis_cap": ({}, 1.1),
        "updates_per_batch": ({}, 2),
        "dynamic_sampling": (KL, True),
        "mask_cut_off": ({}, True),
        "overlong_share": ({"max_new_tokens": 16}, 0.9),
        "reference_steps": (KL, 1),
    },
    PPO: {
        "learning_rate": ({}, 5e-4),
        "batch_size": ({}, 3),
        "epochs": ({}, 3.0),
        "group_size": ({}, 5),
        "temperature": ({}, 0.7),
        "max_new_tokens": ({}, 9),
        "num_ppo_epochs": ({}, 3),
        "num_mini_batches": ({}, 1),
        "target_kl": ({}, 1e-6),
        "epsilon_low": ({}, 0.05),
        "epsilon_high": ({}, 0.05),
        "gamma": ({}, 0.7),
        "lam": ({}, 0.5),
        "value_coef": ({}, 0.5),
        "value_clip": ({}, 0.01),
        "kl_coef": ({}, 0.5),
        "kl_estimator": ({}, "k3"),
        "kl_target": ({"kl_horizon": 50}, 0.5),
        "kl_horizon": ({"kl_target": 0.5}, 50),
        "missing_eos_penalty": ({}, 1.0),
        "entropy_coef": ({}, 0.1),
        "entropy_floor": (ENTROPY, 0.001),
        "mini_batch_size": ({"batch_size": 3, "group_size": 4}, 4),
        "standardize_rewards": ({"whiten_advantages": False}, True),
        "whiten_rewards": ({}, True),
        "whiten_advantages": ({}, False),
    },
}
MODEL_FIELDS = {"value_adapter", "reward_model"}
"""Decide how the model is loaded: tested below."""


@pytest.fixture(scope="module")
def learner(tiny_model: ModelFolder) -> Learner:
    return make_learner(tiny_model("llama"), head="value", layout="repeated")


@pytest.fixture(scope="module")
def rollouts(learner: Learner) -> list[Group]:
    """Three groups of three: one whose scores are equal, half of the completions cut off, ratios that clip."""
    groups = with_own_logprobs(random_groups([(9, [7, 3, 9]), (4, [5, 8, 2]), (3, [4, 6, 5])]), learner, 0.2)
    groups = [
        replace(
            g,
            completions=[
                replace(c, finish_reason="length" if k else "stop") for k, c in enumerate(g.completions)
            ],
        )
        for g in groups
    ]
    return [*groups[:2], replace(groups[2], scores=[0.5] * 3)]


def behaviour(learner: Learner, method: Any, rollouts: Sequence[Group]) -> tuple[Any, torch.Tensor]:
    """What it asks for, and where the second step of a run ends (the third, where one must remember the one before)."""
    learner = Learner(copy.deepcopy(learner.model), config=learner.config, temperature=learner.temperature)
    source = Source(make_task(), learner.model.chat)
    asked: list[Any] = []

    def collect(*arguments: Any, keep: Callable[[Group], bool] = lambda group: True) -> Iterator[list[Group]]:
        asked.append(arguments)
        while True:
            yield list(filter(keep, rollouts))

    for kind in ("rollouts", "demonstrations", "preferences", "labels", "rankings"):
        setattr(source, kind, collect)
    learner.step = 1
    train(method, source, learner, steps=3 if getattr(method, "kl_target", 0) else 2)
    asked.append(num_steps(method, source))
    return asked, torch.cat([p.detach().flatten() for p in learner.model.trained().values()])


@pytest.fixture(scope="module")
def before() -> Callable[..., tuple[Any, torch.Tensor]]:
    """`behaviour`, computed once for the many fields that start from the same method."""
    known: dict[Any, tuple[Any, torch.Tensor]] = {}

    def cached(method: Any, learner: Learner, rollouts: list[Group]) -> tuple[Any, torch.Tensor]:
        if method not in known:
            known[method] = behaviour(learner, method, rollouts)
        return known[method]

    return cached


FIELDS = [(cls, name) for cls, changes in CHANGES.items() for name in changes]


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_a_field_changes_behaviour(
    learner: Learner, rollouts: list[Group], before: Callable[..., Any], cls: type, name: str
) -> None:
    context, changed = CHANGES[cls][name]
    method = cls(**{"learning_rate": 1e-3, **context})
    assert getattr(method, name) != changed
    asked, weights = before(method, learner, rollouts)
    asked_then, weights_then = behaviour(learner, replace(method, **{name: changed}), rollouts)
    assert asked != asked_then or (weights - weights_then).abs().max() > 1e-6


def test_doing_nothing_would_be_seen(learner: Learner, rollouts: list[Group]) -> None:
    """The same method twice ends at the same weights: a difference is the field's doing."""
    (a, x), (b, y) = (behaviour(learner, PPO(learning_rate=1e-3), rollouts) for _ in range(2))
    assert a == b
    assert torch.equal(x, y)


def test_no_field_is_forgotten() -> None:
    for cls, changes in CHANGES.items():
        names = {field.name for field in dataclasses.fields(cls)}
        assert names - MODEL_FIELDS == changes.keys()
    relatives = [cls for cls in METHODS.values() if issubclass(cls, GRPO)]
    assert len(relatives) == 6
    assert all(
        {f.name for f in dataclasses.fields(cls)} - MODEL_FIELDS == CHANGES[GRPO].keys() for cls in relatives
    )


def test_the_value_gets_an_adapter_of_its_own_when_asked(tiny_model: ModelFolder) -> None:
    def trained(method: PPO) -> set[str]:
        fit = TrainSpec(
            method, str(tiny_model("llama")), adapter=AdapterConfig(rank=2), placement=Placement("cpu")
        )
        return set(prepare(fit, make_task())[0].model.trained())

    shared, own = trained(PPO()), trained(PPO(value_adapter=True))
    assert shared < own
    assert all("value" in name for name in own - shared)


@pytest.mark.parametrize("cls", [PPO, GRPO, OnlineDPO, RejectionSampling])
def test_a_reward_model_beside_the_policy_scores_the_rollouts(
    tiny_model: ModelFolder, tmp_path: Path, cls: type
) -> None:
    judge = make_learner(tiny_model("llama"), head="score")
    save_adapter(judge, tmp_path / "reward")
    method = cls(reward_model=str(tmp_path / "reward"), batch_size=2, group_size=2, max_new_tokens=5)
    fit = TrainSpec(
        method, str(tiny_model("llama")), adapter=AdapterConfig(rank=2), placement=Placement("cpu")
    )
    learner, source = prepare(fit, make_task())
    groups = next(source.rollouts(2, 2, max_new_tokens=5))
    given = [source.given(g.row, [c.text for c in g.completions], None) for g in groups]
    found = [s for g in groups for s in g.scores or []]
    assert found == pytest.approx([s for g in judge.scores(given) for s in g], abs=1e-4)
    assert len(set(found)) > 1
    stir_weights(learner)
    assert learner.scores(given) == pytest.approx([pytest.approx(s, abs=1e-4) for s in judge.scores(given)])
