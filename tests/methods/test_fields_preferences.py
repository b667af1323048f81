"""Every field of the methods over given data does something, and with those of GRPO and PPO these are all methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_fields_rl import CHANGES as CHANGES_RL
from test_fields_rl import MODEL_FIELDS, before, behaviour

from random_groups import make_learner, random_groups, with_own_logprobs
from tieout.learner import Learner
from tieout.methods import (
    CPO,
    DPO,
    KTO,
    METHODS,
    ORPO,
    SFT,
    Distill,
    OnlineDPO,
    RejectionSampling,
    RewardModel,
    SimPO,
)
from tieout.types import Group

__all__ = ["before"]  # a fixture

ModelFolder = Callable[[str], Path]
Changes = dict[str, tuple[dict[str, Any], Any]]

LOOP: Changes = {"learning_rate": ({}, 5e-4), "batch_size": ({}, 3), "epochs": ({}, 3.0)}
ROLLOUTS: Changes = {"group_size": ({}, 5), "temperature": ({}, 0.7), "max_new_tokens": ({}, 9)}
PAIRS: Changes = {
    **LOOP,
    "beta": ({}, 0.5),
    "loss_type": ({}, "hinge"),
    "label_smoothing": ({}, 0.2),
    "discopop_tau": ({"loss_type": "discopop"}, 1.0),
    "divergence": ({}, "js_divergence"),
    "divergence_alpha": ({"divergence": "alpha_divergence"}, 0.9),
    "ld_alpha": ({}, 0.3),
    "rpo_alpha": ({}, 0.5),
    "sft_anchor": ({}, 0.1),
}
REFERENCE_FREE: Changes = {
    **LOOP,
    "beta": ({}, 0.5),
    "loss_type": ({}, "hinge"),
    "label_smoothing": ({}, 0.2),
    "cpo_alpha": ({}, 0.3),
    "simpo_gamma": ({"loss_type": "simpo"}, 1.5),
}
CHANGES: dict[type, Changes] = {
    # field -> (what else must be set for it to matter, its other value)
    SFT: {**LOOP, "general_kl": ({}, 2.0)},
    RejectionSampling: {**LOOP, **ROLLOUTS, "min_score": ({}, 0.9)},
    DPO: PAIRS,
    OnlineDPO: {**{name: change for name, change in PAIRS.items() if name != "sft_anchor"}, **ROLLOUTS},
    KTO: {
        **LOOP,
        "beta": ({}, 0.5),
        "loss_type": ({"beta": 5.0}, "apo_zero_unpaired"),
        "desirable_weight": ({}, 3.0),
        "undesirable_weight": ({}, 3.0),
        "threshold": ({}, 0.65),
    },
    ORPO: {**LOOP, "beta": ({}, 0.5)},
    CPO: REFERENCE_FREE,
    SimPO: REFERENCE_FREE,
    RewardModel: {**LOOP, "center_rewards_coefficient": ({}, 0.5), "use_margin": ({}, False)},
}


@pytest.fixture(scope="module")
def policy(tiny_model: ModelFolder) -> Learner:
    return make_learner(tiny_model("llama"), layout="repeated")


@pytest.fixture(scope="module")
def reward(tiny_model: ModelFolder) -> Learner:
    return make_learner(tiny_model("llama"), head="score", layout="repeated")


@pytest.fixture(scope="module")
def groups(policy: Learner) -> list[Group]:
    """Groups of three, the best of the last below 0.9, and a margin in every row."""
    made = with_own_logprobs(random_groups([(9, [7, 3, 9]), (4, [5, 8, 2]), (3, [4, 6, 5])]), policy, 0.2)
    scores = ([1.0, 0.0, 0.3], [0.2, 3.0, -1.0], [0.7, 0.1, 0.6], [1.0, 1.0])
    made.append(replace(made[1], completions=made[1].completions[:1] * 2))  # a general row
    return [
        replace(g, scores=s, row={"margin": 0.5 * i, "general": i == 3})
        for i, (g, s) in enumerate(zip(made, scores, strict=True))
    ]


FIELDS = [(cls, name) for cls, changes in CHANGES.items() for name in changes]


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_a_field_changes_behaviour(
    policy: Learner, reward: Learner, groups: list[Group], before: Callable[..., Any], cls: type, name: str
) -> None:
    learner = reward if cls is RewardModel else policy
    context, changed = CHANGES[cls][name]
    method = cls(**{"learning_rate": 1e-3, **context})
    assert getattr(method, name) != changed
    asked, weights = before(method, learner, groups)
    asked_then, weights_then = behaviour(learner, replace(method, **{name: changed}), groups)
    assert asked != asked_then or (weights - weights_then).abs().max() > 1e-6


def test_doing_nothing_would_be_seen(policy: Learner, groups: list[Group]) -> None:
    """The same method twice ends at the same weights: a difference is the field's doing."""
    (a, x), (b, y) = (behaviour(policy, KTO(learning_rate=1e-3), groups) for _ in range(2))
    assert a == b
    assert (x == y).all()


def test_no_field_and_no_method_is_forgotten() -> None:
    for cls, changes in CHANGES.items():
        refused = {OnlineDPO: "sft_anchor", RejectionSampling: "general_kl"}.get(cls, "")
        assert {field.name for field in dataclasses.fields(cls)} - {refused} - MODEL_FIELDS == changes.keys()
    others = [cls for cls in METHODS.values() if cls not in CHANGES]
    assert all(issubclass(cls, (*CHANGES_RL, Distill)) for cls in others)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPO(loss_type="hinge", label_smoothing=0.1), "'hinge' takes no label_smoothing"),
        (lambda: DPO(discopop_tau=0.5), "'sigmoid' takes no discopop_tau"),
        (lambda: DPO(loss_type="nca_pair", divergence="forward_kl"), "takes no divergence but reverse_kl"),
        (lambda: DPO(divergence_alpha=0.9), "divergence_alpha is for divergence 'alpha_divergence'"),
        (lambda: DPO(loss_type="exo_pair"), "needs a label_smoothing above 0"),
        (lambda: DPO(loss_type="robust", label_smoothing=0.5), "expected 0 or more, below 0.5"),
        (lambda: DPO(beta=0.0), "beta is 0.0; it must be above 0"),
        (lambda: CPO(loss_type="ipo", label_smoothing=0.1), "'ipo' takes no label_smoothing"),
        (lambda: CPO(simpo_gamma=1.0), "'sigmoid' takes no simpo_gamma"),
        (lambda: OnlineDPO(sft_anchor=0.5), "online_dpo samples its pairs"),
        (lambda: KTO(batch_size=1), "batch_size needs at least 2"),
        (lambda: KTO(beta=-1.0), "beta is -1.0"),
    ],
)
def test_a_field_that_would_do_nothing_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
