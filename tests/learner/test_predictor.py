"""Numbers of whole distributions, made a chunk at a time: the values and gradients of whole logits."""

from __future__ import annotations

import pytest
import torch
from test_output_head import D, T, V, inputs, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tieout.learner.models.predictor import Predictor

TARGET = (2 * torch.randn(T, V, generator=torch.Generator().manual_seed(4))).log_softmax(-1)


def cross(logits: Tensor, part: slice) -> Tensor:
    return -(TARGET[part].exp() * logits.log_softmax(-1)).sum(-1)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("chunk", [1, 5 * V + 3, 1 << 22])
@pytest.mark.parametrize(("temperature", "scale", "softcap"), [(1.0, 1.0, None), (0.7, 0.5, 4.0)])
def test_values_and_gradients_are_those_of_whole_logits(
    frozen: bool, chunk: int, temperature: float, scale: float, softcap: float | None
) -> None:
    head = make(frozen, True, scale, softcap)
    hidden, _, weights = inputs()
    leaves = [hidden, *(p for p in head.module.parameters() if p.requires_grad)]
    found = Predictor(head, hidden, temperature).per_token(cross, chunk)
    exact = cross(head.scaled(hidden, temperature), slice(None))
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad((found * weights).sum(), leaves)
    wanted = torch.autograd.grad((exact * weights).sum(), leaves)
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_without_gradient_it_gives_the_same_values() -> None:
    hidden, _, _ = inputs()
    own = Predictor(make(frozen=False), hidden)
    with torch.no_grad():
        values = own.per_token(cross, 2 * V)
    assert not values.requires_grad
    torch.testing.assert_close(values, own.per_token(cross).detach())


class _Sizes(TorchDispatchMode):
    """The most numbers of one tensor."""

    most = 0

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ):  # type: ignore[no-untyped-def, type-arg]
        result = function(*args, **(kwargs or {}))  # type: ignore[operator]
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor):
                self.most = max(self.most, x.numel())
        return result


@pytest.mark.parametrize("frozen", [True, False])
def test_no_tensor_of_all_logits_is_made(frozen: bool) -> None:
    torch.manual_seed(0)
    head = make(frozen)
    hidden = torch.randn(50 * T, D, requires_grad=True)
    sizes = _Sizes()
    with sizes:
        Predictor(head, hidden).per_token(lambda z, part: z.logsumexp(-1), 4 * V).sum().backward()
    assert sizes.most <= max(50 * T * D, V * D)
    assert sizes.most < 50 * T * V / 4
