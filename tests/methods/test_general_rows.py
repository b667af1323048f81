"""General rows, whose chosen equals rejected: they train the SFT term of a method for pairs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import gradient, make_learner, random_groups, relative
from tieout.learner import Learner
from tieout.methods import CPO, DPO, ORPO, Method, RewardModel, SimPO
from tieout.methods.several_losses import SeveralLosses, WeightedLoss
from tieout.source import Source
from tieout.training.loop import train
from tieout.types import Group
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]
GENERAL = [
    {"prompt": f"spell {word}", "chosen": word, "rejected": word}
    for word in ("audit", "ledger", "cash", "fee")
]


@pytest.fixture(scope="module")
def learner(tiny_model: ModelFolder) -> Learner:
    return make_learner(tiny_model("llama"), layout="repeated")


@pytest.fixture(scope="module")
def pairs() -> list[Group]:
    made = random_groups([(9, [7, 3]), (4, [5, 8]), (6, [2, 9])])
    return [replace(g, scores=[1.0, 0.0]) for g in made]


@pytest.fixture(scope="module")
def general() -> list[Group]:
    made = random_groups([(5, [6]), (8, [4])], seed=5)
    return [replace(g, completions=g.completions * 2, scores=[1.0, 1.0]) for g in made]


def cross_entropy(learner: Learner, groups: list[Group]) -> float:
    """Nats per trained token of each group's first completion, from the learner's own log-probabilities."""
    parts = [
        -x
        for group, own in zip(groups, learner.logprobs(groups), strict=True)
        for x, trained in zip(own[0], group.completions[0].mask, strict=True)
        if trained
    ]
    return sum(parts) / len(parts)


def measured(learner: Learner, method: Method, groups: list[Group]) -> tuple[torch.Tensor, dict[str, float]]:
    return gradient(learner, method.annotate(groups, learner), method)


METHODS: dict[str, Any] = {
    "sigmoid": DPO(sft_anchor=0.3),
    "per token": DPO(sft_anchor=0.3, loss_type="ipo"),
    "no margin": DPO(
        sft_anchor=0.3, loss_type="nca_pair"
    ),  # its gradient does not vanish where both are equal
    "with rpo": DPO(sft_anchor=0.3, rpo_alpha=0.7),
    "ld": DPO(sft_anchor=0.3, ld_alpha=0.5),
    "several": SeveralLosses(
        sft_anchor=0.3,
        parts=(WeightedLoss(0.5, DPO()), WeightedLoss(2.0, DPO(loss_type="hinge"))),
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_pairs_train_as_if_alone_and_general_rows_by_their_own_mean(
    learner: Learner, pairs: list[Group], general: list[Group], name: str
) -> None:
    """Loss and gradient of both together are those of the pairs plus the weight times those of the general rows, each a
    mean of its own: neither counts in the other's denominator."""
    method = METHODS[name]
    alone, of_pairs = measured(learner, method, pairs)
    anchor, of_general = measured(learner, method, general)
    both, found = measured(learner, method, [pairs[0], general[0], *pairs[1:], general[1]])
    assert relative(both, alone + anchor) < 1e-3
    assert anchor.norm() > 1e-3
    assert found["loss"] == pytest.approx(of_pairs["loss"] + of_general["loss"], rel=1e-4)
    assert of_general["loss"] == pytest.approx(0.3 * cross_entropy(learner, general), rel=1e-4)
    for metric in ("accuracy", "reward_chosen", "reward_rejected"):
        assert found[metric] == pytest.approx(of_pairs[metric], abs=1e-5)
    assert found["anchor_loss"] == pytest.approx(cross_entropy(learner, general), rel=1e-4)
    assert "anchor_loss" not in of_pairs


@pytest.mark.parametrize("method", [CPO(), ORPO()], ids=["cpo", "orpo"])
def test_where_there_is_a_cross_entropy_already_they_are_part_of_it(
    learner: Learner, pairs: list[Group], general: list[Group], method: Any
) -> None:
    _, of_pairs = measured(learner, method, pairs)
    _, found = measured(learner, method, [*pairs, *general])
    assert found["cross_entropy"] == pytest.approx(cross_entropy(learner, [*pairs, *general]), rel=1e-4)
    preference = of_pairs["loss"] - of_pairs["cross_entropy"]
    assert found["loss"] - found["cross_entropy"] == pytest.approx(preference, rel=1e-4)
    assert found["accuracy"] == pytest.approx(of_pairs["accuracy"], abs=1e-5)


def test_a_weight_of_0_leaves_them_out(learner: Learner, pairs: list[Group], general: list[Group]) -> None:
    method = DPO(sft_anchor=0.0, loss_type="nca_pair")
    assert (
        relative(measured(learner, method, [*pairs, *general])[0], measured(learner, method, pairs)[0]) < 1e-5
    )


def test_methods_say_whether_they_have_a_term_for_them() -> None:
    assert DPO().needs.anchors
    assert CPO().needs.anchors
    assert ORPO().needs.anchors
    assert SimPO(cpo_alpha=0.5).needs.anchors
    assert not any(m.needs.anchors for m in (DPO(sft_anchor=0.0), SimPO(), RewardModel()))
    with pytest.raises(ValueError, match="sft_anchor is -1"):
        DPO(sft_anchor=-1.0)


def test_what_is_anchored_is_forgotten_less(tiny_model: ModelFolder) -> None:
    """The same DPO, at a rate that wrecks, with general rows and without: their likelihood falls only without."""
    preferences = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in ROWS]

    def after(rows: list[dict[str, Any]]) -> tuple[float, float]:
        learner = make_learner(tiny_model("llama"), stir=False, max_grad_norm=1.0)
        source = Source(make_task(rows=lambda split: rows), learner.model.chat)
        groups = [source.preference(row) for row in GENERAL]
        before = cross_entropy(learner, groups)
        train(DPO(batch_size=5, learning_rate=2e-2), source, learner, steps=12)
        return before, cross_entropy(learner, groups)

    before, without = after(preferences)
    _, anchored = after([*preferences, *GENERAL])
    assert anchored < before
    assert anchored < without - 0.2
