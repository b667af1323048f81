"""The methods over given data learn what they are for, and bad inputs are clear errors or clean skips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from random_groups import gradient, make_learner, random_groups
from tieout.learner import AdapterConfig, Learner, load
from tieout.methods import CPO, KTO, ORPO, SFT, OnlineDPO, RejectionSampling, RewardModel, SimPO
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.loop import train
from tieout.training.monitors import DEFAULT
from tieout.types import Completion, Group
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]


def fit(folder: Path, method: Any, steps: int = 12, **task: Any) -> list[dict[str, float]]:
    """The metrics of a short run."""
    learner = make_learner(folder, stir=False, head=method.needs.head, max_grad_norm=1.0)
    sampler = LocalSampler(learner.model) if hasattr(method, "max_new_tokens") else None
    source = Source(make_task(**task), learner.model.chat, sampler, seed=3)
    seen: list[dict[str, float]] = []
    train(
        method,
        source,
        learner,
        steps=steps,
        monitors=DEFAULT,
        on_step=lambda step, metrics: seen.append(metrics),
    )
    return seen


@pytest.mark.parametrize("method", [ORPO(), CPO(cpo_alpha=0.1), SimPO()])
def test_the_chosen_wins(tiny_model: ModelFolder, method: Any) -> None:
    seen = fit(tiny_model("llama"), replace(method, batch_size=6, learning_rate=1e-2))
    assert seen[-1]["loss"] < 0.8 * seen[0]["loss"]
    if isinstance(method, ORPO):
        assert seen[-1]["accuracy"] == 1
    else:  # CPO's sums are still those of completions of different lengths, so it is the lead that must grow
        leads = [s["reward_chosen"] - s["reward_rejected"] for s in (seen[0], seen[-1])]
        assert leads[1] > leads[0] + 0.5


def test_kto_raises_the_good_above_the_bad_without_pairs(tiny_model: ModelFolder) -> None:
    rows = [{**r, "completion": r["chosen" if r["label"] else "rejected"]} for r in ROWS]
    seen = fit(tiny_model("llama"), KTO(batch_size=6, learning_rate=1e-2), rows=lambda split: rows)
    assert seen[0]["loss"] == pytest.approx(0.5 * sum(
        [1.0 if r["label"] else 7 / 4 for r in Source(make_task(), None, seed=3).take(6)]  # type: ignore[arg-type]
    ) / 6, rel=1e-3)  # at the start every value is 1/2, and the 4 bad of 11 weigh as much as the 7 good  # fmt: skip
    assert seen[-1]["reward_desirable"] > 0 > seen[-1]["reward_undesirable"]


def test_a_kto_batch_of_one_class_is_a_step_like_any_other(tiny_model: ModelFolder) -> None:
    learner, method = make_learner(tiny_model("llama")), KTO()
    groups = [replace(g, scores=[1.0] * len(g.completions)) for g in random_groups()]
    found, metrics = gradient(learner, method.annotate(groups, learner), method)
    assert metrics["desirable"] == 1
    assert found.isfinite().all()
    assert found.norm() > 1e-5


def test_a_kto_step_of_one_prompt_has_no_strangers_and_reference_point_0(tiny_model: ModelFolder) -> None:
    learner, method = make_learner(tiny_model("llama")), KTO()
    groups = [Group([5, 6], [Completion([t, 8], [True, True])], [float(t % 2)]) for t in (3, 4, 7)]
    annotated = method.annotate(groups, learner)
    assert {k for g in annotated for k in g.columns["kl"]} == {0.0}
    _, metrics = gradient(learner, annotated, method)
    assert math.isfinite(metrics["loss"])


def test_a_kto_data_set_of_one_class_is_refused(tiny_model: ModelFolder) -> None:
    with pytest.raises(ValueError, match="all 11 labels are True; KTO needs good and bad completions"):
        fit(tiny_model("llama"), KTO(), rows=lambda split: [{**r, "label": True} for r in ROWS])


def test_kto_tells_the_reward_of_each_class_whatever_its_share(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    groups = [
        replace(g, scores=[float(i == 0)])
        for i, g in enumerate(random_groups([(5 + i, [4]) for i in range(6)], tools=False))
    ]
    _, metrics = gradient(learner, KTO().annotate(groups, learner), KTO())
    for name, own in (("reward_desirable", groups[:1]), ("reward_undesirable", groups[1:])):
        pairs = zip(learner.logprobs(own), learner.reference_logprobs(own), strict=True)
        expected = fmean(0.1 * (sum(p[0]) - sum(q[0])) for p, q in pairs)
        assert metrics[name] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", [ORPO(), CPO(cpo_alpha=0.0), SimPO(simpo_gamma=0.1)])
def test_identical_pairs_teach_no_preference(tiny_model: ModelFolder, method: Any) -> None:
    learner = make_learner(tiny_model("llama"))
    same = [Group(g.prompt, [g.completions[0]] * 2, [1.0, 0.0]) for g in random_groups(tools=False)]
    found, _ = gradient(learner, method.annotate(same, learner), method)
    if isinstance(method, ORPO):  # what is left is the cross entropy of the completions
        plain, _ = gradient(
            learner, [replace(g, completions=g.completions[:1], scores=None) for g in same], SFT().loss
        )
        assert (found - plain).norm() < 1e-4 * plain.norm()
    else:
        assert found.norm() < 1e-5


# ---------------------------------------------------------------- over rollouts


def letters(completions: list[str], **_: Any) -> list[float]:
    """Share of ASCII letters: something a policy that says random bytes can get better at."""
    return [sum(c.isascii() and c.isalpha() for c in text) / max(1, len(text)) for text in completions]


def test_online_dpo_learns_from_the_best_and_the_worst(tiny_model: ModelFolder) -> None:
    method = OnlineDPO(batch_size=4, group_size=4, max_new_tokens=6, learning_rate=1e-2)
    learner = make_learner(tiny_model("llama"), stir=False)
    source = Source(make_task(reward=letters), learner.model.chat, LocalSampler(learner.model), seed=3)
    for group in next(method.collect(source)):
        assert group.scores is not None
        assert len(group.completions) == 2
        assert group.scores[0] > group.scores[1]
    seen = fit(tiny_model("llama"), method, steps=10, reward=letters)
    assert seen[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    scores = [s["score"] for s in seen]
    assert sum(scores[-3:]) > sum(scores[:3])


def test_online_dpo_passes_over_groups_that_all_tie(tiny_model: ModelFolder) -> None:
    with pytest.raises(ValueError, match="no group worth keeping"):
        fit(
            tiny_model("llama"),
            OnlineDPO(max_new_tokens=3, group_size=2),
            reward=lambda completions, **_: [1.0] * len(completions),
        )


@pytest.mark.parametrize("cls", [OnlineDPO, RejectionSampling])
def test_rollouts_that_cannot_be_sampled_are_refused(cls: Any) -> None:
    with pytest.raises(ValueError, match="temperature is 0"):
        cls(temperature=0.0)
    with pytest.raises(ValueError, match="group_size is 0"):
        cls(group_size=0)
    with pytest.raises(ValueError, match="group_size is 1; a group needs at least 2"):
        OnlineDPO(group_size=1)


def test_rejection_sampling_trains_on_the_best(tiny_model: ModelFolder) -> None:
    method = RejectionSampling(batch_size=3, group_size=4, max_new_tokens=6)
    learner = make_learner(tiny_model("llama"), stir=False)
    source = Source(make_task(reward=letters), learner.model.chat, LocalSampler(learner.model), seed=3)
    groups = next(method.collect(source))
    again = Source(make_task(reward=letters), learner.model.chat, LocalSampler(learner.model), seed=3)
    everything = next(again.rollouts(3, 4, 1.0, 6))
    for group, whole in zip(groups, everything, strict=True):
        assert whole.scores is not None
        assert group.completions == [whole.completions[whole.scores.index(max(whole.scores))]]
    seen = fit(tiny_model("llama"), replace(method, learning_rate=1e-2), steps=2, reward=letters)
    assert math.isfinite(seen[-1]["loss"])
    assert seen[0]["score"] == pytest.approx(fmean(s for g in everything for s in g.scores or []))
    assert (
        fmean(g.scores[0] for g in groups if g.scores) > seen[0]["score"]
    )  # the score is of all that was sampled
    assert "no_signal" not in seen[0]
    with pytest.raises(ValueError, match="no group worth keeping"):
        fit(tiny_model("llama"), replace(method, min_score=2.0), reward=letters)


# ---------------------------------------------------------------- reward model


def test_a_reward_model_learns_a_ranking(tiny_model: ModelFolder) -> None:
    ranked = [
        {"prompt": r["prompt"], "completions": [r["rejected"], r["chosen"], "?"], "scores": [0.5, 1.0, 0.0]}
        for r in ROWS
    ]
    method = RewardModel(batch_size=5, learning_rate=2e-2)
    seen = fit(tiny_model("llama"), method, steps=9, rows=lambda split: ranked)
    assert seen[-1]["accuracy"] == pytest.approx(1)
    assert seen[-1]["loss"] < 0.5 * seen[0]["loss"]


def test_a_ranking_is_the_mean_over_its_pairs(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"), head="score")
    (group,) = random_groups([(9, [4, 6, 3])])
    group = replace(group, scores=[2.0, 0.0, 1.0])
    pairs = [
        replace(group, completions=[group.completions[i], group.completions[j]], scores=[1.0, 0.0])
        for i, j in ((0, 1), (0, 2), (2, 1))
    ]
    method = RewardModel(center_rewards_coefficient=0.1)
    one, whole = gradient(learner, method.annotate([group], learner), method)
    three, parts = gradient(learner, method.annotate(pairs, learner), method)
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-5)
    assert (one - three).norm() < 1e-4 * three.norm()


def test_a_group_that_all_ties_weighs_nothing_and_is_counted(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"), head="score")
    (group,) = random_groups([(9, [4, 6, 3])])
    tied = replace(group, scores=[1.0, 1.0, 1.0])
    method = RewardModel()
    found, metrics = gradient(learner, method.annotate([tied, group], learner), method)
    alone, own = gradient(learner, method.annotate([group], learner), method)
    assert metrics["decided"] == 0.5
    assert metrics["accuracy"] == pytest.approx(own["accuracy"])
    assert metrics["score_gap"] == pytest.approx(own["score_gap"])
    assert metrics["loss"] == pytest.approx(own["loss"] / 2, rel=1e-5)
    assert (found * 2 - alone).norm() < 1e-4 * alone.norm()


def test_a_model_without_a_score_head_is_refused(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    with pytest.raises(ValueError, match="needs a score head"):
        gradient(learner, RewardModel().annotate(random_groups(), learner), RewardModel())


def test_full_fine_tuning_without_a_reference_needs_no_copy(tiny_model: ModelFolder) -> None:
    learner = Learner(load(str(tiny_model("llama")), AdapterConfig(method="full")))
    groups = [replace(g, scores=[1.0, 0.0]) for g in random_groups([(9, [5, 4])])]
    for method in (ORPO(), CPO(), SimPO()):
        assert math.isfinite(gradient(learner, method.annotate(groups, learner), method)[1]["loss"])
    with pytest.raises(ValueError, match="keep_reference"):
        KTO().annotate(groups, learner)
