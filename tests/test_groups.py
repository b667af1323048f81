"""Forgetting: what is kept of a group when its rewards become an order, labels, a demonstration."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from random_groups import random_groups
from tieout.batch import Batch, Totals
from tieout.groups import (
    best,
    best_and_worst,
    best_tokens,
    class_weights,
    decided,
    mismatched,
    ranked_pairs,
    tail_weights,
)
from tieout.types import Completion, Group

GROUPS = random_groups([(9, [7, 3, 12]), (4, [5, 5]), (6, [2, 8, 8, 1])])


def test_best_and_worst_keep_tokens_scores_and_columns_together() -> None:
    group = GROUPS[0].with_columns(place=[0, 1, 2])
    pair = best_and_worst(replace(group, scores=[0.1, 2.0, -1.0]))
    assert pair.scores == [2.0, -1.0]
    assert pair.completions == [group.completions[1], group.completions[2]]
    assert pair.columns["place"] == [1, 2]
    only = best(replace(group, scores=[0.1, 2.0, -1.0]))
    assert (only.completions, only.scores) == ([group.completions[1]], [2.0])


def test_a_tie_still_gives_two_completions_and_the_same_ones_everywhere() -> None:
    tied = replace(GROUPS[0], scores=[1.0, 1.0, 1.0])
    assert best_and_worst(tied).completions == GROUPS[0].completions[:2]
    assert not decided(tied)
    assert decided(GROUPS[0])
    batch = Batch([tied], Totals.of([tied]))
    assert [t.tolist() for t in batch.best_and_worst()] == [[0], [1]]
    assert best_tokens([tied]) == sum(tied.completions[0].mask)


def test_too_few_scores_say_so() -> None:
    with pytest.raises(ValueError, match="at least 2 scored completions; one has 1"):
        best_and_worst(replace(GROUPS[0], completions=GROUPS[0].completions[:1], scores=[1.0]))
    with pytest.raises(ValueError, match="one has none"):
        best(replace(GROUPS[0], scores=None))


def test_a_ranking_is_all_its_decided_pairs() -> None:
    assert sorted(ranked_pairs([3.0, 1.0, 2.0])) == [(0, 1), (0, 2), (2, 1)]
    assert ranked_pairs([1.0, 1.0]) == []
    ties = replace(GROUPS[0], scores=[1.0, 0.0, 0.0])
    batch = Batch([ties, replace(GROUPS[1], scores=[0.0, 0.0]), GROUPS[2]], Totals.of(GROUPS))
    better, worse, weights = batch.ranked()
    assert len(better) == len(worse) == 2 + 0 + 6
    assert weights[:2].tolist() == [0.5, 0.5]
    assert weights.sum() == pytest.approx(2)  # the group that all ties weighs nothing
    flat = [s for g in batch.groups for s in g.scores or []]
    assert all(flat[i] > flat[j] for i, j in zip(better.tolist(), worse.tolist(), strict=True))


def test_a_mismatch_is_one_whatever_the_order() -> None:
    strangers = mismatched(GROUPS)
    assert len(strangers) == len(GROUPS)
    own = {(tuple(g.prompt), tuple(c.tokens)) for g in GROUPS for c in g.completions}
    assert not own & {(tuple(g.prompt), tuple(c.tokens)) for g in strangers for c in g.completions}
    assert {tuple(g.prompt) for g in strangers} == {tuple(g.prompt) for g in GROUPS}

    def pairs(groups: list[Group]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
        return {(tuple(g.prompt), tuple(c.tokens)) for g in groups for c in g.completions}

    assert pairs(strangers) == pairs(mismatched(random.Random(0).sample(GROUPS, 3)))


def test_one_prompt_has_no_strangers() -> None:
    same = [Group([1, 2], [Completion([t], [True])], [1.0]) for t in (3, 4, 5)]
    assert mismatched(same) == []
    two = mismatched([*same, Group([9], [Completion([7], [True])], [0.0])])
    assert all(g.prompt == [9] or g.completions[0].tokens == [7] for g in two)
    assert len(two) == 4


def test_class_weights_make_both_classes_weigh_the_same() -> None:
    labels = [True] * 30 + [False] * 10
    good, bad = class_weights(labels)
    assert good * 30 == bad * 10
    with pytest.raises(ValueError, match=r"all 2 labels are True; KTO needs good and bad"):
        class_weights([True, True])


def test_the_tail_is_what_the_longer_of_the_pair_says_beyond_the_shorter() -> None:
    short, long = (
        Completion([1] * 3, [True, False, True]),
        Completion([1] * 5, [True, True, False, True, True]),
    )
    weights = tail_weights(Group([1], [short, long], [1.0, 0.0]), 0.25)
    assert weights[0] == [1, 1, 1]
    assert weights[1] == [
        1,
        1,
        1,
        0.25,
        0.25,
    ]  # two trained tokens are shared; the third place is not trained
