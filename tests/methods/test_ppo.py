from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bandit import PROMPT, Words, completions, logprobs, make_bandit, probabilities, slope
from random_groups import flat, gradient, make_learner, random_groups, relative, with_own_logprobs
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints
from tieout.methods import PPO
from tieout.methods.ppo import KL_FACTOR
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.alarms import Adjustments
from tieout.training.loop import learn, train
from tieout.types import Completion, Group
from tiny_task import make_task

ModelFolder = Callable[[str], Path]
SHAPES = [(9, [7, 3, 12]), (21, [5, 16, 2])]
RAW = {"whiten_advantages": False, "kl_coef": 0.0, "lam": 1.0, "value_clip": 0.0}
"""Advantages are what is left to receive minus the value, in the task's own units."""


def with_value(folder: Path, **options: Any) -> Learner:
    return make_learner(folder, head="value", **options)


# ---------------------------------------------------------------- against enumeration


def test_the_expected_update_of_the_policy_is_the_gradient_of_reward_minus_kl() -> None:
    """Completions of two words are enumerated. The KL is taken off each token's reward, and each token is credited with
    what comes after it only: in expectation that changes nothing, whatever the values are."""
    learner = make_bandit(reference=True, value=True)
    with torch.no_grad():
        assert learner.model.value is not None
        learner.model.value.linear.weight.normal_()
    rng = random.Random(0)
    reward = {tuple(c.tokens): rng.random() for c, _ in completions(learner, 2)}
    terms = []
    for words, r in reward.items():
        own = logprobs(learner.model.network, words)
        kl = (own - logprobs(learner.model.reference_network, words)).sum()
        terms.append(own.sum().exp() * (r - 0.3 * kl))
    exact = slope(learner, torch.stack(terms).sum())
    for lam in (1.0, 0.9):
        method = PPO(**{**RAW, "kl_coef": 0.3, "lam": lam}, value_coef=0.0)
        groups, chances = [], []
        for completion, chance in completions(learner, 2):
            groups.append(Group(PROMPT, [completion], [reward[tuple(completion.tokens)]]))
            chances.append(chance)
        groups = [
            g.with_columns(advantages=[[a * p * len(groups) for a in row] for row in g.columns["advantages"]])
            for g, p in zip(method.annotate(groups, learner), chances, strict=True)
        ]
        found = -gradient(learner, groups, method)[0][: len(exact)] * 2  # the mean is over two tokens each
        assert (relative(found, exact) < 1e-3) == (
            lam == 1.0
        )  # below 1 wrong values bias it: that is its trade


def test_the_entropy_bonus_follows_the_exact_entropy_and_stops_at_its_floor() -> None:
    """Scores and advantages of 0: the bonus alone acts, as in GRPO, and above its floor nothing does."""
    learner = make_bandit(value=True)
    total: Any = 0.0
    for first in range(3):
        weight = logprobs(learner.model.network, (first,)).exp().detach()
        for prefix, share in ((PROMPT, 1 / 3), ([*PROMPT, first], weight)):
            own = learner.model.network(torch.tensor([prefix])).logits[0, -1].log_softmax(-1)
            total = total - share * (own.exp() * own).sum() / 2
    exact = slope(learner, total)
    for floor, acts in ((None, True), (30.0, True), (1e-6, False)):
        method = PPO(**RAW, value_coef=0.0, entropy_coef=1.0, entropy_floor=floor)
        found: Any = 0.0
        for completion, chance in completions(learner, 2):
            groups = method.annotate([Group(PROMPT, [completion], [0.0])], learner)
            found = found - chance * gradient(learner, groups, method)[0][: len(exact)]
        if acts:
            assert relative(found, exact) < 1e-3
        else:
            assert found.norm() < 1e-6 < exact.norm()


def test_it_learns_a_task_whose_return_is_known() -> None:
    """Word 1 pays 1, anything else nothing: the value must come to be the chance of word 1, and that must rise."""
    learner = make_bandit(value=True)
    sampler = LocalSampler(learner.model, Words())  # type: ignore[arg-type]
    method = PPO(**{**RAW, "value_coef": 1.0}, num_mini_batches=1, num_ppo_epochs=2)
    before = probabilities(learner)[1].item()
    errors = []
    for step in range(50):
        learner.learning_rate = 4e-3 if step < 35 else 1e-3
        (drawn,) = sampler.sample([PROMPT], 16, SamplingParams(max_new_tokens=1, seed=step))
        group = Group(PROMPT, drawn, [float(c.tokens == [1]) for c in drawn])
        groups = method.annotate([group], learner)
        errors.append(abs(groups[0].columns["values"][0][0] - probabilities(learner)[1].item()))
        metrics = learn(method, groups, learner)
        assert metrics["mismatch"] < 1e-5
    after = probabilities(learner)[1].item()
    assert after > before + 0.3
    assert max(errors[-10:]) < 0.1  # it began at 0: the value has followed all the way


