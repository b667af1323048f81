"""Drafts change how many steps a completion takes, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import VOCABULARY, make_learner, random_groups
from tieout.learner import AdapterConfig, Learner, Model, load
from tieout.samplers import SamplingParams
from tieout.samplers.local.backends import BACKENDS, BackendName
from tieout.samplers.local.decoding.decode_job import DecodeJob
from tieout.samplers.local.decoding.drafts import Continuations, DraftCounts, Drafts
from tieout.samplers.local.decoding.pace import Pace
from tieout.samplers.local.decoding.sampling import Request
from tieout.samplers.local.sampler import LocalSampler

ModelFolder = Callable[[str], Path]
PROMPTS = [g.prompt for g in random_groups([(23, [1]), (3, [1]), (1, [1]), (23, [1]), (40, [1])], seed=9)]
GROUP, STOPS = 4, tuple(range(0, VOCABULARY, 21))
SETTINGS = {
    "plain": SamplingParams(max_new_tokens=24, seed=3),
    "cold": SamplingParams(max_new_tokens=24, temperature=0.6, seed=3),
    "nucleus": SamplingParams(max_new_tokens=24, top_p=0.8, seed=3),
    "greedy": SamplingParams(max_new_tokens=24, temperature=0),
}


def sampled(
    model: Model, backend: BackendName, params: SamplingParams, rows: int, drafts: Drafts | None
) -> list[Request]:
    requests = [[Request.make(params, i * GROUP + k) for k in range(GROUP)] for i in range(len(PROMPTS))]
    with torch.no_grad(), model.merged() as network:
        BACKENDS[backend](network, DecodeJob(PROMPTS, requests, params, STOPS, rows, drafts=drafts))
    return [r for group in requests for r in group]


def partly_right(completions: Sequence[list[int]], share: float) -> Callable[..., Any]:
    """A guess of random length that knows what will come, with every token wrong by some chance."""
    chance = random.Random(0)

    def guess(self: Continuations, text: list[int], most: int) -> tuple[list[int], list[int]]:
        said = text[len(self.start) :]
        known = [c for c in completions if c[: len(said)] == said]
        coming = chance.choice(known)[len(said) :][: chance.randint(0, max(0, most))]
        right = [t if chance.random() < share else chance.randrange(VOCABULARY) for t in coming]
        return right, [6] * len(right)

    return guess


def same(found: Sequence[Request], expected: Sequence[Request]) -> None:
    assert [r.tokens for r in found] == [r.tokens for r in expected]
    for name in ("logprobs", "entropies"):
        a, b = (torch.tensor([x for r in side for x in getattr(r, name)]) for side in (found, expected))
        assert (a - b).abs().max() < 2e-5


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("family", "backend"),
    [
        ("llama", "lean"),
        ("qwen2", "shared"),
        ("qwen3", "lean"),
        ("mistral", "shared"),  # its window and gemma3's are shorter than prompts and completions here
        ("gemma3", "lean"),
        ("gemma3", "shared"),
    ],
)
def test_completions_are_the_same_whatever_is_guessed(
    tiny_model: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    backend: BackendName,
    setting: str,
) -> None:
    """Rows come and go, guesses of any length are right, wrong, or right at first."""
    model, params = policy(tiny_model(family)).model, SETTINGS[setting]
    plain = sampled(model, backend, params, 20, None)
    monkeypatch.setattr(Pace, "lengths", lambda self, runs: [len(r) for r in runs])
    for rows, share in ((20, 0.9), (8, 0.6)):
        monkeypatch.setattr(Continuations, "guess", partly_right([r.tokens for r in plain], share))
        drafts = Drafts()
        same(sampled(model, backend, params, rows, drafts), plain)
        assert 0.2 < drafts.counts.accepted / drafts.counts.drafted < 0.95
        assert drafts.counts.tokens == sum(len(r.tokens) - 1 for r in plain)
        assert drafts.counts.tokens - drafts.counts.row_steps == drafts.counts.accepted > 50
    if setting != "greedy":
        assert {r.tokens[-1] in STOPS for r in plain} == {True, False}


def policy(folder: Path) -> Learner:
    return make_learner(folder, adapter=AdapterConfig(rank=4, targets="q_proj,v_proj"))


def test_a_sampler_gives_the_same_with_drafts_and_without(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own guesses, from prompts that repeat themselves, and by hints of all that will come."""
    monkeypatch.setattr(Pace, "ready", lambda self: True)
    monkeypatch.setattr(Pace, "lengths", lambda self, runs: [len(r) for r in runs])
    model = load(str(tiny_model("llama")))
    prompts = [p * 3 for p in PROMPTS]
    params = SamplingParams(max_new_tokens=40, temperature=0.3, seed=5)
    expected = LocalSampler(model).sample(prompts, GROUP, params)
    sampler = LocalSampler(model, drafts=True)
    assert sampler.drafts is not None
    for _ in range(2):
        sampler.drafts.counts = DraftCounts()
        found = sampler.sample(prompts, GROUP, params)
        for a, b in zip((c for g in found for c in g), (c for g in expected for c in g), strict=True):
            assert (a.tokens, a.finish_reason, a.text) == (b.tokens, b.finish_reason, b.text)
            assert a.logprobs == pytest.approx(b.logprobs, abs=2e-5)
        sampler.drafts.hints = {
            tuple(p): [c.tokens for c in g] for p, g in zip(prompts, expected, strict=True)
        }
    assert sampler.drafts.counts.tokens_per_step > 2.5


