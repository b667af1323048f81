"""The flat AdamW against torch's own over separate parameters; and what must survive being moved into a buffer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tieout.learner.optimizer import LARGE, FlatAdamW


def parameters(dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 7), (3,), (), (2, 3, 4)]
    return [nn.Parameter(torch.randn(s, generator=generator).to(d)) for d in dtypes for s in shapes]


def fill(given: list[nn.Parameter], seed: int) -> None:
    """Gradients by autograd, which adds into what is there."""
    generator = torch.Generator().manual_seed(seed)
    sum((p * torch.randn(p.shape, generator=generator)).sum().float() for p in given).backward()  # type: ignore[union-attr]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.bfloat16)])
def test_steps_are_those_of_separate_parameters(decay: float, dtypes: tuple[torch.dtype, ...]) -> None:
    ours, theirs = parameters(dtypes), parameters(dtypes)
    flat = FlatAdamW(ours, 1e-2, decay)
    assert len(flat.buffers) == len(dtypes)
    plain = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=decay, fused=True)
    for seed in range(4):
        flat.zero()
        plain.zero_grad(set_to_none=False)
        fill(ours, seed)
        fill(theirs, seed)
        norm = flat.apply(1e-2 / (seed + 1), max_norm=3.0).item()
        plain.param_groups[0]["lr"] = 1e-2 / (seed + 1)
        assert norm == pytest.approx(
            nn.utils.clip_grad_norm_(theirs, 3.0).item(), rel=1e-5 ** (1 / len(dtypes))
        )
        plain.step()
    for a, b in zip(ours, theirs, strict=True):
        rtol, atol = (2e-2, 2e-3) if len(dtypes) > 1 else (1e-5, 1e-6)
        assert torch.allclose(a, b, rtol=rtol, atol=atol)


def test_values_and_shapes_stay_and_memory_is_one_piece() -> None:
    given = parameters()
    before = [p.detach().clone() for p in given]
    flat = FlatAdamW(given, 1e-2, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert len({p.untyped_storage().data_ptr() for p in given}) == 1
    flat.buffers[0].data.zero_()
    assert not any(p.any() for p in given)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    given = parameters()
    flat = FlatAdamW(given, 1e-2, 0.0)
    flat.zero()
    fill(given, 0)
    flat.apply(1e-2, 1.0)
    state = flat.state[flat.buffers[0]]
    before = [flat.buffers[0].detach().clone(), *(v.clone() for v in state.values())]
    for poison in (float("nan"), float("inf")):
        flat.zero()
        fill(given, 1)
        given[0].grad[0, 0] = poison  # type: ignore[index]
        assert not flat.apply(1e-2, 1.0).isfinite()
        for a, b in zip([flat.buffers[0], *state.values()], before, strict=True):
            assert torch.equal(a, b)


def test_what_was_moved_out_or_lost_its_gradient_is_put_back() -> None:
    """`module.to`, a loader or `zero_grad(set_to_none=True)` rebind: the next step must still reach the parameter."""
    given = parameters()
    flat = FlatAdamW(given, 1e-2, 0.0)
    given[0].data = torch.ones_like(given[0])
    given[1].grad = None
    flat.zero()
    assert (given[0] == 1).all()
    fill(given, 0)
    flat.apply(1e-2, 1e9)
    assert (given[0] != 1).all()
    assert flat.buffers[0].grad is not None
    assert flat.buffers[0].grad.norm() > 0


def test_two_optimizers_in_turn_both_move_the_same_parameters() -> None:
    given = parameters()
    for optimizer in (first := FlatAdamW(given, 1e-2, 0.0), FlatAdamW(given, 1e-2, 0.0), first):
        before = [p.detach().clone() for p in given]
        optimizer.zero()
        fill(given, 0)
        optimizer.apply(1e-2, 1e9)
        assert all((a != b).all() for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("limit", [LARGE, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_trained_in_fp32(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, limit: int
) -> None:
    """Their steps are those of fp32 weights with the same gradients, summed in fp32, and then rounded."""
    monkeypatch.setattr("tieout.learner.optimizer.LARGE", limit)
    ours = parameters((dtype,))
    exact = [nn.Parameter(p.detach().float()) for p in ours]
    flat = FlatAdamW(ours, 1e-6, 0.1)
    plain = torch.optim.AdamW(exact, lr=1e-6, weight_decay=0.1)
    for seed in range(30):
        flat.zero()
        for part in (0, 100):  # two micro-batches
            generator = torch.Generator().manual_seed(seed + part)
            slopes = [torch.randn(p.shape, generator=generator).to(dtype) for p in ours]
            sum((p * s).sum().float() for p, s in zip(ours, slopes, strict=True)).backward()  # type: ignore[union-attr]
            flat.collect()
            for p, s in zip(exact, slopes, strict=True):
                p.grad = s.float() if part == 0 else p.grad + s.float()  # type: ignore[operator]
        flat.apply(1e-6, 1e9)
        plain.step()
    found = sorted(x for m in flat.masters for x in m.detach().flatten().tolist())
    assert found == pytest.approx(sorted(x for p in exact for x in p.detach().flatten().tolist()), rel=1e-6)
    assert all(torch.equal(a, b.to(dtype)) for a, b in zip(ours, exact, strict=True))
    assert not any(p.dtype == torch.float32 for p in ours)


def test_weights_in_16_bits_that_were_changed_elsewhere_are_taken_over() -> None:
    given = parameters((torch.bfloat16,))
    flat = FlatAdamW(given, 1e-6, 0.0)
    with torch.no_grad():
        given[0][0, 0] = 3.0
    before = flat.masters[0].detach().clone()
    flat.zero()
    assert (flat.masters[0] != before).sum() == 1
    assert 3.0 in flat.masters[0].tolist()


def test_a_large_parameter_is_not_copied() -> None:
    large, small = nn.Parameter(torch.zeros(LARGE + 1)), nn.Parameter(torch.zeros(3))
    place = large.data_ptr()
    flat = FlatAdamW([large, small], 1e-2, 0.0)
    assert large.data_ptr() == place
    assert len(flat.buffers) == 2
    flat.zero()
    (large.sum() + small.sum()).backward()
    assert flat.apply(1e-2, 1e9).item() == pytest.approx((LARGE + 4) ** 0.5, rel=1e-5)
    assert large.all()
    assert small.all()
