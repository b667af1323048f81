"""The choices of GRPO: what their updates are in expectation, and what each one does on real rollouts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bandit import PROMPT, completions, logprobs, make_bandit, slope
from random_groups import (
    flat,
    gradient,
    make_learner,
    random_groups,
    relative,
    stir_weights,
    with_own_logprobs,
)
from tieout.chat.template import Chat
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints
from tieout.methods import DAPO, GRPO, GSPO, RLOO, DrGRPO
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.loop import learn, train
from tieout.training.monitors import DEFAULT, kl_to_reference
from tieout.types import Completion, Group
from tiny_task import make_task

ModelFolder = Callable[[str], Path]
SHAPES = [(9, [7, 3, 12]), (21, [5, 16, 2])]
REWARD = {words: random.Random(str(words)).random() for words in itertools.product(range(3), repeat=2)}
"""Of every completion of two words."""


def expected_update(learner: Learner, method: GRPO) -> torch.Tensor:
    """Minus the mean gradient over all 81 groups of two completions of two words, each weighted with its probability.

    On policy the gradient is linear in the advantages, so the weight goes there, and one update does it.
    """
    groups, chances = [], []
    for (a, p), (b, q) in itertools.product(list(completions(learner, 2)), repeat=2):
        groups.append(Group(PROMPT, [a, b], [REWARD[tuple(a.tokens)], REWARD[tuple(b.tokens)]]))
        chances.append(p * q)
    groups = [
        g.with_columns(advantages=[x * p * len(groups) for x in g.columns["advantages"]])
        for g, p in zip(method.annotate(groups, learner), chances, strict=True)
    ]
    return -gradient(learner, groups, method)[0]


def expected_pull(learner: Learner, method: GRPO) -> torch.Tensor:
    """Minus the mean gradient where all scores are equal: only the terms beside the policy loss act."""
    total: Any = 0.0
    for completion, chance in completions(learner, 2):
        groups = method.annotate([Group(PROMPT, [completion] * 2, [0.0, 0.0])], learner)
        total -= chance * gradient(learner, groups, method)[0]
    return total


def over_all(learner: Learner, value: Callable[[Any, tuple[int, ...], torch.Tensor], Any]) -> torch.Tensor:
    """E[value] over completions of two words, with gradient; `value` gets the network, the words and their [2]."""
    terms = []
    for words in itertools.product(range(3), repeat=2):
        own = logprobs(learner.model.network, words)
        terms.append(own.sum().exp() * value(learner.model.network, words, own))
    return torch.stack(terms).sum()


def test_rloo_follows_expected_reward_minus_the_kl_of_whole_completions() -> None:
    learner = make_bandit(reference=True)

    def worth(network: Any, words: tuple[int, ...], own: torch.Tensor) -> torch.Tensor:
        other = logprobs(learner.model.reference_network, words)
        return REWARD[words] - 0.3 * (own - other).sum()

    exact = slope(learner, over_all(learner, worth))
    found = expected_update(learner, RLOO(beta=0.3))
    assert exact.norm() > 0.01
    assert relative(found, exact) < 1e-3
    assert relative(expected_update(learner, RLOO(beta=0.0)), exact) > 0.05


def test_dr_grpos_update_is_the_gradient_of_expected_reward_up_to_known_constants() -> None:
    """(K - 1) / K for its own score in the baseline, and the length that it divides by."""
    learner = make_bandit()
    exact = slope(learner, over_all(learner, lambda network, words, own: REWARD[words]))
    method = DrGRPO(max_new_tokens=10)
    found = expected_update(learner, method)
    assert relative(found * 10 * 2, exact) < 1e-3


@pytest.mark.parametrize(
    "options",
    [{"kl_estimator": "k2"}, {"kl_correction": True}, {"kl_estimator": "k1", "kl_correction": True}],
    ids=str,
)
def test_the_kl_in_the_loss_pulls_along_the_exact_kl_of_every_next_word(options: dict[str, Any]) -> None:
    """Equal scores: the KL alone acts. What is summed is the KL of the next word, given those before it."""
    learner = make_bandit(reference=True)
    total: Any = 0.0
    for first in range(3):
        before, weight = [PROMPT, [*PROMPT, first]], logprobs(learner.model.network, (first,)).exp().detach()
        for prefix, share in ((before[0], 1 / 3), (before[1], weight)):
            own = learner.model.network(torch.tensor([prefix])).logits[0, -1].log_softmax(-1)
            other = learner.model.reference_network(torch.tensor([prefix])).logits[0, -1].log_softmax(-1)
            total = total + share * (own.exp() * (own - other)).sum() / 2
    exact = slope(learner, total)
    found = -expected_pull(learner, GRPO(beta=1.0, **options))
    assert relative(found, exact) < 1e-3
    assert relative(-expected_pull(learner, GRPO(beta=1.0)), exact) > 0.05  # k3 pulls elsewhere


def test_the_entropy_bonus_follows_the_exact_entropy_of_every_next_word() -> None:
    learner = make_bandit()
    total: Any = 0.0
    for first in range(3):
        weight = logprobs(learner.model.network, (first,)).exp().detach()
        for prefix, share in ((PROMPT, 1 / 3), ([*PROMPT, first], weight)):
            own = learner.model.network(torch.tensor([prefix])).logits[0, -1].log_softmax(-1)
            total = total - share * (own.exp() * own).sum() / 2
    found = expected_pull(learner, GRPO(entropy_coef=1.0))
    assert relative(found, slope(learner, total)) < 1e-3
    group = Group(PROMPT, [c for c, _ in completions(learner, 2)], [0.0] * 9)
    _, metrics = gradient(
        learner, GRPO(entropy_coef=1.0).annotate([group], learner), GRPO(entropy_coef=1.0).loss
    )
    assert metrics["loss"] == pytest.approx(-metrics["entropy"], rel=1e-4)


def test_below_its_floor_entropy_is_paid_for_and_above_it_is_not() -> None:
    """At most ln 3 = 1.0986 nats; these completions were sampled with log-probabilities of -0.7."""
    learner = make_bandit()
    group = Group(PROMPT, [Completion([0], [True], [-0.7]), Completion([1], [True], [-0.7])], [0.0, 0.0])
    for floor, acts in ((0.8, True), (0.6, False), (None, True)):
        method = GRPO(entropy_coef=1.0, entropy_floor=floor)
        found, _ = gradient(learner, method.annotate([group], learner), method)
        assert (found.norm() > 1e-4) == acts


# ---------------------------------------------------------------- on rollouts


def rollouts(learner: Learner, method: GRPO, **task: Any) -> Source:
    return Source(make_task(**task), learner.model.chat, LocalSampler(learner.model), seed=3)


SMALL = {"batch_size": 2, "group_size": 3, "max_new_tokens": 4}


def test_dynamic_sampling_replaces_groups_without_a_difference_and_counts_them(
    tiny_model: ModelFolder,
) -> None:
    def some(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        if int(answer[0]) % 4:
            return [1.0] * len(completions)
        return [float(i) for i in range(len(completions))]

    learner = make_learner(tiny_model("llama"))
    method = DAPO(**SMALL)
    source = rollouts(learner, method, reward=some)
    batches = list(itertools.islice(method.collect(source), 3))
    assert [len(b) for b in batches] == [2, 2, 2]
    assert all(g.scores == [0, 1, 2] for b in batches for g in b)
    metrics: list[dict[str, float]] = []
    train(method, source, learner, steps=2, on_step=lambda step, m: metrics.append(m))
    assert sum(m["unkept_groups"] for m in metrics) > 0


def test_dynamic_sampling_says_so_when_no_group_of_a_whole_pass_differs(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    source = rollouts(learner, DAPO(**SMALL), reward=lambda completions, **_: [1.0] * len(completions))
    with pytest.raises(ValueError, match="a pass over all rows gave no group worth keeping"):
        next(DAPO(**SMALL).collect(source))


def test_cut_off_completions_stay_in_the_baseline_and_are_not_trained(tiny_model: ModelFolder) -> None:
    learner, method = (
        make_learner(tiny_model("llama")),
        GRPO(mask_cut_off=True, advantage="mean", aggregation="token"),
    )
    (group,) = with_own_logprobs(random_groups([(9, [5, 7])], tools=False), learner)
    group = replace(
        group,
        scores=[1.0, 0.0],
        completions=[group.completions[0], replace(group.completions[1], finish_reason="length")],
    )
    found, _ = gradient(learner, method.annotate([group], learner), method)
    alone = replace(group, completions=group.completions[:1], scores=[1.0]).with_columns(advantages=[0.5])
    expected, _ = gradient(learner, [alone], method)
    assert relative(found, expected) < 1e-5


class Endless(Chat):
    """Turns that never end."""

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        return ()


def test_a_batch_that_was_cut_off_altogether_is_skipped_and_counted(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    before = flat([p.flatten().tolist() for p in learner.model.trained().values()])
    seen: list[dict[str, float]] = []
    method = GRPO(**SMALL, mask_cut_off=True, learning_rate=1e-2)
    source = rollouts(learner, method)
    source.sampler = LocalSampler(learner.model, Endless(learner.model.tokenizer))
    monitors = [*DEFAULT, kl_to_reference(learner)]
    train(method, source, learner, steps=2, monitors=monitors, on_step=lambda step, m: seen.append(m))
    assert [(m["updates"], m["empty_updates"], m["cut_off"]) for m in seen] == [(0, 1, 1), (0, 1, 1)]
    assert "kl" not in seen[0]
    assert torch.equal(before, flat([p.flatten().tolist() for p in learner.model.trained().values()]))
    assert learner.step == 2


def test_long_completions_lose_score_before_they_reach_the_limit(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    groups = [
        replace(g, scores=[1.0, 1.0, 1.0])
        for g in with_own_logprobs(random_groups([(9, [5, 8, 10])], tools=False), learner)
    ]
    method = GRPO(max_new_tokens=10, overlong_share=0.4, advantage="mean")
    (group,) = method.annotate(groups, learner)
    assert group.columns["advantages"] == pytest.approx([0.5, 0.0, -0.5])  # penalties of 0, 1/2 and 1
    assert group.scores == [1.0, 1.0, 1.0]


def test_of_a_conversation_the_longest_turn_is_the_long_one(tiny_model: ModelFolder) -> None:
    """Two turns of 9 tokens are within the limit of 10, whatever they are together; one turn of 10 is at it."""
    learner = make_learner(tiny_model("llama"))
    (group,) = with_own_logprobs(random_groups([(9, [20, 20])], tools=False), learner)
    masks = [[*[True] * 9, False, False, *[True] * 9], [*[True] * 10, *[False] * 10]]
    completions = [replace(c, mask=m) for c, m in zip(group.completions, masks, strict=True)]
    method = GRPO(max_new_tokens=10, overlong_share=0.1, advantage="mean")
    (found,) = method.annotate([replace(group, completions=completions, scores=[1.0, 1.0])], learner)
    assert found.columns["advantages"] == pytest.approx([0.5, -0.5])


def test_several_updates_on_one_batch_are_one_step_and_only_the_first_one_tells_the_mismatch(
    tiny_model: ModelFolder,
) -> None:
    learner = make_learner(tiny_model("llama"), max_grad_norm=1.0)
    method = GRPO(**{**SMALL, "group_size": 6}, updates_per_batch=3, learning_rate=3e-2)
    seen: list[dict[str, float]] = []
    source = rollouts(learner, method)
    train(method, source, learner, steps=2, on_step=lambda step, m: seen.append(m))
    assert (learner.step, source.position) == (2, 4)
    for metrics in seen:
        assert metrics["updates"] == 3
        assert metrics["mismatch"] < 1e-5
        assert metrics["clipped"] > 0.02  # the mean over the updates: the later ones have moved


def test_a_second_update_moves_on_from_the_first_with_the_samplers_logprobs_kept(
    tiny_model: ModelFolder,
) -> None:
    one, two = (make_learner(tiny_model("llama")) for _ in range(2))
    groups = GRPO().annotate(with_own_logprobs(random_groups(SHAPES), one), one)
    for learner in (one, two):
        learner.learning_rate = 1e-2
    learn(GRPO(updates_per_batch=2), groups, one)
    for _ in range(2):
        two.update(groups, GRPO().loss)
    assert one.logprobs(groups) == two.logprobs(groups)
    assert (one.step, two.step) == (1, 2)


def test_truncated_importance_weights_take_off_what_the_sampler_says_too_often(
    tiny_model: ModelFolder,
) -> None:
    """A token that the sampler finds half as likely as the learner does counts double, but not past the cap."""
    learner = make_learner(tiny_model("llama"))
    groups = with_own_logprobs(random_groups(SHAPES, tools=False), learner)
    plain, _ = gradient(learner, GRPO().annotate(groups, learner), GRPO())
    low = [
        replace(
            g,
            completions=[
                replace(c, logprobs=[x - 0.6931472 for x in c.logprobs or []]) for c in g.completions
            ],
        )
        for g in groups
    ]
    for cap, factor, share in ((3.0, 2.0, 0.0), (1.5, 1.5, 1.0)):
        method = GRPO(tis_cap=cap)
        found, metrics = gradient(learner, method.annotate(low, learner), method)
        assert relative(found, factor * plain) < 1e-4
        assert metrics["tis_clipped"] == share
        assert metrics["clipped"] == 0  # the ratio is taken to the learner's own
        assert metrics["mismatch"] == pytest.approx(0.6931, rel=1e-3)  # the sampler's error is still told


def sampled_in_bf16(folder: Path) -> tuple[Learner, list[Group]]:
    """Groups of a policy in bf16, as its sampler rounds: the adapter folded into the weights."""
    learner = Learner(load(str(folder), AdapterConfig(rank=4), dtype="bf16", device="cpu"))
    stir_weights(learner, scale=0.05)
    prompts = [[7, 9, 40], [12, 50, 60, 70]]
    said = LocalSampler(learner.model).sample(prompts, 6, SamplingParams(24, temperature=1.0))
    scores = [[float(i % 3) for i in range(6)], [float(i % 2) for i in range(6)]]
    groups = [Group(p, list(own), s) for p, own, s in zip(prompts, said, scores, strict=True)]
    return learner, groups


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("method", [GSPO, RLOO, GRPO])
def test_in_16_bits_no_completion_is_clipped_for_its_rounding(
    tiny_model: ModelFolder, method: type[GRPO], updates: int
) -> None:
    learner, groups = sampled_in_bf16(tiny_model("llama"))
    options: dict[str, Any] = {"beta": 0.0, "updates_per_batch": updates}
    asked, off = method(**options), method(**options, tis_cap=0.0)
    found, metrics = gradient(learner, asked.annotate(groups, learner), asked)
    assert metrics["mismatch"] > 1e-3, "sampler and learner round alike: this test shows nothing"
    assert metrics["clipped"] == 0
    _, uncorrected = gradient(learner, off.annotate(groups, learner), off)
    assert (uncorrected["clipped"] > 0.3) == (method is GSPO)
    if method is GRPO:  # without a clip in the way both weight a token by learner over sampler
        wide = GRPO(**options, tis_cap=0.0, epsilon_low=0.99, epsilon_high=99.0)
        expected, _ = gradient(learner, wide.annotate(groups, learner), wide)
        assert relative(found, expected) < 0.02


def test_in_fp32_nothing_is_corrected_unless_asked(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    groups = with_own_logprobs(random_groups(SHAPES, tools=False), learner)
    assert "tis_cap" not in GRPO().annotate(groups, learner)[0].columns
    assert GRPO().cap(learner) == 0
    assert GRPO(tis_cap=3.0).cap(learner) == 3


def test_the_reference_is_refreshed_and_survives_a_checkpoint(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    groups = random_groups(SHAPES, tools=False)
    method = GRPO(beta=0.1, reference_steps=2)
    learner = make_learner(tiny_model("llama"))
    trained = set(learner.model.trained())
    first = learner.reference_logprobs(groups)
    own = with_own_logprobs(groups, learner)
    learner.step = 1
    assert method.annotate(own, learner)[0].columns["reference_logprobs"] == first[0]
    learner.step = 2
    policy = learner.logprobs(groups)
    assert method.annotate(own, learner)[0].columns["reference_logprobs"] == policy[0]
    assert set(learner.model.trained()) == trained
    stir_weights(learner)
    assert learner.reference_logprobs(groups) == policy != learner.logprobs(groups)
    Checkpoints(tmp_path).save(learner, {})
    again = make_learner(tiny_model("llama"), stir=False)
    assert again.reference_logprobs(groups) == first
    Checkpoints(tmp_path).restore(again)
    assert again.reference_logprobs(groups) == policy
    assert again.logprobs(groups) == learner.logprobs(groups)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_size": 1}, "group_size is 1"),
        ({"updates_per_batch": 0}, "updates_per_batch is 0"),
        ({"overlong_share": 1.5}, "overlong_share is 1.5"),
        ({"beta": 0.1, "kl_estimator": "k1"}, "pulls nowhere"),
        ({"epsilon_low": -0.1}, "epsilon_low is -0.1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"advantage": "maxrl", "overlong_share": 0.2}, "maxrl.*set overlong_share=0"),
        ({"advantage": "maxrl", "beta": 0.1, "kl_in": "reward"}, "maxrl.*kl_in='loss'"),
        ({"beta": 0.1, "kl_in": "reward", "kl_correction": True}, "would do nothing"),
        ({"reference_steps": 5}, "reference_steps is 5, but beta is 0"),
        ({"entropy_floor": 1.0}, "entropy_coef is 0"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRPO(**options)


def test_groups_without_scores_are_refused(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    with pytest.raises(ValueError, match="no scores"):
        GRPO().annotate([replace(random_groups()[0], scores=None)], learner)
