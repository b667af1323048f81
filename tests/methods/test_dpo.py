from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import flat, gradient, make_learner, own_logprobs, random_groups, relative
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.checkpoint import save_adapter
from tieout.methods import CPO, DPO, SimPO
from tieout.source import Source
from tieout.types import Group
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]
PAIRS = [replace(g, scores=[1.0, 0.0]) for g in random_groups([(9, [8, 5]), (21, [3, 16]), (4, [11, 11])])]


@pytest.mark.parametrize("start", ["fresh adapter", "SFT adapter", "full"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_at_step_0_the_loss_is_ln_2_and_the_logratio_0_and_the_reference_stays(
    tiny_model: ModelFolder, tmp_path: Path, family: str, start: str
) -> None:
    folder = str(tiny_model(family))
    if start == "SFT adapter":
        save_adapter(make_learner(tiny_model(family)), tmp_path / "sft")
        model = load(folder, AdapterConfig(), start=tmp_path / "sft")
    elif start == "full":
        model = load(folder, AdapterConfig(method="full"), keep_reference=True)
    else:
        model = load(folder, AdapterConfig(rank=4))
    learner, method = Learner(model, learning_rate=1e-2), DPO(beta=0.2)
    groups = method.annotate(PAIRS, learner)
    first = flat([g.columns["reference_logprobs"] for g in groups])
    assert torch.equal(first, flat(learner.logprobs(PAIRS)))
    curve = []
    for _ in range(6):
        groups = method.annotate(PAIRS, learner)
        assert torch.equal(flat([g.columns["reference_logprobs"] for g in groups]), first)
        curve.append(learner.update(groups, method.loss))
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert curve[0]["reward_chosen"] == pytest.approx(0, abs=1e-5)
    assert curve[0]["reward_rejected"] == pytest.approx(0, abs=1e-5)
    assert curve[-1]["loss"] < 0.9 * math.log(2)
    assert curve[-1]["accuracy"] == 1
    assert curve[-1]["reward_chosen"] > curve[-1]["reward_rejected"]


def test_the_first_gradient_is_half_beta_times_the_difference_of_the_likelihoods(
    tiny_model: ModelFolder,
) -> None:
    """Where policy and reference agree, sigmoid(0) = 1/2 weighs every pair alike."""
    model = load(str(tiny_model("llama")), AdapterConfig(method="full"), keep_reference=True)
    learner = Learner(model, config=LearnerConfig(max_grad_norm=float("inf")))
    found, _ = gradient(learner, DPO(beta=0.3).annotate(PAIRS, learner), DPO(beta=0.3))
    logprobs = own_logprobs(learner, PAIRS)
    sign = [s for g in PAIRS for c, s in zip(g.completions, (-1, 1), strict=True) for _ in c.tokens]
    mask = [m for g in PAIRS for c in g.completions for m in c.mask]
    total = 0.3 / 2 * (logprobs * torch.tensor(sign) * torch.tensor(mask)).sum() / len(PAIRS)
    exact = torch.autograd.grad(total, list(model.trained().values()))
    assert relative(found, torch.cat([g.flatten() for g in exact])) < 1e-4


def test_a_pair_that_says_the_same_teaches_nothing(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    same = [Group(g.prompt, [g.completions[0]] * 2, [1.0, 0.0]) for g in PAIRS]
    found, metrics = gradient(learner, DPO().annotate(same, learner), DPO())
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert found.norm() < 1e-5


def test_swapping_the_pair_swaps_the_gradient_at_step_0(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"), stir=False)
    swapped = [replace(g, scores=[0.0, 1.0]) for g in PAIRS]
    one, _ = gradient(learner, DPO().annotate(PAIRS, learner), DPO())
    two, _ = gradient(learner, DPO().annotate(swapped, learner), DPO())
    assert relative(two, -one) < 1e-4


def test_of_larger_groups_the_best_and_the_worst_are_the_pair(tiny_model: ModelFolder) -> None:
    learner, method = make_learner(tiny_model("llama")), DPO()
    (group,) = random_groups([(9, [4, 6, 3, 8])])
    group = replace(group, scores=[0.3, -1.0, 2.0, 0.5])
    pair = replace(group, completions=[group.completions[2], group.completions[1]], scores=[1.0, 0.0])
    a, metrics = gradient(learner, method.annotate([group], learner), method)
    b, expected = gradient(learner, method.annotate([pair], learner), method)
    assert relative(a, b) < 1e-4
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize("method", [DPO(beta=0.2), CPO(cpo_alpha=0.0), SimPO()])
def test_a_pair_counts_as_much_as_its_weight_says(tiny_model: ModelFolder, method: Any) -> None:
    learner = make_learner(tiny_model("llama"), max_grad_norm=float("inf"))
    weights = (0.5, 2.0, 0.0)
    weighted = [replace(g, row={**g.row, "pair_weight": w}) for g, w in zip(PAIRS, weights, strict=True)]
    found, metrics = gradient(learner, method.annotate(weighted, learner), method)
    alone = [gradient(learner, method.annotate([pair], learner), method)[0] for pair in PAIRS]
    expected = sum(w * own for w, own in zip(weights, alone, strict=True)) / 3
    assert relative(found, expected) < 1e-4
    plain, others = gradient(learner, method.annotate(PAIRS, learner), method)
    assert relative(plain, sum(alone) / 3) < 1e-4
    assert metrics["loss"] != pytest.approx(others["loss"], rel=1e-3)


def test_pairs_come_from_the_rows(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    groups = next(DPO(batch_size=5).collect(Source(make_task(), learner.model.chat)))
    assert len(groups) == 5
    answers = {row["answer"]: row for row in ROWS}
    for group in groups:
        row = answers[group.row["answer"]]
        assert [c.text for c in group.completions] == [row["chosen"], row["rejected"]]
