"""Conversations are decoded turn by turn with what was computed before, and nothing but rounding changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tieout.learner import Model, load
from tieout.samplers import SamplingParams
from tieout.samplers.local.decoding.decoder import SharedStep
from tieout.samplers.local.decoding.kept import Kept
from tieout.samplers.local.sampler import LocalSampler
from tieout.types import Completion


@pytest.fixture(scope="module")
def base() -> Model:
    return load("tieout-base")


PARAMS = SamplingParams(max_new_tokens=6, temperature=1.0)


def turns(sampler: LocalSampler, prompts: list[list[int]]) -> list[list[Completion]]:
    """Three turns, with replies of several lengths; the second prompt is asked once and leaves after the first."""
    said = list[list[Completion]]()
    for turn in range(3):
        now = [group[0] for group in sampler.sample(prompts, 1, PARAMS)]
        said.append(now)
        replies = [list(range(9, 12 + i + turn)) for i in range(len(prompts))]
        prompts = [p + c.tokens + r for p, c, r in zip(prompts, now, replies, strict=True)]
        if turn == 0:
            del prompts[1]
    return said


@pytest.mark.parametrize("drafts", [False, True])
@pytest.mark.parametrize("rows", [192, 2])
def test_a_kept_conversation_goes_on_as_a_new_one_does(base: Model, drafts: bool, rows: int) -> None:
    prompts = [[4, 20, 30], [4, 21, 31, 41, 51], [4, 20, 30], [4, 9]]
    plain = turns(LocalSampler(base, batch_size=rows, drafts=drafts), prompts)
    sampler = LocalSampler(base, batch_size=rows, drafts=drafts)
    with sampler.keeping():
        kept = turns(sampler, prompts)
        assert sampler.kept is not None
        assert sampler.kept.reused >= sum(len(c.tokens) - 1 for said in kept[:2] for c in said[:1])
    for one, other in zip(plain, kept, strict=True):
        assert [c.tokens for c in one] == [c.tokens for c in other]
        for a, b in zip(one, other, strict=True):
            assert torch.tensor(a.logprobs) == pytest.approx(torch.tensor(b.logprobs), abs=2e-4)
    assert sampler.kept is None


def test_what_has_no_room_is_computed_again(base: Model) -> None:
    sampler = LocalSampler(base, cache_gigabytes=1e-9)
    with sampler.keeping():
        turns(sampler, [[4, 20, 30], [4, 21]])
        assert sampler.kept is not None
        assert sampler.kept.reused == 0


def test_the_models_own_layers_continue_too(base: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(network: Any) -> SharedStep:
        return SharedStep(network)

    prompts = [[4, 20, 30], [4, 21, 31]]
    lean = turns(LocalSampler(base), prompts)
    monkeypatch.setattr("tieout.samplers.local.backends.LeanStep", shared)
    sampler = LocalSampler(base)
    with sampler.keeping():
        assert [[c.tokens for c in said] for said in turns(sampler, prompts)] == [
            [c.tokens for c in said] for said in lean
        ]


def test_what_is_kept_stays_below_its_bound_whatever_its_sizes() -> None:
    kept = Kept(most_bytes=200)
    for length in (20, *[1] * 40):
        kept.keep([*range(len(kept.next)), length], torch.zeros(length))
    assert sum(state.nbytes for state in kept.next.values()) == 100
    kept.begin()
    kept.keep([1], torch.zeros(25))
    assert list(kept.next) == [(1,)]
