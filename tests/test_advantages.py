from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.advantages import (
    ADVANTAGES,
    batch_zscore,
    gae,
    group_mean,
    group_zscore,
    maxrl,
    overlong_penalty,
    whiten,
)

scores = st.lists(st.floats(-100, 100), min_size=2, max_size=16)


@given(scores, st.floats(-50, 50))
def test_a_constant_bonus_for_the_whole_group_changes_nothing(values: list[float], bonus: float) -> None:
    moved = [v + bonus for v in values]
    assert group_mean(moved) == pytest.approx(group_mean(values), abs=1e-9)
    assert sum(group_mean(values)) == pytest.approx(0, abs=1e-9)


@given(scores)
def test_advantages_keep_the_order_and_belong_to_their_completion(values: list[float]) -> None:
    for advantages in (group_mean(values), group_zscore(values)):
        pairs = sorted(zip(values, advantages, strict=True))
        assert all(a[1] <= b[1] + 1e-9 for a, b in itertools.pairwise(pairs))


@given(scores)
def test_reversed_scores_give_reversed_advantages(values: list[float]) -> None:
    assert group_zscore(values[::-1]) == pytest.approx(group_zscore(values)[::-1], abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=16), st.floats(2, 50))
def test_the_zscore_forgets_the_scale(values: list[float], scale: float) -> None:
    if statistics.stdev(values) > 1:
        assert group_zscore([v * scale for v in values], eps=0) == pytest.approx(group_zscore(values, eps=0))
        assert statistics.stdev(group_zscore(values, eps=0)) == pytest.approx(1)


@given(st.floats(-100, 100), st.integers(1, 16))
def test_equal_scores_teach_nothing(value: float, count: int) -> None:
    assert group_mean([value] * count) == pytest.approx([0] * count, abs=1e-12)
    assert group_zscore([value] * count) == pytest.approx([0] * count, abs=1e-8)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_a_group_of_one_and_a_group_of_equals_teach_nothing(name: str) -> None:
    assert ADVANTAGES[name]([0.7]) == [0]
    assert ADVANTAGES[name]([0.0] * 4) == [0] * 4
    assert ADVANTAGES[name]([0.7] * 3) == pytest.approx([0] * 3, abs=1e-8)


POLICY = [0.5, 0.3, 0.2]
"""Of three words; its logits are what is trained."""


def expected_update(reward: list[float], size: int, name: str) -> list[float]:
    """[3] E[mean of advantage * d log p(word)] over all groups of `size` words, each with its probability."""
    total = [0.0] * 3
    for group in itertools.product(range(3), repeat=size):
        chance = math.prod(POLICY[word] for word in group)
        advantages = ADVANTAGES[name]([reward[word] for word in group])
        for word, advantage in zip(group, advantages, strict=True):
            for logit in range(3):
                total[logit] += chance * advantage / size * ((word == logit) - POLICY[logit])
    return total


def slope_of_expected_reward(reward: list[float]) -> list[float]:
    mean = sum(p * r for p, r in zip(POLICY, reward, strict=True))
    return [p * (r - mean) for p, r in zip(POLICY, reward, strict=True)]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_leave_one_out_is_the_gradient_of_expected_reward_for_any_group_size(size: int) -> None:
    reward = [1.0, 0.2, -0.5]
    assert expected_update(reward, size, "leave_one_out") == pytest.approx(slope_of_expected_reward(reward))
    shrunk = [s * (size - 1) / size for s in slope_of_expected_reward(reward)]
    assert expected_update(reward, size, "mean") == pytest.approx(shrunk)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_maxrl_follows_the_log_of_the_success_rate_to_one_order_less_than_the_group(size: int) -> None:
    """log p = -sum of (1 - p)^k / k, so its slope is 1 + (1 - p) + (1 - p)^2 + ... times that of p."""
    reward = [0.0, 0.0, 1.0]
    series = sum((1 - POLICY[2]) ** k for k in range(size - 1))
    expected = [series * s for s in slope_of_expected_reward(reward)]
    assert expected_update(reward, size, "maxrl") == pytest.approx(expected)


def test_maxrl_refuses_scores_that_are_no_share_of_success() -> None:
    with pytest.raises(ValueError, match=r"needs scores of 0 or more.*a score is -1"):
        maxrl([1.0, -1.0])


