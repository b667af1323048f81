"""Whether a step of a training server is the AdamW step that it is asked for, and its gradient is not scaled down.

Some servers have an optimizer of their own, of which the API sets the learning rate alone: SkyRL's torch backends
(0.4.0) scale gradients down to a norm of 1 and decay weights by 0.01, whatever is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from ...errors import InputError
from .connection import ADAM

FIRST, TIMES = 1e4, 1e3
"""Factor of the first gradient, whose norm is far above any that gradients are scaled down to; of the second to it, so
large that a gradient which the first step made smaller or larger by half moves weights just as far."""


def check_step(
    weights: Callable[[], Tensor], step: Callable[[float], None], rate: float, weight_decay: float
) -> None:
    """Make two steps of an adapter whose optimizer has made none.

    The first step of Adam moves a weight by the rate, whatever the gradient. How far the second moves it tells the
    second gradient's size by the first's: as asked for, unless both were scaled down.

    Args:
        weights: [N] of the adapter, in float64.
        step: makes a step with this factor times one gradient.
        rate: of the steps.
        weight_decay: of the steps.

    Raises:
        InputError: the steps are others; what was found, what was expected.
    """
    seen = [weights()]
    for factor in (FIRST, FIRST * TIMES):
        step(factor)
        seen.append(weights())
    moved, then = (after - before for before, after in pairwise(seen))
    reached = moved.abs() > rate / 2  # a fresh adapter's A has no gradient yet
    if not bool(reached.any()) or not _near(size := float(moved[reached].abs().median()) / rate, 1.0):
        found = f"{size:.3g}" if bool(reached.any()) else "less than 0.5"
        raise InputError(
            f"the first step of Adam moves weights by {found} of the learning rate there, and not by 1"
        )
    share, expected = float((then[reached] / moved[reached]).median()), _second()
    if not _near(share, expected):
        raise InputError(
            f"a second step with a gradient {TIMES:g} times as large moves weights by {share:.3f} of the first, and by "
            f"{expected:.3f} is right{' (1: gradients are scaled down to one norm)' if _near(share, 1.0) else ''}. "
            f"Asked for are betas {ADAM['beta1']:g} and {ADAM['beta2']:g} and no limit of the norm: set the server to "
            "that (SkyRL's torch backends: max_grad_norm and adam_betas of its configuration)"
        )
    rest = moved.where(~reached, moved - rate * moved.sign())
    decay = -float(rest @ seen[0] / (seen[0] @ seen[0])) / rate
    if not abs(decay - weight_decay) < 1e-3 + 0.02 * weight_decay:
        raise InputError(
            f"its weight decay is {decay:.2g}, and {weight_decay:g} is asked for: give --learner.weight-decay "
            f"{decay:.2g}, or set it there"
        )


def _second() -> float:
    """The second step of Adam by the first, where the second gradient is `TIMES` the first."""
    one, two = ADAM["beta1"], ADAM["beta2"]
    first = ((1 - one) * one + (1 - one) * TIMES) / (1 - one**2)
    second = ((1 - two) * two + (1 - two) * TIMES**2) / (1 - two**2)
    return first / math.sqrt(second)


def _near(found: float, expected: float) -> bool:
    return abs(found / expected - 1) < 0.005
