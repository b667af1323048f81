"""Presets of GRPO: the same method with the choices of other papers. Every choice can be changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .grpo import GRPO, Advantage, Aggregation, Estimator, PolicyLoss


@dataclass(frozen=True)
class DrGRPO(GRPO):
    """GRPO done right: no division by length or by the spread of scores. https://arxiv.org/abs/2503.20783."""

    advantage: Advantage = "mean"
    aggregation: Aggregation = "constant"


@dataclass(frozen=True)
class DAPO(GRPO):
    """Clip higher, dynamic sampling, token mean, soft overlong punishment. https://arxiv.org/abs/2503.14476."""

    aggregation: Aggregation = "token"
    epsilon_high: float = 0.28
    dynamic_sampling: bool = True
    overlong_share: float = 0.2


@dataclass(frozen=True)
class GSPO(GRPO):
    """One ratio for a whole completion, per token, with a clip to match. https://arxiv.org/abs/2507.18071."""

    policy_loss: PolicyLoss = "gspo"
    epsilon_low: float = 3e-4
    epsilon_high: float = 4e-4


@dataclass(frozen=True)
class CISPO(GRPO):
    """Clipped importance weights; no token loses its gradient. https://arxiv.org/abs/2506.13585.

    The upper limit of 5 is ScaleRL's, https://arxiv.org/abs/2510.13786; there is no lower one, as in the paper.
    """

    policy_loss: PolicyLoss = "cispo"
    aggregation: Aggregation = "token"
    epsilon_low: float = 1.0
    epsilon_high: float = 4.0


@dataclass(frozen=True)
class RLOO(GRPO):
    """REINFORCE with the mean of the other completions as baseline. https://arxiv.org/abs/2402.14740.

    A completion is one action: its ratio is that of all its tokens, and the KL is taken off its score.
    """

    advantage: Advantage = "leave_one_out"
    policy_loss: PolicyLoss = "sequence"
    beta: float = 0.05
    kl_estimator: Estimator = "k1"
    kl_in: Literal["loss", "reward"] = "reward"