def test_drafts_repeat_themselves_to_the_last_bit(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy completions of a random model run in circles, which is enough to guess from."""
    monkeypatch.setattr("tieout.samplers.local.decoding.pace.FREE_TOKENS", {"cpu": 100.0})
    model, params = load(str(tiny_model("llama"))), SamplingParams(max_new_tokens=100, temperature=0)
    sampler = LocalSampler(model, Stops(), drafts=True)  # type: ignore[arg-type]
    first = sampler.sample(PROMPTS, 2, params)
    assert sampler.drafts is not None
    assert sampler.drafts.counts.accepted > 20
    assert sampler.sample(PROMPTS, 2, params) == first
    again = LocalSampler(model, Stops(), drafts=True)  # type: ignore[arg-type]
    assert again.sample(PROMPTS, 2, params) == first


class Stops:
    """What the sampler needs of a chat; nothing ends a completion."""

    stop_tokens = ()

    def text(self, tokens: list[int]) -> str:
        return str(tokens)


# ---------------------------------------------------------------- guesses


def test_a_guess_continues_the_longest_run() -> None:
    known = Continuations([1, 2, 3, 4, 5, 9, 2, 3, 4, 7, 8])
    assert known.guess([0, 2, 3, 4], 1) == ([7], [3])  # after 2 3 4 both 5 and 7 came: the last
    assert known.guess([0, 2, 3, 4], 3) == ([5, 9, 2], [3, 4, 5])  # unless more is known after an earlier one
    assert known.guess([0, 9, 2, 3, 4], 2) == ([7, 8], [4, 5])
    assert known.guess([6, 6], 3) == ([], [])
    assert known.guess([6], 3) == ([], [])


def test_a_sibling_is_known_as_far_as_it_has_come() -> None:
    known = Continuations([1, 2])
    sibling = [*known.start, 5, 6, 7]
    known.learn(sibling, 2)
    assert known.guess([*known.start, 5], 4) == ([6, 7], [3, 4])
    before = len(sibling)
    sibling += [8, 5]
    known.learn(sibling, before)
    assert known.guess([*known.start, 5], 4) == ([6, 7, 8, 5], [3, 4, 5, 6])


# ---------------------------------------------------------------- the pace


def after(rows: int, right: float, steps: int = 300) -> list[int]:
    """Drafted tokens of each step, where guesses of ten are right so often."""
    chance, pace, drafted = random.Random(1), Pace("cpu"), list[int]()
    for _ in range(steps):
        runs = [[6] * 10 for _ in range(rows)]
        lengths = pace.lengths(runs) if pace.ready() else [0] * rows
        kept = [next((i for i in range(n) if chance.random() > right), n) + 1 for n in lengths]
        if any(lengths):
            pace.saw([r[:n] for r, n in zip(runs, lengths, strict=True)], kept)
        drafted.append(sum(lengths))
    return drafted


def test_drafts_grow_where_they_are_right() -> None:
    assert min(after(8, 0.95)[100:]) >= 8 * 5


def test_drafts_stop_where_a_wider_step_costs_as_much_as_it_gains() -> None:
    drafted = after(64, 0.3)
    assert sum(d > 0 for d in drafted[100:]) < 20


def test_drafts_stop_where_guesses_are_wrong() -> None:
    assert sum(d > 0 for d in after(8, 0.02)) < 20
