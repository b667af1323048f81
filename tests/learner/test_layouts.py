"""Both layouts against the model's own forward, one sequence at a time; and the planner against its promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from random_groups import MIXED, gradient, make_learner, own_logprobs, random_groups, relative
from tieout.batch import Batch, Outputs
from tieout.learner.prefix.layouts import opening_of, pack, plan, repeat
from tieout.types import Completion, Group

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma3"]
PLAIN_ONLY = ["gemma2", "qwen3_next"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", ["dense", "merge"])
def test_packed_says_what_the_model_itself_says(
    tiny_model: Callable[[str], Path], family: str, backend: str
) -> None:
    learner, groups = make_learner(tiny_model(family)), random_groups()
    with torch.no_grad():
        found, _ = learner.forward(pack(groups, backend))  # type: ignore[arg-type]
        expected = own_logprobs(learner, groups)
    assert expected.std() > 0.5  # a model that says something
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", ["dense", "merge"])
def test_an_opening_of_all_prompts_is_computed_once(
    tiny_model: Callable[[str], Path], family: str, backend: str
) -> None:
    learner, groups = make_learner(tiny_model(family)), opened(random_groups(), 6)
    layout = pack(groups, backend, opening=6)  # type: ignore[arg-type]
    assert layout.fed == pack(groups, "merge").fed - 6 * (len(groups) - 1)
    with torch.no_grad():
        found, _ = learner.forward(layout)
        assert (found - own_logprobs(learner, groups)).abs().max() < 1e-5
    ids, positions = (layout.inputs[name].flatten() for name in ("input_ids", "position_ids"))
    ends = [(c.tokens or g.prompt)[-1] for g in groups for c in g.completions]
    lengths = [len(g.prompt) + len(c.tokens) for g in groups for c in g.completions]
    assert ids[layout.finals].tolist() == ends
    assert (positions[layout.finals] + 1).tolist() == lengths


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", ["dense", "merge"])
@pytest.mark.parametrize("opening", [0, 6])
def test_what_begins_all_completions_is_computed_once(
    tiny_model: Callable[[str], Path], family: str, backend: str, opening: int
) -> None:
    """Of groups in which one completion begins another, or is it, as well."""
    learner, lead = make_learner(tiny_model(family)), [5, 9, 5, 70, 8]
    groups = []
    for group in opened(random_groups(), opening):
        tokens = [[*lead, *c.tokens] for c in group.completions]
        groups.append(Group(group.prompt, [Completion(t, [True] * len(t)) for t in tokens]))
    ends = (lead, [*lead, 30, 31], [*lead, 30, 31])
    groups.append(Group(groups[0].prompt, [Completion(t, [True] * len(t)) for t in ends]))
    layout = pack(groups, backend, opening=opening)  # type: ignore[arg-type]
    saved = sum(len(lead) * (len(g.completions) - 1) for g in groups) + opening * (len(groups) - 1)
    assert layout.fed == sum(g.unique_tokens for g in groups) - saved
    with torch.no_grad():
        found, _ = learner.forward(layout)
        assert (found - own_logprobs(learner, groups)).abs().max() < 1e-5
    ids, positions = (layout.inputs[name].flatten() for name in ("input_ids", "position_ids"))
    assert ids[layout.finals].tolist() == [c.tokens[-1] for g in groups for c in g.completions]
    lengths = [len(g.prompt) + len(c.tokens) for g in groups for c in g.completions]
    assert (positions[layout.finals] + 1).tolist() == lengths


def test_a_step_computes_the_opening_once_and_gives_the_same_gradient(
    tiny_model: Callable[[str], Path],
) -> None:
    groups = opened(random_groups(), 400)
    first = groups[1].completions[0].tokens
    groups[1] = Group(groups[1].prompt, [Completion(first[:n], [True] * n) for n in (3, 3, 2)], [0.0] * 3)
    gradients, fed = [], []
    plain = sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions)
    for layout in ("packed", "repeated"):
        learner = make_learner(tiny_model("llama"), layout=layout)
        found, metrics = gradient(learner, groups, weighted)
        gradients.append(found)
        fed.append(plain / metrics["token_ratio"])
    assert fed[0] == pytest.approx(pack(groups, "merge").fed - 400 * (len(groups) - 1))
    assert relative(gradients[0], gradients[1]) < 1e-5


def weighted(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss in which no two tokens weigh the same."""
    return (outputs.logprobs * torch.sin(torch.arange(len(outputs.logprobs)).float())).sum(), {}


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=4))
def test_an_opening_begins_every_prompt_and_is_none_of_them_whole(prompts: list[list[int]]) -> None:
    found = opening_of([Group(p, []) for p in prompts])
    longest = next(
        n for n in range(min(map(len, prompts)) - 1, -1, -1) if all(p[:n] == prompts[0][:n] for p in prompts)
    )
    assert found == (longest if len(prompts) > 1 else 0)


