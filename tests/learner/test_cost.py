"""The cost rule: what it must prefer where the answer is clear, and that the choice changes no number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from random_groups import flat, gradient, make_learner, random_groups, relative
from tieout.batch import Batch, Outputs
from tieout.learner.forward import Forward
from tieout.learner.prefix.attention import AttentionBackend
from tieout.learner.prefix.cost import Cost, cheaper_repeated

ModelFolder = Callable[[str], Path]
LARGE = 1 << 30
PAIR = 1e-3
"""About that of a model with 60M parameters."""


def repeats(
    backend: AttentionBackend,
    prompt: int,
    lengths: list[int],
    budget: int = LARGE,
    window: int | None = None,
    call: float = 1.5,
) -> bool:
    return cheaper_repeated(Cost(PAIR, backend, call, (window,)), random_groups([(prompt, lengths)]), budget)


@pytest.mark.parametrize("backend", ["merge", "flash", "dense"])
def test_a_long_prompt_is_shared_on_every_backend(backend: AttentionBackend) -> None:
    assert not repeats(backend, 512, [128] * 8)
    assert not repeats(backend, 1024, [64, 50])


def test_a_mask_over_long_completions_is_not_worth_a_short_prompt() -> None:
    """`dense` pays for every pair in the row, also of completions that do not see each other."""
    assert repeats("dense", 64, [512] * 8)
    assert not repeats("merge", 64, [512] * 8)
    assert not repeats("flash", 64, [512] * 8)


def test_short_prompts_of_a_tiny_model_are_not_worth_the_calls() -> None:
    assert repeats("merge", 8, [16] * 8, call=10)
    assert not repeats("merge", 8, [16] * 8, call=1)
    assert not repeats("flash", 8, [16] * 8, call=10)  # one call for all


def test_padding_is_paid_for() -> None:
    assert repeats("dense", 16, [256] * 8)
    assert not repeats("dense", 16, [256, *[8] * 7])


def test_the_budget_of_tokens_holds_for_the_plain_layout_too() -> None:
    assert repeats("dense", 64, [512] * 8, budget=8 * 576)
    assert not repeats("dense", 64, [512] * 8, budget=8 * 576 - 1)


def test_an_active_window_makes_merge_as_dear_as_a_mask() -> None:
    assert repeats("merge", 64, [512] * 8, window=128)
    assert not repeats("merge", 64, [512] * 8, window=576)
    assert not repeats("flash", 64, [512] * 8, window=128)


def test_a_model_says_what_its_pairs_cost(tiny_model: ModelFolder) -> None:
    """llama of conftest: two layers; q, o 32x32, k, v 32x16, three of 32x64; four heads of eight numbers."""
    model = make_learner(tiny_model("llama")).model
    linear = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    adapters = sum(p.numel() for p in model.trained().values())
    cost = Cost.of(model.causal, "merge")
    assert 2 * 2 * 2 * 32 / cost.pair in (linear, linear + adapters)
    assert cost.windows == (None, None)
    assert Cost.of(make_learner(tiny_model("gemma3")).model.causal, "merge").windows == (16, None)
    assert Cost.of(make_learner(tiny_model("mistral")).model.causal, "merge").windows == (16, 16)


def test_micro_batches_of_one_step_may_differ_and_the_gradient_does_not(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One group is cheaper packed, one repeated; the metrics say how many shared their prompt."""
    monkeypatch.setattr(Forward, "attention_backend", "dense")
    groups = random_groups([(60, [4, 5]), (2, [60] * 4)])

    def loss(outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return batch.token_mean(-outputs.logprobs), {}

    found = {}
    for layout in ("auto", "packed", "repeated"):
        learner = make_learner(tiny_model("llama"), layout=layout, micro_batch_tokens=250)
        found[layout] = (*gradient(learner, groups, loss), flat(learner.logprobs(groups)))
    shared = {layout: metrics["shared_prefix"] for layout, (_, metrics, _) in found.items()}
    assert shared == {"auto": 0.5, "packed": 1, "repeated": 0}
    for layout in ("auto", "packed"):
        assert relative(found[layout][0], found["repeated"][0]) < 1e-5
        assert (found[layout][2] - found["repeated"][2]).abs().max() < 1e-5