# ---------------------------------------------------------------- what annotate says


def annotated(learner: Learner, method: PPO, groups: list[Group]) -> dict[str, list[list[float]]]:
    """Column -> [N][C]."""
    result = method.annotate(groups, learner)
    return {name: [row for g in result for row in g.columns[name]] for name in result[0].columns}


def test_the_score_comes_on_the_last_trained_token_and_tools_get_nothing(tiny_model: ModelFolder) -> None:
    """The values start at 0: with lambda and gamma of 1 every trained token's advantage is the score."""
    learner = with_value(tiny_model("llama"), stir=False)
    groups = with_own_logprobs(random_groups(SHAPES), learner)
    columns = annotated(learner, PPO(**RAW), groups)
    scores = [s for g in groups for s in g.scores or []]
    masks = [c.mask for g in groups for c in g.completions]
    for advantages, returns, score, mask in zip(
        columns["advantages"], columns["returns"], scores, masks, strict=True
    ):
        assert advantages == pytest.approx([score * m for m in mask])
        assert returns == advantages
    discounted = annotated(learner, PPO(**{**RAW, "lam": 0.0}), groups)
    for advantages, score, mask in zip(discounted["advantages"], scores, masks, strict=True):
        last = max(t for t, m in enumerate(mask) if m)
        assert advantages == pytest.approx([score if t == last else 0 for t in range(len(mask))])


def test_the_kl_is_taken_off_token_by_token(tiny_model: ModelFolder) -> None:
    learner = with_value(tiny_model("llama"))
    with torch.no_grad():
        assert learner.model.value is not None
        for parameter in learner.model.value.linear.parameters():
            parameter.zero_()
    groups = [replace(g, scores=[0.0] * 3) for g in with_own_logprobs(random_groups(SHAPES), learner)]
    found = annotated(learner, PPO(**{**RAW, "kl_coef": 0.5, "lam": 0.0}), groups)["advantages"]
    own, reference = learner.logprobs(groups), learner.reference_logprobs(groups)
    masks = [c.mask for g in groups for c in g.completions]
    expected = [
        [-0.5 * (p - q) * m for p, q, m in zip(a, b, mask, strict=True)]
        for a, b, mask in zip(
            [r for g in own for r in g], [r for g in reference for r in g], masks, strict=True
        )
    ]
    assert torch.allclose(flat(found), flat(expected), atol=1e-5)
    assert flat(found).abs().max() > 0.01


def test_who_does_not_end_pays(tiny_model: ModelFolder) -> None:
    learner = with_value(tiny_model("llama"), stir=False)
    (group,) = with_own_logprobs(random_groups([(9, [4, 6])], tools=False), learner)
    ended, cut = group.completions
    group = replace(group, completions=[ended, replace(cut, finish_reason="length")], scores=[1.0, 1.0])
    returns = annotated(learner, PPO(**RAW, missing_eos_penalty=0.6), [group])["returns"]
    assert returns == [pytest.approx([1.0] * 4), pytest.approx([0.4] * 6)]


def test_standardised_rewards_have_mean_0_and_standard_deviation_1_and_whitened_ones_keep_their_mean(
    tiny_model: ModelFolder,
) -> None:
    """With lambda 1 and values of 0 the return of one token is the score of its completion."""
    learner = with_value(tiny_model("llama"), stir=False)
    given = with_own_logprobs(random_groups([(9, [1] * 3), (5, [1] * 3)], tools=False), learner)
    groups = [replace(g, scores=[s + 10 for s in g.scores or []]) for g in given]
    scores = torch.tensor([s for g in groups for s in g.scores or []])
    for options, expected in (
        ({"standardize_rewards": True}, (scores - scores.mean()) / scores.std()),
        ({"whiten_rewards": True}, (scores - scores.mean()) / scores.std() + scores.mean()),
    ):
        returns = flat(annotated(learner, PPO(**{**RAW, **options}), groups)["returns"])
        assert torch.allclose(returns, expected, atol=1e-4), options
    # Where two rewards differ by a scale and a shift only, the step is the same; all equal is no reward at all.
    shifted = [replace(g, scores=[3 * s - 7 for s in g.scores or []]) for g in groups]
    method = PPO(kl_coef=0.0, standardize_rewards=True, whiten_advantages=False)
    one, other = (flat(annotated(learner, method, g)["advantages"]) for g in (groups, shifted))
    assert torch.allclose(one, other, atol=1e-4)
    equal = [replace(g, scores=[4.0] * 3) for g in groups]
    assert flat(annotated(learner, method, equal)["returns"]).abs().max() < 1e-6
    cut = [
        replace(g, completions=[replace(c, finish_reason="length") for c in g.completions]) for g in groups
    ]
    punished = PPO(**RAW, standardize_rewards=True, missing_eos_penalty=5.0)
    assert torch.allclose(
        flat(annotated(learner, punished, cut)["returns"]), (scores - scores.mean()) / scores.std(), atol=1e-4
    )


