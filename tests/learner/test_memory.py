"""Activations are computed again exactly where they would not fit, and the numbers stay."""

from __future__ import annotations

import platform
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from random_groups import gradient, make_learner, random_groups, relative
from tieout.batch import Batch, Outputs
from tieout.learner import AdapterConfig
from tieout.learner import micro_batches as module
from tieout.learner.memory import apart, free_bytes, kept_bytes, release

ModelFolder = Callable[[str], Path]


def loss(outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return batch.token_mean(-outputs.logprobs), {}


def test_kept_bytes_are_those_that_backward_needs() -> None:
    weight = torch.ones(10, 20, requires_grad=True)
    x = torch.ones(5, 10)
    assert kept_bytes(lambda: x @ weight, [weight]) == 5 * 10 * 4
    assert kept_bytes(lambda: (x @ weight).exp(), [weight]) == 5 * 10 * 4 + 5 * 20 * 4
    with torch.no_grad():  # counted as if there were a backward
        assert kept_bytes(lambda: (x @ weight).exp(), [weight]) == 5 * 10 * 4 + 5 * 20 * 4


def test_the_free_memory_of_this_machine_is_known() -> None:
    free = free_bytes(torch.device("cpu"))
    if not Path("/proc/meminfo").exists():
        pytest.skip("only Linux says how much memory is free")
    assert free is not None
    assert 1 << 20 < free < 1 << 50


def test_only_the_micro_batch_that_does_not_fit_is_computed_again(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = random_groups(
        [(5, [4, 4]), (6, [3, 4]), (40, [60, 70])]
    )  # the last one has a micro-batch of its own
    expected, metrics = gradient(
        make_learner(tiny_model("llama"), micro_batch_tokens=60, layout="packed"), groups, loss
    )
    assert metrics["recomputed"] == 0  # all of this fits
    learner = make_learner(tiny_model("llama"), micro_batch_tokens=60, layout="packed")
    free = 100 * learner.micro_batches.bytes_per_token / module.USABLE
    monkeypatch.setattr(module, "free_bytes", lambda device: int(free))
    found, metrics = gradient(learner, groups, loss)
    assert metrics["recomputed"] == pytest.approx(170 / (13 + 13 + 170))
    assert relative(found, expected) < 1e-6
    assert not learner.model.network.training
    monkeypatch.setattr(module, "free_bytes", lambda device: None)
    assert gradient(learner, groups, loss)[1]["recomputed"] == 0
    always = make_learner(tiny_model("llama"), activation_checkpointing=True, layout="packed")
    assert gradient(always, groups, loss)[1]["recomputed"] == 1


def test_on_a_cpu_a_micro_batch_keeps_no_more_than_it_gains_from(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = random_groups([(30, [20, 20])] * 6)
    whole = make_learner(tiny_model("llama"), layout="packed")
    expected = gradient(whole, groups, loss)[0]
    assert len(list(whole.micro_batches.of(groups))) == 1
    learner = make_learner(tiny_model("llama"), layout="packed")
    monkeypatch.setattr(module, "ENOUGH", 100)
    monkeypatch.setattr(module, "KEPT", 150 * learner.micro_batches.bytes_per_token)
    assert [len(part) for part in learner.micro_batches.of(groups)] == [2, 2, 2]
    assert learner.micro_batches.plan(groups) == [[0, 1], [2, 3], [4, 5]], "measured as it is learned from"
    assert relative(gradient(learner, groups, loss)[0], expected) < 1e-5
    few = make_learner(tiny_model("llama"), layout="packed")
    monkeypatch.setattr(module, "KEPT", 1)
    assert [len(part) for part in few.micro_batches.of(groups)] == [1] * 6
    free = make_learner(tiny_model("llama"), layout="packed", activation_checkpointing=True)
    assert len(list(free.micro_batches.of(groups))) == 1


def test_what_a_token_keeps_is_what_a_larger_forward_keeps(tiny_model: ModelFolder) -> None:
    """Measured on fifty tokens, it must hold for many."""
    learner = make_learner(tiny_model("llama"), layout="packed")
    layout = learner.micro_batches.layout(random_groups([(200, [100, 80, 120])]))
    whole = kept_bytes(lambda: learner.forward.outputs(layout), list(learner.model.network.parameters()))
    assert learner.micro_batches.bytes_per_token == pytest.approx(whole / layout.fed, rel=0.1)


def test_measuring_draws_no_number_that_training_would_draw(tiny_model: ModelFolder) -> None:
    """A resumed run measures at another step: with adapter dropout, its masks must stay those of the unbroken run."""
    learner = make_learner(tiny_model("llama"), adapter=AdapterConfig(rank=4, dropout=0.3), layout="repeated")
    state = torch.random.get_rng_state()
    assert learner.micro_batches.bytes_per_token > 0
    assert torch.equal(torch.random.get_rng_state(), state)


def test_memory_of_tensors_that_are_gone_is_given_back() -> None:
    device = torch.device("cpu")
    if not Path("/proc/self/statm").exists() or platform.libc_ver()[0] != "glibc":
        pytest.skip("the size of a process is read from Linux's /proc, and only glibc's allocator is asked")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()

    release(device)
    before = resident()
    held = [torch.ones(1 << 14) for _ in range(1 << 12)]  # 256 MiB in pieces that the allocator keeps
    pin = torch.ones(1 << 14)  # at the end of the heap, which cannot shrink below it
    del held
    kept = resident() - before
    with apart(device):
        assert resident() - before < kept / 2
    assert kept > 1 << 27
    assert pin.sum() == 1 << 14
