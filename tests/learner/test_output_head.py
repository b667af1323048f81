"""The fused head against log_softmax and autograd on whole logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from tieout.learner.models.output_head import Head

T, D, V = 37, 12, 101


def make(frozen: bool, bias: bool = False, scale: float = 1.0, softcap: float | None = None) -> Head:
    torch.manual_seed(0)
    module = nn.Linear(D, V, bias=bias)
    module.requires_grad_(not frozen)
    return Head(module, scale, softcap)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = (3 * torch.randn(T, D, generator=generator)).requires_grad_()
    return hidden, torch.randint(0, V, (T,), generator=generator), torch.randn(T, generator=generator)


def whole(head: Head, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Written out in double precision, on all logits at once."""
    z = hidden.double() @ head.module.weight.double().T
    if head.module.bias is not None:
        z = z + head.module.bias.double()
    z = z * head.scale
    if head.softcap:
        z = head.softcap * torch.tanh(z / head.softcap)
    logprobs = (z / temperature).log_softmax(-1)
    return logprobs[torch.arange(T), targets], -(logprobs.exp() * logprobs).sum(-1)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("chunk", [1, V, 5 * V + 3, 1 << 22])
@pytest.mark.parametrize(
    ("temperature", "scale", "softcap", "bias"),
    [(1.0, 1.0, None, False), (0.7, 1.0, None, True), (1.0, 0.25, None, False), (1.3, 0.5, 4.0, True)],
)
def test_values_and_gradients_are_those_of_whole_logits(
    frozen: bool, chunk: int, temperature: float, scale: float, softcap: float | None, bias: bool
) -> None:
    head = make(frozen, bias, scale, softcap)
    hidden, targets, weights = inputs()
    logprobs, entropies = head.logprobs(hidden, targets, temperature, chunk)
    exact, exact_entropies = whole(head, hidden, targets, temperature)
    assert (logprobs - exact).abs().max() < 1e-5
    assert (entropies - exact_entropies).abs().max() < 1e-5
    assert logprobs.dtype == torch.float32
    assert not entropies.requires_grad
    leaves = [hidden, *(p for p in head.module.parameters() if p.requires_grad)]
    found = torch.autograd.grad((logprobs * weights).sum(), leaves)
    expected = torch.autograd.grad((exact * weights).sum(), leaves)
    assert len(leaves) == (1 if frozen else 2 + bias)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_without_gradient_the_numbers_are_the_same() -> None:
    for head in (make(True), make(False)):
        hidden, targets, _ = inputs()
        with_gradient = head.logprobs(hidden, targets, 0.9, 3 * V)
        with torch.no_grad():
            without = head.logprobs(hidden, targets, 0.9, 3 * V)
        for a, b in zip(with_gradient, without, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
            assert not b.requires_grad


@contextmanager
def saved_logits() -> Iterator[list[int]]:
    """How many numbers autograd keeps for backward, of each tensor with a row of logits; the weight is [V, d]."""
    sizes: list[int] = []

    def keep(x: Tensor) -> Tensor:
        if x.ndim and x.shape[-1] == V:
            sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield sizes


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_no_logit_waits_for_backward(frozen: bool, softcap: float | None) -> None:
    head = make(frozen, softcap=softcap)
    hidden, targets, weights = inputs()
    with saved_logits() as plain:
        (head.logits(hidden).log_softmax(-1)[torch.arange(T), targets] * weights).sum()
    assert sum(plain) >= T * V  # the measure sees what it should
    with saved_logits() as sizes:
        logprobs, _ = head.logprobs(hidden, targets, chunk_logits=3 * V)
        loss = (logprobs * weights).sum()
    assert sizes == []
    with saved_logits() as in_backward:
        loss.backward()
    assert max(in_backward, default=0) <= 3 * V  # one chunk at a time is computed again


@pytest.mark.parametrize("frozen", [True, False])
def test_no_more_logits_exist_at_once_than_allowed(frozen: bool) -> None:
    head = make(frozen)
    made: list[int] = []
    head.module.register_forward_hook(lambda module, args, out: made.append(out.numel()))
    hidden, targets, weights = inputs()
    logprobs, _ = head.logprobs(hidden, targets, chunk_logits=5 * V + 1)
    (logprobs * weights).sum().backward()
    assert max(made) == 5 * V
    assert sum(made) == T * V * (1 if frozen else 2)  # frozen: no logit is computed twice


def test_entropy_is_zero_for_certainty_and_log_v_for_ignorance() -> None:
    module = nn.Linear(1, 4, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[200.0], [0.0], [0.0], [0.0]]))
    targets = torch.tensor([0, 1])
    _, entropies = Head(module).logprobs(torch.tensor([[1.0], [0.0]]), targets)
    assert entropies.tolist() == pytest.approx([0.0, torch.tensor(4.0).log().item()], abs=1e-6)


def test_a_wrapped_head_is_found_to_be_trained() -> None:
    """As PEFT does to an output layer: a module around the frozen one, with weights of its own."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(D, V, bias=False).requires_grad_(False)
            self.delta = nn.Parameter(torch.randn(V, D) * 0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + x @ self.delta.T

    module = Wrapped()
    hidden, targets, weights = inputs()
    logprobs, _ = Head(module).logprobs(hidden, targets, chunk_logits=4 * V)
    found = torch.autograd.grad((logprobs * weights).sum(), [hidden, module.delta])
    exact = module(hidden).log_softmax(-1)[torch.arange(T), targets]
    expected = torch.autograd.grad((exact * weights).sum(), [hidden, module.delta])
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()