def opened(groups: list[Group], length: int) -> list[Group]:
    """The groups with the same tokens before every prompt."""
    return [Group([*(i % 97 for i in range(length)), *g.prompt], g.completions, g.scores) for g in groups]


@pytest.mark.parametrize("family", [*FAMILIES, *PLAIN_ONLY])
def test_repeated_says_what_the_model_itself_says(tiny_model: Callable[[str], Path], family: str) -> None:
    learner, groups = make_learner(tiny_model(family)), random_groups()
    with torch.no_grad():
        found, _ = learner.forward(repeat(groups, 0))
        assert (found - own_logprobs(learner, groups)).abs().max() < 1e-5


def test_packed_feeds_each_prompt_once() -> None:
    groups = random_groups()
    layout = pack(groups, "merge")
    assert layout.fed == sum(p + sum(cs) for p, cs in MIXED) == layout.inputs["input_ids"].numel()
    assert repeat(groups, 0).fed >= sum(p + c for p, cs in MIXED for c in cs)


def test_both_layouts_ask_for_the_same_targets_in_the_order_of_the_groups() -> None:
    groups = random_groups()
    written = [t for g in groups for c in g.completions for t in c.tokens]
    assert pack(groups, "dense").targets.tolist() == repeat(groups, 0).targets.tolist() == written


def test_a_predictor_is_the_token_before() -> None:
    """In either layout the state that predicts a token belongs to its predecessor, at the position before it."""
    groups = random_groups()
    before = [
        (token, len(g.prompt) - 1 + i)
        for g in groups
        for c in g.completions
        for i, token in enumerate([g.prompt[-1], *c.tokens[:-1]])
    ]
    for layout in (pack(groups, "dense"), repeat(groups, 0)):
        ids = layout.inputs["input_ids"].flatten()[layout.predictors].tolist()
        positions = layout.inputs["position_ids"].flatten()[layout.predictors].tolist()
        assert list(zip(ids, positions, strict=True)) == before


@pytest.mark.parametrize("backend", ["dense", "merge"])
def test_an_empty_completion_changes_no_other(tiny_model: Callable[[str], Path], backend: str) -> None:
    learner = make_learner(tiny_model("llama"))
    (group,) = random_groups([(6, [4, 5, 3])])
    first, *rest = group.completions
    with_empty = [Group(group.prompt, [first, Completion([], []), *rest, Completion([], [])])]
    with torch.no_grad():
        expected, _ = learner.forward(repeat([group], 0))
        for layout in (pack(with_empty, backend), repeat(with_empty, 0)):  # type: ignore[arg-type]
            assert torch.allclose(learner.forward(layout)[0], expected, atol=1e-5)


def test_an_empty_prompt_is_refused_because_nothing_predicts_the_first_token() -> None:
    groups = [random_groups([(4, [2])])[0], Group([], [Completion([1, 2], [True, True])])]
    for layout in (lambda: pack(groups, "dense"), lambda: repeat(groups, 0)):
        with pytest.raises(ValueError, match="prompt has no tokens"):
            layout()


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 100))
def test_every_group_is_in_one_micro_batch_and_none_is_over_budget(sizes: list[int], budget: int) -> None:
    bins = plan(sizes, budget)
    assert sorted(i for b in bins for i in b) == list(range(len(sizes)))
    for part in bins:
        assert part == sorted(part)
        assert len(part) == 1 or sum(sizes[i] for i in part) <= budget


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(60, 100))
def test_no_two_micro_batches_could_be_one(sizes: list[int], budget: int) -> None:
    loads = sorted(sum(sizes[i] for i in b) for b in plan(sizes, budget))
    assert len(loads) < 2 or loads[0] + loads[1] > budget
