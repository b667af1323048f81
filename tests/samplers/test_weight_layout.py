from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from tieout.samplers.local.cpu import weight_layout
from tieout.samplers.local.cpu.weight_layout import Blocks, padded, product


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 16, 65])
@pytest.mark.parametrize(("out", "inner"), [(48, 20), (1024, 512), (1030, 517)])
def test_a_laid_out_weight_gives_the_same_products(
    out: int, inner: int, rows: int, biased: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    weight, x, residual = (
        torch.randn(*shape).to(dtype) for shape in ((out, inner), (rows, inner), (rows, out))
    )
    bias = torch.randn(out).to(dtype) if biased else None
    exact = linear(x.double(), weight.double(), None if bias is None else bias.double())
    close = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 0.3}
    laid_out = product(weight, bias)
    torch.testing.assert_close(laid_out(x).double(), exact, **close)
    torch.testing.assert_close(laid_out.onto(residual, x).double(), exact + residual, **close)


@pytest.fixture
def _forgotten() -> None:
    weight_layout._right.cache_clear()


@pytest.mark.usefixtures("_forgotten")
def test_without_onednn_a_weight_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    weight, x, residual = torch.randn(1024, 512), torch.randn(3, 512), torch.randn(3, 1024)
    plain = product(weight, None)
    assert torch.equal(plain(x), linear(x, weight))
    assert torch.equal(plain.onto(residual, x), linear(x, weight) + residual)
    weight_layout._right.cache_clear()


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("fault", ["raises", "wrong", "not a number", "no residual"])
def test_blocks_that_this_processor_cannot_multiply_are_not_used(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def pointwise(x: torch.Tensor, blocks: torch.Tensor, *_: object) -> torch.Tensor:
        if fault == "raises":
            raise RuntimeError("could not create a primitive descriptor")
        found = x @ blocks * (1.01 if fault == "wrong" else 1)
        return found * float("nan") if fault == "not a number" else found

    def binary(x: torch.Tensor, residual: torch.Tensor, blocks: torch.Tensor, *_: object) -> torch.Tensor:
        return pointwise(x, blocks) + (0 if fault == "no residual" else residual)

    pointwise.binary = binary  # type: ignore[attr-defined]
    weight, x = torch.randn(512, 256), torch.randn(3, 256)
    operators = SimpleNamespace(_reorder_linear_weight=lambda w, rows: w.t(), _linear_pointwise=pointwise)
    monkeypatch.setattr(weight_layout, "_operators", lambda: operators)
    found = product(weight, None)
    assert not isinstance(found, Blocks)
    assert torch.equal(found(x), linear(x, weight))
    weight_layout._right.cache_clear()


def test_there_are_kernels_for_few_numbers_of_rows() -> None:
    assert [padded(n) for n in (1, 2, 7, 8, 9, 16, 17)] == [2, 2, 7, 8, 16, 16, 24]
