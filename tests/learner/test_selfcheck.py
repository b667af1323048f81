"""Plant faults in the shared-prefix attention: each must be seen, named, and stepped around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from random_groups import flat, make_learner, random_groups
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.forward import Forward
from tieout.learner.prefix import attention, selfcheck
from tieout.learner.prefix.attention import SharedPrefix
from tieout.learner.prefix.selfcheck import disagreement
from tieout.learner.prefix.span import Span

ModelFolder = Callable[[str], Path]


def found(learner: Learner) -> str | None:
    """The disagreement of this learner's model."""
    forward, trained = learner.forward, list(learner.model.trained().values())
    return disagreement(forward, learner.model.causal, trained, forward.attention_backend)


def wrong_scale(patch: pytest.MonkeyPatch) -> None:
    attend = SharedPrefix.attend
    patch.setattr(
        SharedPrefix, "attend", lambda self, i, q, k, v, s, w: attend(self, i, q, k, v, s * 1.01, w)
    )


def forgotten_token(patch: pytest.MonkeyPatch) -> None:
    """Further completions do not see the prompt's last token, nor later groups the opening's."""
    cross = attention._cross
    patch.setattr(attention, "_cross", lambda *of: [(a, b, p, end - 1) for a, b, p, end in cross(*of)])


def forgotten_opening(patch: pytest.MonkeyPatch) -> None:
    """Later groups do not see the tokens that begin all prompts."""
    cross = attention._cross
    patch.setattr(attention, "_cross", lambda spans, opening: cross(spans, 0))


def leaking_completion(patch: pytest.MonkeyPatch) -> None:
    """Further completions see the last token of the first one."""
    cross = attention._cross
    patch.setattr(attention, "_cross", lambda *of: [(a, b, p, end + 1) for a, b, p, end in cross(*of)])


def leaking_mask(patch: pytest.MonkeyPatch) -> None:
    """Completions see each other: only positions are compared."""
    patch.setattr(Forward, "attention_backend", "dense")

    def mask(span: Span, window: int | None, device: torch.device) -> Tensor:
        position = torch.cat(
            [torch.arange(span.prompt), *(torch.arange(c) + span.prompt for c in span.completions)]
        )
        return (position[:, None] >= position)[None, None]

    patch.setattr(attention, "_mask", mask)


def wrong_gradient(patch: pytest.MonkeyPatch) -> None:
    """The prompt's keys and values get nothing from the further completions."""
    backward = attention._backward

    def partial(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = backward(*args, **kwargs)
        causal = args[7]
        return (dq, dk, dv) if causal else (dq, torch.zeros_like(dk), torch.zeros_like(dv))

    patch.setattr(attention, "_backward", partial)


def no_kernel(patch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("no such kernel on this device")

    patch.setattr(attention, "_forward", missing)


def not_a_number(patch: pytest.MonkeyPatch) -> None:
    attend = SharedPrefix.attend
    patch.setattr(SharedPrefix, "attend", lambda self, *args: attend(self, *args) * float("nan"))


FAULTS = [
    (wrong_scale, "log-probabilities differ"),
    (forgotten_token, "log-probabilities differ"),
    (forgotten_opening, "log-probabilities differ"),
    (leaking_completion, "changing one completion moved another"),
    (leaking_mask, "changing one completion moved another"),
    (wrong_gradient, "gradients point apart"),
    (no_kernel, "no such kernel"),
    (not_a_number, "differ|moved another"),
]


@pytest.mark.parametrize(("plant", "reason"), FAULTS)
def test_a_planted_fault_is_named_and_the_plain_layout_used(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, plant: Any, reason: str
) -> None:
    groups = random_groups()
    learner = make_learner(tiny_model("llama"))
    sound = flat(learner.logprobs(groups))
    assert learner.packs
    plant(monkeypatch)
    learner = Learner(learner.model)
    with pytest.warns(UserWarning, match=f"cannot share prompts between completions: .*({reason})"):
        assert not learner.packs
    assert torch.allclose(flat(learner.logprobs(groups)), sound, atol=1e-5)
    metrics = learner.update(groups, lambda outputs, batch: (batch.token_mean(outputs.logprobs), {}))
    assert metrics["shared_prefix"] == 0
    strict = Learner(learner.model, config=replace(learner.config, layout="packed"))
    with pytest.raises(ValueError, match=reason):
        strict.logprobs(groups)


@pytest.mark.parametrize("plant", [None, wrong_scale, forgotten_token])
def test_rounding_of_a_trained_model_is_no_fault(monkeypatch: pytest.MonkeyPatch, plant: Any) -> None:
    """Trained weights enlarge rounding; plain forwards that run the same kernel do not show by how much."""
    learner, first = Learner(load("tieout-base", AdapterConfig(rank=4))), selfcheck.probe
    if plant:
        plant(monkeypatch)
    for seed in range(4 if plant else 12):
        monkeypatch.setattr(selfcheck, "probe", lambda size, seed=seed: first(size, seed))
        assert (found(learner) is None) is (plant is None)


def test_the_check_leaves_no_trace(tiny_model: ModelFolder) -> None:
    """No gradient, no random number, no weight, no mode: training is the same with and without it."""
    learner = make_learner(tiny_model("qwen3"))
    weights = {n: p.clone() for n, p in learner.model.network.named_parameters()}
    state = torch.random.get_rng_state()
    assert found(learner) is None
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in learner.model.network.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.grad is None or not parameter.grad.any()
    assert not learner.model.network.training


def test_the_check_holds_in_half_precision(tiny_model: ModelFolder) -> None:
    """Noise is larger there, and so is what is allowed."""
    model = load(str(tiny_model("llama")), AdapterConfig(rank=4), dtype=torch.bfloat16)
    assert found(Learner(model)) is None


def test_running_out_of_memory_is_no_reason_to_use_more_of_it(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(SharedPrefix, "attend", full)
    with pytest.raises(torch.OutOfMemoryError):
        make_learner(tiny_model("llama")).logprobs(random_groups())


def test_it_is_asked_once(tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieout.learner import micro_batches as module

    calls: list[int] = []
    monkeypatch.setattr(module, "disagreement", lambda *args: calls.append(1))
    learner = make_learner(tiny_model("llama"))
    for _ in range(3):
        learner.logprobs(random_groups())
    assert calls == [1]
