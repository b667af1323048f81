from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from tieout.samplers.local.cpu import weight_layout as packed
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
    monkeypatch.setattr(packed, "_blocks", lambda weight, bias: None)  # a torch without oneDNN
    weight, x = torch.randn(LARGE // 512, 512), torch.randn(3, 512)
    assert torch.equal(product(weight, None)(x), linear(x, weight))