def test_equal_scores_where_the_value_knows_them_move_no_policy(tiny_model: ModelFolder) -> None:
    learner = with_value(tiny_model("llama"), stir=False)
    groups = [replace(g, scores=[0.7] * 3) for g in with_own_logprobs(random_groups(SHAPES), learner)]
    assert learner.model.value is not None
    with torch.no_grad():
        learner.model.value.linear.bias.fill_(0.7)
    columns = annotated(learner, PPO(kl_coef=0.0, lam=1.0), groups)
    assert flat(columns["advantages"]).abs().max() < 1e-3
    assert columns["returns"][0] == pytest.approx([0.7 * m for m in groups[0].completions[0].mask])


# ---------------------------------------------------------------- the updates of a step


def test_every_completion_is_learned_from_once_an_epoch(tiny_model: ModelFolder) -> None:
    groups = random_groups([(9, [2, 2])] * 5)
    plan = PPO(num_ppo_epochs=3, num_mini_batches=2).updates(groups)
    parts = [next(plan)]
    while len(parts) < 6:
        parts.append(plan.send({"policy_kl": 0.0}))
    with pytest.raises(StopIteration):
        plan.send({})
    assert [len(p) for p in parts] == [3, 2] * 3
    for asked, sizes in (
        (4, [2, 1, 1, 1]),
        (9, [1] * 5),
    ):  # as many as asked for, where there are so many groups
        plan = PPO(num_ppo_epochs=1, num_mini_batches=asked, target_kl=0).updates(groups)
        assert [len(p) for p in plan] == sizes
    orders = [[id(g) for g in [*parts[i], *parts[i + 1]]] for i in (0, 2, 4)]
    assert all(sorted(o) == sorted(map(id, groups)) for o in orders)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ([4] * 16, 8, [8] * 8),  # 64 completions in mini-batches of 8: the manuals' setting, whole groups
        ([1] * 64, 8, [8] * 8),
        ([8] * 4, 4, [4] * 8),  # a group is divided where it is larger
        ([4] * 15 + [2], 8, [7, 8, 8, 8, 7, 8, 8, 8]),  # two failed rewards: none is left over
        ([2], 64, [2]),
    ],
    ids=str,
)
def test_mini_batches_count_completions(shape: list[int], size: int, expected: list[int]) -> None:
    groups = random_groups([(3, [2] * count) for count in shape])
    method = PPO(batch_size=64, group_size=max(shape), mini_batch_size=size, target_kl=0)
    parts = list(method.updates(groups))
    assert len(parts) == 2 * len(expected)
    for epoch in (parts[: len(expected)], parts[len(expected) :]):
        assert sorted(sum(len(g.completions) for g in part) for part in epoch) == sorted(expected)
        seen = [id(c) for part in epoch for g in part for c in g.completions]
        assert sorted(seen) == sorted(id(c) for g in groups for c in g.completions)
        assert all(len(g.scores or []) == len(g.completions) for part in epoch for g in part)


def test_a_step_is_the_same_however_its_completions_lie_in_groups(tiny_model: ModelFolder) -> None:
    """Halves of a group keep the columns of their own completions: joined, they give the update of the whole."""
    learner = with_value(tiny_model("llama"))
    method = PPO(batch_size=1, group_size=6, mini_batch_size=3)
    groups = method.annotate(with_own_logprobs(random_groups([(9, [7, 3, 12, 4, 5, 6])]), learner), learner)
    (whole, _), (halves, _) = (
        gradient(learner, given, method)
        for given in (groups, [g for part in method._mini_batches(groups) for g in part])
    )
    assert relative(halves, whole) < 1e-4


def test_the_step_ends_where_the_policy_has_moved_far_enough() -> None:
    groups = random_groups([(9, [2, 2])] * 4)
    plan = PPO(num_ppo_epochs=5, num_mini_batches=2, target_kl=0.1).updates(groups)
    next(plan)
    plan.send({"policy_kl": 0.09})
    with pytest.raises(StopIteration):
        plan.send({"policy_kl": 0.11})
    never = PPO(num_ppo_epochs=2, num_mini_batches=1, target_kl=0.0).updates(groups)
    next(never)
    never.send({"policy_kl": 9.0})


def test_a_large_rate_makes_the_step_end_early(tiny_model: ModelFolder) -> None:
    learner = with_value(tiny_model("llama"), max_grad_norm=1.0)
    source = Source(make_task(), learner.model.chat, LocalSampler(learner.model))
    method = PPO(batch_size=4, group_size=2, max_new_tokens=5, num_ppo_epochs=6, learning_rate=5e-2)
    seen: list[dict[str, float]] = []
    train(method, source, learner, steps=1, on_step=lambda step, m: seen.append(m))
    assert 1 < seen[0]["updates"] < 12
    assert seen[0]["mismatch"] < 1e-5


