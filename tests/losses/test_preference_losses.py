"""Properties of the preference losses, each from its paper: where they are minimal, what they pull on, their limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.losses import preference as losses
from tieout.losses.preference import CPO_LOSSES, DIVERGENCES, PAIR_LOSSES

NUMBERS = st.floats(-20, 20)


def slopes(name: str, chosen: float, rejected: float, beta: float = 0.5) -> tuple[float, float]:
    """d loss / d chosen, d loss / d rejected."""
    options = {"label_smoothing": 0.1} if name in ("robust", "exo_pair") else {}
    sides = torch.tensor([chosen, rejected], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(PAIR_LOSSES[name].function(sides[0], sides[1], beta, **options), sides)
    return found[0].item(), found[1].item()


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_at_the_reference_a_loss_raises_the_margin(name: str) -> None:
    chosen, rejected = slopes(name, 0.0, 0.0)
    if name == "discopop":  # it has a hump there, and falls on both sides of it (figure 1 of its paper)
        assert slopes(name, 0.5, 0.0)[0] < 0
        assert slopes(name, -0.5, 0.0)[0] < 0 < chosen
        return
    assert chosen < rejected
    if (
        name == "apo_down"
    ):  # the policy is better than the data: the chosen falls once the rejected has fallen further
        assert slopes(name, 0.5, -2.0)[0] > 0
    else:
        assert chosen < 0


@pytest.mark.parametrize("name", [name for name, spec in PAIR_LOSSES.items() if spec.of_margin])
@given(a=NUMBERS, b=NUMBERS, shift=NUMBERS)
@settings(max_examples=20)
def test_losses_of_the_margin_see_nothing_else(name: str, a: float, b: float, shift: float) -> None:
    options = {"label_smoothing": 0.1} if "label_smoothing" in PAIR_LOSSES[name].options else {}
    x = torch.tensor([a, b, a + shift, b + shift], dtype=torch.float64)
    one, other = (PAIR_LOSSES[name].function(x[i], x[i + 1], 0.1, **options) for i in (0, 2))
    assert one.item() == pytest.approx(other.item(), rel=1e-6, abs=1e-9)


FAR = [(-1000.0, 0.0), (0.0, -1000.0), (1000.0, 0.0), (0.0, 1000.0)]


@pytest.mark.parametrize(("chosen", "rejected"), FAR)
@pytest.mark.parametrize("name", [*PAIR_LOSSES, *DIVERGENCES])
def test_a_pair_far_from_the_reference_gives_numbers(name: str, chosen: float, rejected: float) -> None:
    """In float32, where exp(89) is infinite: one such pair must not void the step of all others."""
    sides = torch.tensor([chosen, rejected], requires_grad=True)
    if name in PAIR_LOSSES:
        options = {"label_smoothing": 0.1} if name in ("robust", "exo_pair") else {}
        loss = PAIR_LOSSES[name].function(sides[0], sides[1], 0.5, **options)
    else:
        f = DIVERGENCES[name]
        first, second = (f(side, 0.5) for side in sides)
        loss = losses.dpo(first, second, 0.1)
    (slope,) = torch.autograd.grad(loss, sides)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("rate", [0.6, 0.8])
@pytest.mark.parametrize("name", ["sigmoid", "robust"])
def test_the_optimum_on_noisy_labels(name: str, rate: float) -> None:
    """On labels that are right with a known rate DPO fits the rate; the robust loss sees through the noise."""
    noise = 1 - rate
    margins = torch.linspace(-5, 20, 20_001, dtype=torch.float64)
    zero = torch.zeros_like(margins)
    options = {"label_smoothing": noise} if name == "robust" else {}
    loss = PAIR_LOSSES[name].function
    risk = rate * loss(margins, zero, 0.5, **options) + noise * loss(zero, margins, 0.5, **options)
    best = margins[risk.argmin()].item()
    if name == "sigmoid":
        assert 1 / (1 + math.exp(-0.5 * best)) == pytest.approx(rate, abs=1e-3)
    else:  # unbiased: the expected loss is that of clean labels, which only falls
        assert torch.allclose(risk, losses.dpo(margins, zero, 0.5), atol=1e-9)
        assert best == pytest.approx(20)


def test_smoothing_gives_dpo_a_finite_optimum() -> None:
    margins = torch.linspace(-5, 20, 20_001, dtype=torch.float64)
    best = margins[losses.dpo(margins, torch.zeros_like(margins), 0.5, 0.1).argmin()].item()
    assert 1 / (1 + math.exp(-0.5 * best)) == pytest.approx(0.9, abs=1e-3)


def test_ipo_stops_at_its_margin_and_hinge_at_its_own() -> None:
    assert losses.ipo(torch.tensor(5.0), torch.tensor(0.0), 0.1) == 0
    assert slopes("ipo", 6.0, 0.0, 0.1)[0] > 0  # past the margin it pulls back, where DPO goes on
    assert slopes("sigmoid", 6.0, 0.0, 0.1)[0] < 0
    assert slopes("hinge", 10.1, 0.0, 0.1) == (0, 0)
    assert slopes("hinge", 9.9, 0.0, 0.1) == pytest.approx((-0.1, 0.1))


def test_exo_is_a_kl_zero_at_the_datas_preference_and_positive_elsewhere() -> None:
    at = math.log(0.9 / 0.1) / 0.5
    margins = torch.linspace(-30, 30, 601, dtype=torch.float64)
    curve = losses.exo_pair(margins, torch.zeros_like(margins), 0.5, 0.1)
    assert losses.exo_pair(torch.tensor(at), torch.tensor(0.0), 0.5, 0.1) == pytest.approx(0, abs=1e-6)
    assert (curve >= -1e-12).all()


def test_sppo_has_its_own_targets() -> None:
    assert losses.sppo_hard(torch.tensor(2.5), torch.tensor(-2.5), 0.2) == 0
    assert slopes("sppo_hard", 3.0, -2.5, 0.2)[0] > 0


def test_nca_and_bco_hold_the_chosen_up_where_dpo_lets_both_fall() -> None:
    """DPO pulls no harder on the chosen because it has fallen together with the rejected; these do."""
    for name in ("nca_pair", "bco_pair"):
        assert slopes(name, -4.0, -4.0)[0] < slopes(name, 0.0, 0.0)[0]
    assert slopes("sigmoid", -4.0, -4.0) == pytest.approx(slopes("sigmoid", 0.0, 0.0))


def test_discopop_is_logistic_far_below_and_exponential_far_above() -> None:
    for margin, expected in ((-3.0, math.log1p(math.exp(3.0))), (3.0, math.exp(-3.0))):
        found = losses.discopop(torch.tensor(margin, dtype=torch.float64), torch.tensor(0.0), 1.0)
        assert found.item() == pytest.approx(expected, rel=1e-6)


@given(logratio=st.floats(-5, 5), alpha=st.floats(0.05, 2))
@settings(max_examples=40)
def test_divergences_are_increasing_zero_at_the_reference_and_meet_in_their_limits(
    logratio: float, alpha: float
) -> None:
    x = torch.tensor([logratio, logratio + 0.1, 0.0], dtype=torch.float64)
    for transform in DIVERGENCES.values():
        y = transform(x, alpha)
        assert y[1] > y[0]
        assert y[2] == pytest.approx(0, abs=1e-12)
    assert torch.allclose(losses.alpha_divergence(x, 1.0), losses.forward_kl(x))
    assert torch.allclose(losses.alpha_divergence(x, 1e-7), x, atol=1e-5)
    assert torch.equal(losses.alpha_divergence(x, 0.0), x)


def test_kto_saturates_and_its_reference_point_moves_it() -> None:
    ratios = torch.tensor([-80.0, 2.0, 80.0], dtype=torch.float64, requires_grad=True)
    for desirable, ends in ((True, (1, 0)), (False, (0, 1))):
        loss = losses.kto(ratios, torch.tensor([desirable] * 3), torch.tensor(2.0), 0.5)
        assert loss.tolist() == pytest.approx([ends[0], 0.5, ends[1]], abs=1e-9)
        (slope,) = torch.autograd.grad(loss.sum(), ratios)
        assert slope[1].item() == pytest.approx(-0.125 if desirable else 0.125)
        assert slope[[0, 2]].abs().max() < 1e-9  # far from the reference point nothing is learned


@given(p=st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=40)
def test_log_odds_are_those_of_the_probability(p: float) -> None:
    found = losses.log_odds(torch.tensor(math.log(p), dtype=torch.float64)).item()
    assert found == pytest.approx(math.log(p) - math.log1p(-p), rel=1e-5, abs=1e-6)


def test_log_odds_of_a_certain_token_are_finite_and_so_is_their_slope() -> None:
    x = torch.tensor([0.0, -1e-9, -200.0], requires_grad=True)
    odds = losses.log_odds(x)
    (slope,) = torch.autograd.grad(odds.sum(), x)
    assert odds.isfinite().all()
    assert slope.isfinite().all()


def test_simpo_wants_a_lead_of_gamma() -> None:
    beta, gamma = 2.0, 0.5
    lead = torch.tensor(gamma / beta)
    assert CPO_LOSSES["simpo"].function(lead, torch.tensor(0.0), beta, gamma) == pytest.approx(math.log(2))


def test_bradley_terry_is_a_probability_and_a_margin_asks_for_more() -> None:
    a, b = torch.tensor([1.5]), torch.tensor([0.3])
    both = torch.exp(-losses.bradley_terry(a, b)) + torch.exp(-losses.bradley_terry(b, a))
    assert both.item() == pytest.approx(1)
    assert losses.bradley_terry(a, b, 1.2).item() == pytest.approx(math.log(2))
