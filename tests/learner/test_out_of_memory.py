"""Memory that runs out in a step: smaller micro-batches, the same gradient, and nothing is counted twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from random_groups import gradient, make_learner, random_groups, relative
from tieout.batch import Batch, Outputs
from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner
from tieout.learner.memory import out_of_memory

ModelFolder = Callable[[str], Path]
CPU = RuntimeError(
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"
)


class _Fails(torch.autograd.Function):
    """Raises in the middle of backward, when later layers have their gradients already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, error: BaseException) -> Tensor:
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise ctx.error


def loss(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    value = batch.token_mean(-outputs.logprobs)
    return value, {"seen": batch.token_mean(torch.ones_like(outputs.logprobs))}


def fail(
    learner: Learner, monkeypatch: pytest.MonkeyPatch, error: BaseException, calls: set[int]
) -> list[int]:
    """Let backward fail halfway through the model in these forwards; returns the groups of all that were tried."""
    assert learner.micro_batches.bytes_per_token  # measured by a forward of its own
    tried, whole = list[int](), learner.forward.outputs

    def outputs(layout: Any) -> Outputs:
        tried.append(len(tried))
        if tried[-1] not in calls:
            return whole(layout)
        first = next(iter(learner.model.causal.model.layers))
        hook = first.register_forward_hook(
            lambda m, i, o: (
                (_Fails.apply(o[0], error), *o[1:]) if isinstance(o, tuple) else _Fails.apply(o, error)
            )
        )
        try:
            return whole(layout)
        finally:
            hook.remove()

    monkeypatch.setattr(learner.forward, "outputs", outputs)
    return tried


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), CPU])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("when", [0, 1])
def test_the_gradient_is_that_of_an_unbroken_step(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, error: BaseException, method: str, when: int
) -> None:
    adapter = AdapterConfig(method=method, rank=4, alpha=8.0)  # type: ignore[arg-type]
    groups = random_groups([(5, [14, 4]), (6, [3, 14]), (4, [20, 10]), (7, [9, 9])])

    def fresh() -> Learner:
        learner = make_learner(tiny_model("llama"), adapter=adapter, micro_batch_tokens=64, layout="packed")
        assert learner.packs  # decided before anything fails
        assert len(list(learner.micro_batches.of(groups))) == 2
        return learner

    unbroken = fresh()
    expected, metrics = gradient(unbroken, groups, loss)
    assert metrics["out_of_memory"] == 0
    learner = fresh()
    with monkeypatch.context() as patch:
        tried = fail(learner, patch, error, {when})
        found, broken = gradient(learner, groups, loss)
    assert len(tried) == when + 1 + len(list(learner.micro_batches.of(groups)))
    assert broken["out_of_memory"] == 1
    assert relative(found, expected) < 1e-5
    assert broken["seen"] == pytest.approx(1.0)
    for name in ("loss", "tokens", "grad_norm"):
        assert broken[name] == pytest.approx(metrics[name], rel=1e-5)
    _, later = gradient(learner, groups, loss)  # what did not fit once is not tried again
    assert later["out_of_memory"] == 0
    assert len(list(learner.micro_batches.of(groups))) > 2


def test_one_group_alone_is_recomputed_and_then_refused(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = random_groups([(5, [14, 4])])
    expected, _ = gradient(make_learner(tiny_model("llama"), layout="packed"), groups, loss)
    learner = make_learner(tiny_model("llama"), layout="packed")
    assert learner.packs
    fail(learner, monkeypatch, CPU, {0})
    found, metrics = gradient(learner, groups, loss)
    assert (metrics["out_of_memory"], metrics["recomputed"]) == (1, 1)
    assert relative(found, expected) < 1e-5
    fail(learner, monkeypatch, CPU, {0})
    with pytest.raises(InputError, match="memory ran out"):
        learner.update(groups, loss)


def test_other_errors_are_not_taken_for_it(tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(tiny_model("llama"), layout="packed")
    assert learner.packs
    tried = fail(learner, monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), {0})
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        learner.update(random_groups(), loss)
    assert tried == [0]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_the_error_under_a_limit_of_the_system_is_known() -> None:
    """What torch really raises where `ulimit -v` leaves too little."""
    code = (
        "import resource, torch\n"
        "from tieout.learner.memory import out_of_memory\n"
        "torch.ones(10)\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "try:\n"
        "    torch.ones(1 << 28)\n"
        "except BaseException as error:\n"
        "    assert out_of_memory(error), repr(error)\n"
        "    print('known')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "known\n", done.stderr[-2000:]
    assert not out_of_memory(ValueError("not enough values"))