def test_the_coefficient_follows_the_kl_and_is_in_the_checkpoint(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    """Six completions, a horizon of 60, an error past the clip of a fifth: up or down by 2 percent a step."""
    learner = with_value(tiny_model("llama"))
    groups = with_own_logprobs(random_groups(SHAPES), learner)
    kl = flat(annotated(learner, PPO(), groups)["kl"]).sum().item() / 6
    assert kl > 0
    for target, factor in ((kl / 2, 1.02), (kl * 2, 0.98), (kl / 1.1, 1.01)):
        learner.memory.clear()
        method = PPO(kl_coef=0.1, kl_target=target, kl_horizon=60)
        method.annotate(groups, learner)
        assert learner.memory[KL_FACTOR] == pytest.approx(factor, rel=1e-4)
        method.annotate(groups, learner)
        assert learner.memory[KL_FACTOR] == pytest.approx(factor**2, rel=1e-4)
    doubled = Adjustments(beta=2.0).turned(
        method
    )  # an alarm that pulls harder is obeyed, whatever the factor
    assert doubled._coef([[0.0]], learner) == pytest.approx(0.2 * factor**2, rel=1e-4)
    learner.memory.clear()
    for _ in range(40):  # a horizon of less than one step's completions: slower, never to less than nothing
        assert PPO(kl_target=6.0, kl_horizon=1)._coef([[0.0]] * 64, learner) > 0
    Checkpoints(tmp_path).save(learner, {})
    again = with_value(tiny_model("llama"))
    Checkpoints(tmp_path).restore(again)
    assert again.memory == learner.memory
    PPO().annotate(groups, fixed := with_value(tiny_model("llama")))
    assert not fixed.memory


# ---------------------------------------------------------------- the value


@pytest.mark.parametrize("own_adapter", [False, True])
def test_the_values_loss_moves_the_policy_unless_it_has_an_adapter_of_its_own(
    tiny_model: ModelFolder, own_adapter: bool
) -> None:
    model = load(
        str(tiny_model("llama")), AdapterConfig(rank=4), device="cpu", head="value", value_adapter=own_adapter
    )
    learner = Learner(model)
    with torch.no_grad():
        for parameter in learner.model.trained().values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    groups = [replace(g, scores=[1.0] * 3) for g in with_own_logprobs(random_groups(SHAPES), learner)]
    before = learner.logprobs(groups)
    method = PPO(kl_coef=0.0, value_coef=1.0)
    flat_advantages = [
        g.with_columns(advantages=[[0.0] * len(c.tokens) for c in g.completions])
        for g in method.annotate(groups, learner)
    ]
    losses = []
    learner.learning_rate = 1e-2
    for _ in range(8):
        losses.append(learner.update(flat_advantages, replace(method, value_clip=0.0).loss)["value_loss"])
    assert losses[-1] < 0.5 * losses[0]
    assert (learner.logprobs(groups) == before) == own_adapter


def test_without_a_value_head_it_says_so(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    with pytest.raises(ValueError, match="has no value head: load it with head='value'"):
        PPO().annotate(with_own_logprobs(random_groups(SHAPES), learner), learner)


def test_one_completion_a_prompt_is_enough(tiny_model: ModelFolder) -> None:
    learner = with_value(tiny_model("llama"))
    source = Source(make_task(), learner.model.chat, LocalSampler(learner.model))
    groups = next(PPO(batch_size=3, group_size=1, max_new_tokens=4).collect(source))
    assert [len(g.completions) for g in groups] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_ppo_epochs": 0}, "num_ppo_epochs is 0"),
        ({"num_mini_batches": 0}, "num_mini_batches is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"kl_coef": 0.0, "kl_target": 6.0}, "nothing that can adapt"),
        (
            {"mini_batch_size": 7},
            r"mini_batch_size is 7, but a step has 64 completions \(batch_size 16 \* group_size 4",
        ),
        ({"mini_batch_size": -8}, "mini_batch_size is -8"),
        ({"mini_batch_size": 8, "num_mini_batches": 4}, "give one of the two"),
        ({"entropy_floor": 1.0}, "entropy_coef is 0"),
        ({"standardize_rewards": True, "batch_size": 1, "group_size": 1}, "at least 2 completions"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPO(**options)


def test_groups_without_scores_are_refused(tiny_model: ModelFolder) -> None:
    learner = with_value(tiny_model("llama"))
    group = Group([1, 2], [Completion([3, 4], [True, True], [-1.0, -1.0])])
    with pytest.raises(ValueError, match="no scores"):
        PPO().annotate([group], learner)
