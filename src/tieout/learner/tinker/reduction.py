"""How a server reduces the gradients of a step's tokens to one: documented is a sum, and some servers average."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ...errors import InputError

Kind = Literal["sum", "mean of rows", "mean of row means", "mean of tokens"]
SHORT, MORE = 4, 8
"""Targets of the row that is probed, and how many follow it in its longer copy, without a gradient."""


@dataclass(frozen=True)
class Reduction:
    """What a token's gradient is divided by before a step."""

    kind: Kind

    def scales(self, lengths: Sequence[int]) -> list[float]:
        """Of each of a step's rows, by their numbers of targets: what the server divides it by."""
        rows = len(lengths)
        if self.kind == "sum":
            return [1.0] * rows
        if self.kind == "mean of rows":
            return [float(rows)] * rows
        if self.kind == "mean of row means":
            return [float(rows * length) for length in lengths]
        return [float(sum(lengths))] * rows


ALONE, LONGER, BOTH = [SHORT], [SHORT + MORE], [SHORT, SHORT + MORE]
"""Rows of the three probes. The gradient is of the first `SHORT` targets of the first row."""


def ask(norm: Callable[[list[int], bool], float]) -> Reduction:
    """Find the reduction by the norms of one gradient in three steps of other rows and lengths.

    Args:
        norm: of a step of rows with so many targets, of which the first row's first `SHORT` alone have an advantage;
            the second argument: whether each row is a request of its own, as a large batch is cut into several.

    Raises:
        InputError: the norms fit none of the four, or a batch that is cut gets another gradient.
    """
    found = [norm(ALONE, False), norm(LONGER, False), norm(BOTH, False), norm(BOTH, True)]
    if not all(0 < x < math.inf for x in found):
        raise InputError(
            f"the norms of the server's gradients are {found}, and each must be above 0: whether it sums or averages "
            "cannot be told, and a loss would be trained with other weights than it has"
        )
    alone, *others = found
    ratios = [x / alone for x in others]
    kinds: tuple[Kind, ...] = ("sum", "mean of rows", "mean of row means", "mean of tokens")
    for kind in kinds:
        reduction = Reduction(kind)
        first = reduction.scales(ALONE)[0]
        expected = [first / reduction.scales(rows)[0] for rows in (LONGER, BOTH, BOTH)]
        if all(abs(ratio / x - 1) < 0.02 for ratio, x in zip(ratios, expected, strict=True)):
            return reduction
    raise InputError(
        f"the server's gradient is no sum and no mean that is known: the norm of one gradient is {alone:.4g} alone, "
        f"{others[0]:.4g} in a longer row, {others[1]:.4g} beside another row, {others[2]:.4g} in two requests"
    )
