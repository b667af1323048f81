"""Losses of preferences: pure functions of log-ratios, log-probabilities and scores. They take no mean.

P pairs, N completions. A log-ratio is log policy(y|x) - log reference(y|x) in nats, of a whole completion; where a loss
is `per_token`, it is divided by the completion's trained tokens first. `beta` > 0 is the strength of the pull to the
reference. Each returns one number per pair [P], or per completion [N].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..errors import InputError

LARGEST = 80.0
"""Exponents are cut off here: exp(89) is infinite in float32, and one such pair would void the whole step."""

# ---------------------------------------------------------------- pairs, against a reference


def dpo(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Direct Preference Optimization, eq. 7 of https://arxiv.org/abs/2305.18290; ln 2 where policy and reference agree.

    With `label_smoothing`, the share of pairs believed to be the wrong way round, conservative DPO
    (https://ericmitchell.ai/cdpo.pdf).
    """
    margin = beta * (chosen - rejected)
    loss = -logsigmoid(margin)
    return (
        loss if label_smoothing == 0 else (1 - label_smoothing) * loss - label_smoothing * logsigmoid(-margin)
    )


def ipo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Identity Preference Optimization, eq. 17 of https://arxiv.org/abs/2310.12036: pulls the margin to 1 / (2 beta).

    Per token, as the authors' own results were (the paper writes sums, which punish long completions).
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def hinge(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """SLiC's loss on DPO's margin, https://arxiv.org/abs/2305.10425: nothing once the margin is 1 / beta."""
    return torch.relu(1 - beta * (chosen - rejected))


def robust(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """Robust DPO, https://arxiv.org/abs/2403.00409: unbiased where a share `label_smoothing` < 0.5 is flipped."""
    margin = beta * (chosen - rejected)
    clean, flipped = -logsigmoid(margin), -logsigmoid(-margin)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def exo_pair(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 1e-3) -> Tensor:
    """EXO-pref, eq. 16 of https://arxiv.org/abs/2402.00856: the reverse KL from the policy's preference to the data's.

    The data's preference is 1 - label_smoothing: at 0 the KL would be infinite.
    """
    margin = beta * (chosen - rejected)
    better = margin.sigmoid() * (logsigmoid(margin) - math.log1p(-label_smoothing))
    return better + (-margin).sigmoid() * (logsigmoid(-margin) - math.log(label_smoothing))


def nca_pair(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Noise contrastive alignment, https://arxiv.org/abs/2402.05369: holds the likelihood of the chosen up."""
    return -logsigmoid(beta * chosen) - 0.5 * logsigmoid(-beta * chosen) - 0.5 * logsigmoid(-beta * rejected)


def bco_pair(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Binary classifier optimisation of a pair, https://arxiv.org/abs/2404.04656, with its reward shift at 0."""
    return -logsigmoid(beta * chosen) - logsigmoid(-beta * rejected)


def sppo_hard(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Self-play preference optimisation, eq. 4.7 of https://arxiv.org/abs/2405.00675, with win rates of 1 and 0."""
    return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2


def apo_zero(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Anchored preference optimisation, eq. 7 of https://arxiv.org/abs/2408.06266: chosen up, rejected down.

    For chosen completions that are better than the policy's own.
    """
    return (-beta * chosen).sigmoid() + (beta * rejected).sigmoid()


def apo_down(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Eq. 8 of https://arxiv.org/abs/2408.06266: both down, the rejected more. For a policy better than the data."""
    return (beta * chosen).sigmoid() + (-beta * (chosen - rejected)).sigmoid()


def discopop(chosen: Tensor, rejected: Tensor, beta: float, discopop_tau: float = 0.05) -> Tensor:
    """The loss that a language model found, eq. 5 of https://arxiv.org/abs/2406.08414: logistic and exponential."""
    margin = beta * (chosen - rejected)
    share = (margin / discopop_tau).sigmoid()
    return -logsigmoid(margin) * (1 - share) + torch.exp((-margin).clamp(max=LARGEST)) * share


def forward_kl(logratio: Tensor) -> Tensor:
    """[P] f'(ratio) of the forward KL: 1 - 1 / ratio. Table 1 of f-DPO, https://arxiv.org/abs/2309.16240."""
    return 1 - torch.exp((-logratio).clamp(max=LARGEST))


def jensen_shannon(logratio: Tensor) -> Tensor:
    """[P] f'(ratio) of the Jensen-Shannon divergence: log(2 ratio / (1 + ratio))."""
    return math.log(2) + logsigmoid(logratio)


def alpha_divergence(logratio: Tensor, alpha: float) -> Tensor:
    """[P] f'(ratio) = (1 - ratio^-alpha) / alpha, table 1 of f-DPO: 0 the reverse KL, 1 the forward KL."""
    return logratio if alpha == 0 else -torch.expm1((-alpha * logratio).clamp(max=LARGEST)) / alpha


# ---------------------------------------------------------------- labels, against a reference


def kto(logratio: Tensor, desirable: Tensor, kl: Tensor, beta: float) -> Tensor:
    """[N] Kahneman-Tversky optimisation, section 4 of https://arxiv.org/abs/2402.01306.

    Args:
        logratio: [N].
        desirable: [N] bool.
        kl: [N] or [] the reference point: KL(policy || reference) of the step, at least 0, no gradient.
        beta: how fast the value saturates.
    """
    gain = torch.where(desirable, logratio - kl, kl - logratio)
    return (-beta * gain).sigmoid()


# ---------------------------------------------------------------- without a reference


def orpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    """[P] the odds-ratio term, eq. 7 of https://arxiv.org/abs/2403.07691, of mean log-probabilities per token."""
    return -logsigmoid(log_odds(chosen) - log_odds(rejected))


def log_odds(mean_logprob: Tensor) -> Tensor:
    """[P] log(p / (1 - p)) of log p < 0; log(1 - p) by expm1, exact where p is close to 1."""
    return mean_logprob - torch.log(-torch.expm1(mean_logprob.clamp(max=-1e-7)))


def simpo(
    chosen: Tensor, rejected: Tensor, beta: float, simpo_gamma: float, label_smoothing: float = 0.0
) -> Tensor:
    """[P] SimPO, eq. 6 of https://arxiv.org/abs/2405.14734, of mean log-probabilities per token: win by simpo_gamma."""
    return dpo(chosen - simpo_gamma / beta, rejected, beta, label_smoothing)


# ---------------------------------------------------------------- scores


def bradley_terry(better: Tensor, worse: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """[P] minus the log-probability that the better one wins, eq. 1 of https://arxiv.org/abs/2203.02155.

    Args:
        better: [P] scores.
        worse: [P] scores.
        margin: [P] by how much it should win, eq. 2 of https://arxiv.org/abs/2307.09288.
    """
    return -logsigmoid(better - worse - margin)


# ---------------------------------------------------------------- by name


@dataclass(frozen=True)
class PairLoss:
    """A loss of pairs, and what it takes."""

    function: Callable[..., Tensor]
    """(chosen [P], rejected [P], beta, **options) -> [P]."""
    per_token: bool = False
    """Log-ratios are divided by the completion's trained tokens."""
    of_margin: bool = True
    """Only the difference counts, so that a divergence may transform both sides first."""
    options: tuple[str, ...] = ()
    """Further arguments it takes."""

    def refuse_unused(self, name: str, **given: bool) -> None:
        """ValueError for an option that is given and would do nothing."""
        for option in (o for o, is_given in given.items() if is_given and o not in self.options):
            raise InputError(f"loss_type {name!r} takes no {option}; leave it out, or choose another loss")


PAIR_LOSSES: dict[str, PairLoss] = {
    "sigmoid": PairLoss(dpo, options=("label_smoothing",)),
    "sigmoid_norm": PairLoss(dpo, per_token=True, options=("label_smoothing",)),
    "ipo": PairLoss(ipo, per_token=True),
    "hinge": PairLoss(hinge),
    "robust": PairLoss(robust, options=("label_smoothing",)),
    "exo_pair": PairLoss(exo_pair, options=("label_smoothing",)),
    "discopop": PairLoss(discopop, options=("discopop_tau",)),
    "nca_pair": PairLoss(nca_pair, of_margin=False),
    "bco_pair": PairLoss(bco_pair, of_margin=False),
    "sppo_hard": PairLoss(sppo_hard, of_margin=False),
    "apo_zero": PairLoss(apo_zero, of_margin=False),
    "apo_down": PairLoss(apo_down, of_margin=False),
}
"""DPO's losses by name, TRL's names."""

CPO_LOSSES: dict[str, PairLoss] = {
    **{name: PAIR_LOSSES[name] for name in ("sigmoid", "hinge", "ipo")},
    "simpo": PairLoss(simpo, per_token=True, options=("simpo_gamma", "label_smoothing")),
}
"""CPO's losses by name: the same functions, of log-probabilities instead of log-ratios."""

DIVERGENCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "reverse_kl": lambda logratio, _: logratio,
    "forward_kl": lambda logratio, _: forward_kl(logratio),
    "js_divergence": lambda logratio, _: jensen_shannon(logratio),
    "alpha_divergence": alpha_divergence,
}
"""What holds the policy near the reference: f'(ratio) takes the place of the log-ratio."""


def check_preference(beta: float, label_smoothing: float = 0.0) -> None:
    """ValueError for values that no loss here is defined for."""
    if not beta > 0:
        raise InputError(f"beta is {beta}; it must be above 0")
    if not 0 <= label_smoothing < 0.5:
        raise InputError(f"label_smoothing is {label_smoothing}; expected 0 or more, below 0.5")
