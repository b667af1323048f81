"""Padding of rows in 16 bits on a CPU: it changes no number that is read, and leaves few lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from random_groups import gradient, make_learner, random_groups, relative
from tieout.learner import Learner
from tieout.learner.micro_batches import MicroBatches
from tieout.learner.prefix.row_lengths import with_padding
from tieout.methods import SFT
from tieout.types import Completion, Group

CPU = torch.device("cpu")
SIXTEEN = (torch.bfloat16, torch.float16)


def test_a_row_is_at_most_a_sixteenth_longer_from_128_tokens_on() -> None:
    for dtype in SIXTEEN:
        found = {n: with_padding(n, dtype, CPU) for n in range(1, 8193)}
        assert all(n <= length < n + max(8, n / 16 + 1) for n, length in found.items())
        assert len({length for n, length in found.items() if n > 512}) == 4 * 16
        assert all(with_padding(length, dtype, CPU) == length for length in found.values())


def test_only_16_bits_on_a_cpu_are_padded() -> None:
    assert with_padding(1001, torch.float32, CPU) == 1001
    assert with_padding(1001, torch.bfloat16, torch.device("cuda")) == 1001


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
@pytest.mark.parametrize("layout", ["packed", "repeated"])
def test_padding_changes_neither_what_is_measured_nor_the_gradient(
    tiny_model: Callable[[str], Path], family: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = random_groups()
    learner = make_learner(tiny_model(family), layout=layout)
    plain, (expected, metrics) = flat(learner, groups), gradient(learner, groups, SFT())
    padded(monkeypatch, 13)
    found, more = gradient(learner, groups, SFT())
    assert more["token_ratio"] < metrics["token_ratio"]  # it has padded
    assert relative(found, expected) < 1e-5
    assert torch.allclose(flat(learner, groups), plain, atol=1e-5)


def test_scores_of_padded_rows_are_those_after_the_last_token(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, groups = make_learner(tiny_model("llama"), head="score"), random_groups()
    expected = learner.scores(groups)
    padded(monkeypatch, 13)
    for found, own in zip(learner.scores(groups), expected, strict=True):
        assert found == pytest.approx(own, abs=1e-5)


def test_rows_of_many_lengths_have_few(tiny_model: Callable[[str], Path]) -> None:
    learner = make_learner(tiny_model("llama"))
    learner.model.causal.to(torch.bfloat16)
    sizes = [
        learner.micro_batches.layout([Group([1] * 9, [Completion([2] * n, [True] * n)])]).fed
        for n in range(1, 301)
    ]
    assert set(sizes) == {*range(16, 257, 8), 272, 288, 304, 320}
    assert sizes == sorted(sizes)


def padded(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    monkeypatch.setattr(MicroBatches, "_length", lambda self, length: length + tokens)


def flat(learner: Learner, groups: list[Group]) -> torch.Tensor:
    return torch.tensor([x for group in learner.logprobs(groups) for c in group for x in c])