@given(scores, scores)
def test_the_batch_zscore_is_one_scale_for_all_groups(one: list[float], other: list[float]) -> None:
    """Each group keeps the proportions of its centred scores, and both are divided by the same number."""
    found = list(itertools.chain(*batch_zscore([one, other], eps=1e-4)))
    centred = group_mean(one) + group_mean(other)
    spread = statistics.stdev(one + other) + 1e-4
    assert [a * spread for a in found] == pytest.approx(centred, abs=1e-6)


def test_gae_by_hand() -> None:
    """Three steps, gamma 0.9, lambda 0.5.

    Differences: 2 + 0 - 3 = -1; 0 + 0.9 * 3 - 2 = 0.7; 1 + 0.9 * 2 - 1 = 1.8. Advantages, from the last:
    -1; 0.7 - 0.45 = 0.25; 1.8 + 0.45 * 0.25 = 1.9125.
    """
    advantages, returns = gae([1.0, 0.0, 2.0], [1.0, 2.0, 3.0], [True] * 3, gamma=0.9, lam=0.5)
    assert advantages == pytest.approx([1.9125, 0.25, -1.0])
    assert returns == pytest.approx([2.9125, 2.25, 2.0])


def test_gae_steps_over_tool_tokens() -> None:
    """The same three steps with a tool's reply between them, whose values and rewards must not be looked at."""
    mask = [True, False, False, True, True, False]
    advantages, returns = gae(
        [1.0, 50.0, 50.0, 0.0, 2.0, 50.0], [1.0, 70.0, -70.0, 2.0, 3.0, 70.0], mask, gamma=0.9, lam=0.5
    )
    assert advantages == pytest.approx([1.9125, 0, 0, 0.25, -1.0, 0])
    assert returns == pytest.approx([2.9125, 0, 0, 2.25, 2.0, 0])


@given(scores, st.data())
def test_gae_with_lambda_1_is_what_was_received_minus_the_value(
    rewards: list[float], data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.floats(-10, 10), min_size=len(rewards), max_size=len(rewards)))
    mask = [True] * len(rewards)
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    left = [sum(rewards[t:]) for t in range(len(rewards))]
    assert returns == pytest.approx(left, abs=1e-9)
    assert advantages == pytest.approx([g - v for g, v in zip(left, values, strict=True)], abs=1e-9)
    one_step, _ = gae(rewards, values, mask, gamma=1.0, lam=0.0)
    after = [*values[1:], 0.0]
    assert one_step == pytest.approx(
        [r + w - v for r, v, w in zip(rewards, values, after, strict=True)], abs=1e-9
    )


@given(st.lists(st.lists(st.tuples(st.floats(-100, 100), st.booleans()), max_size=6), max_size=5))
def test_whitened_tokens_have_mean_0_and_spread_1_and_untrained_ones_do_not_count(
    rows: list[list[tuple[float, bool]]],
) -> None:
    values, mask = [[v for v, _ in row] for row in rows], [[m for _, m in row] for row in rows]
    before = [v for row in rows for v, m in row if m]
    if len(before) < 2 or statistics.stdev(before) < 0.1:
        return
    for shift, mean in ((True, 0.0), (False, statistics.fmean(before))):
        white = whiten(values, mask, shift)
        after = [
            w for row, flags in zip(white, mask, strict=True) for w, m in zip(row, flags, strict=True) if m
        ]
        assert statistics.fmean(after) == pytest.approx(mean, abs=1e-6)
        assert statistics.stdev(after) == pytest.approx(1, abs=1e-6)
        assert all(
            w == 0
            for row, flags in zip(white, mask, strict=True)
            for w, m in zip(row, flags, strict=True)
            if not m
        )


def test_whitening_equal_values_or_none_gives_no_signal_and_no_number_that_is_none() -> None:
    assert whiten([[0.3, 0.3], [0.3]], [[True, True], [True]]) == [[0, 0], [0]]
    assert whiten([[2.0]], [[True]]) == [[0]]
    assert whiten([[2.0]], [[False]]) == [[0]]
    assert whiten([], []) == []


def test_the_overlong_penalty_is_dapos() -> None:
    """Their setting: 16384 tokens without a penalty, and 4096 more over which it grows."""
    lengths = [1, 16384, 17408, 18432, 20480, 30000]
    found = [overlong_penalty(n, longest=20480, buffer=4096) for n in lengths]
    assert found == pytest.approx([0, 0, -0.25, -0.5, -1, -1])
    assert [overlong_penalty(n, longest=10, buffer=0) for n in (10, 11)] == [0, -1]


def test_advantages_import_without_torch() -> None:
    code = "import sys, tieout.advantages, tieout.types; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
