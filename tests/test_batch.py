from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from random_groups import MIXED, random_groups
from tieout.batch import Batch, Totals
from tieout.errors import InputError
from tieout.groups import best_tokens
from tieout.types import Completion, Group

GROUPS = [g.with_columns(weight=list(range(len(g.completions)))) for g in random_groups()]
TOTALS = Totals.of(GROUPS)


def per_token(groups: list[Group]) -> torch.Tensor:
    """A number that depends on the token itself, so that order does not matter."""
    tokens = [t for g in groups for c in g.completions for t in c.tokens]
    return torch.tensor(tokens, dtype=torch.float64).sin()


def test_totals_count_trained_tokens_only() -> None:
    completions = [c for g in GROUPS for c in g.completions]
    best = [max(zip(g.scores or [], g.completions, strict=True), key=lambda pair: pair[0])[1] for g in GROUPS]
    trained = [sum(m for c in some for m in c.mask) for some in (completions, best)]
    assert Totals(trained[0], len(completions), len(GROUPS)) == TOTALS
    assert best_tokens(GROUPS) == trained[1]
    assert best_tokens([replace(group, scores=None) for group in GROUPS]) == 0
    assert TOTALS.tokens < sum(len(c.tokens) for c in completions)


@pytest.mark.parametrize("mean", ["token_mean", "sequence_mean"])
def test_means_over_micro_batches_add_up_to_the_mean_of_the_step(mean: str) -> None:
    whole = getattr(Batch(GROUPS, TOTALS), mean)(per_token(GROUPS))
    for cut in range(1, len(GROUPS)):
        parts = [GROUPS[:cut], GROUPS[cut:]]
        shares = [getattr(Batch(part, TOTALS), mean)(per_token(part)) for part in parts]
        assert sum(shares).item() == pytest.approx(whole.item(), abs=1e-12)


@pytest.mark.parametrize("mean", ["token_mean", "sequence_mean"])
def test_order_of_groups_changes_no_mean(mean: str) -> None:
    shuffled = random.Random(0).sample(GROUPS, len(GROUPS))
    a, b = (getattr(Batch(g, TOTALS), mean)(per_token(g)) for g in (GROUPS, shuffled))
    assert a.item() == pytest.approx(b.item(), abs=1e-12)


def test_tool_tokens_weigh_nothing_in_any_mean() -> None:
    batch = Batch(GROUPS, TOTALS)
    values = per_token(GROUPS)
    changed = torch.where(batch.mask, values, values + 1e3)
    for reduce in (batch.token_mean, batch.sequence_mean, batch.sum_tokens):
        assert torch.equal(reduce(values), reduce(changed))


def test_a_mean_of_ones_is_one_and_long_completions_weigh_more_only_in_the_token_mean() -> None:
    ones = torch.ones(sum(len(c.tokens) for g in GROUPS for c in g.completions))
    batch = Batch(GROUPS, TOTALS)
    assert batch.token_mean(ones).item() == pytest.approx(1)
    assert batch.sequence_mean(ones).item() == pytest.approx(1)
    long, short = Completion([1] * 9, [True] * 9), Completion([1], [True])
    pair = [Group([0], [long, short])]
    about_the_long = torch.tensor([1.0] * 9 + [0.0])
    both = Batch(pair, Totals.of(pair))
    assert both.token_mean(about_the_long).item() == pytest.approx(0.9)
    assert both.sequence_mean(about_the_long).item() == pytest.approx(0.5)


def test_a_completion_without_trained_tokens_counts_as_zero_not_as_nan() -> None:
    groups = [Group([0], [Completion([1, 2], [False, False]), Completion([1], [True])])]
    assert Batch(groups, Totals.of(groups)).sequence_mean(torch.ones(3)).item() == 0.5


def test_columns_arrive_at_their_completion_and_their_token() -> None:
    batch = Batch(GROUPS, TOTALS)
    assert batch["weight"].tolist() == [k for g in GROUPS for k in range(len(g.completions))]
    owner = batch.per_token(torch.arange(len(batch.lengths)))
    assert owner.tolist() == [n for n, length in enumerate(batch.lengths.tolist()) for _ in range(length)]
    tokens = [g.with_columns(own=[[float(t) for t in c.tokens] for c in g.completions]) for g in GROUPS]
    assert Batch(tokens, TOTALS)["own"].tolist() == [
        t for g in GROUPS for c in g.completions for t in c.tokens
    ]
    sampled = [x for g in GROUPS for c in g.completions for x in c.logprobs or []]
    assert batch["sampler_logprobs"].tolist() == pytest.approx(sampled)


def test_sums_are_per_completion() -> None:
    ones = torch.ones(sum(len(c.tokens) for g in GROUPS for c in g.completions))
    trained = [sum(c.mask) for g in GROUPS for c in g.completions]
    assert Batch(GROUPS, TOTALS).sum_tokens(ones).tolist() == trained
    alone = [Batch([g], TOTALS).sum_tokens(per_token([g])) for g in GROUPS]
    assert torch.allclose(Batch(GROUPS, TOTALS).sum_tokens(per_token(GROUPS)), torch.cat(alone))


def test_best_and_worst_are_found_inside_their_own_group() -> None:
    best, worst = Batch(GROUPS[1:], TOTALS).best_and_worst()
    scores = [s for g in GROUPS[1:] for s in g.scores or []]
    start = 0
    for b, w, group in zip(best.tolist(), worst.tolist(), GROUPS[1:], strict=True):
        assert start <= min(b, w) <= max(b, w) < start + len(group.completions)
        assert scores[b] == max(group.scores or [])
        assert scores[w] == min(group.scores or [])
        start += len(group.completions)


def test_a_tie_never_makes_one_completion_both_best_and_worst() -> None:
    completion = Completion([1], [True])
    tied = [Group([0], [completion] * 3, [0.5, 0.5, 0.5])]
    best, worst = Batch(tied, Totals.of(tied)).best_and_worst()
    assert best.tolist() != worst.tolist()


def test_what_is_missing_is_said() -> None:
    single = [g for g in GROUPS if len(g.completions) == 1]
    assert single
    with pytest.raises(ValueError, match="at least two scored"):
        Batch(single, TOTALS).best_and_worst()
    torn = [Group([0], [Completion([1], [True])] * 2, [1.0], {"prompt": "which?"})]
    with pytest.raises(ValueError, match=r"2 completions and 1 scores.*which"):
        Totals.of(torn)
    unsampled = [Group([0], [Completion([1], [True])])]
    with pytest.raises(ValueError, match="not sampled by a policy"):
        Batch(unsampled, Totals.of(unsampled))["sampler_logprobs"]


def test_the_shapes_used_here_have_k_from_one_to_eight() -> None:
    assert {1, 8} <= {len(lengths) for _, lengths in MIXED}


def test_a_count_that_was_not_given_is_named_with_the_call_that_gives_it() -> None:
    assert Totals.of(GROUPS, {"decided": 2.0}).counts["decided"] == 2.0
    with pytest.raises(InputError, match=r"count 'decided' that was not given; .*method\.counts\(groups\)"):
        Totals.of(GROUPS).counts["decided"]
