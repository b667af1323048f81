from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from tieout.samplers.local.cpu import weight_layout
from tieout.samplers.local.cpu.weight_layout import LARGE, product


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 16, 65])
@pytest.mark.parametrize(("out", "inner"), [(48, 20), (LARGE // 512, 512), (1030, 517)])
def test_a_laid_out_weight_gives_the_same_products(out: int, inner: int, rows: int, biased: bool) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(out, inner), torch.randn(out) if biased else None, torch.randn(rows, inner)
    exact = linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(product(weight, bias)(x).double(), exact, rtol=1e-5, atol=1e-4)


def test_what_gains_nothing_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(3, 8).bfloat16(), torch.randn(5, 8).bfloat16()
    assert torch.equal(product(weight, None)(x), linear(x, weight))
    monkeypatch.setattr(weight_layout, "_blocks", lambda weight, bias: None)  # a torch without oneDNN
    weight, x = torch.randn(LARGE // 512, 512), torch.randn(3, 512)
    assert torch.equal(product(weight, None)(x), linear(x, weight))


@pytest.mark.parametrize("fault", ["raises", "wrong", "not a number"])
def test_blocks_that_this_processor_cannot_multiply_are_not_used(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def pointwise(x: torch.Tensor, blocks: torch.Tensor, *_: object) -> torch.Tensor:
        if fault == "raises":
            raise RuntimeError("could not create a primitive descriptor")
        return (
            torch.full((len(x), weight.shape[0]), float("nan"))
            if fault == "not a number"
            else x @ blocks * 1.01
        )

    weight, x = torch.randn(512, LARGE // 512), torch.randn(3, LARGE // 512)
    operators = SimpleNamespace(_reorder_linear_weight=lambda w, rows: w.t(), _linear_pointwise=pointwise)
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    assert torch.equal(product(weight, None)(x), linear(x, weight))
