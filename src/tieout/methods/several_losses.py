"""A weighted sum of DPO's losses, as one method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Batch, Outputs
from .dpo import DPO


class WeightedLoss(NamedTuple):
    """One of DPO's losses, and how much it counts."""

    weight: float
    method: DPO


@dataclass(frozen=True)
class SeveralLosses(DPO):
    """DPO with several of its losses at once; a cross entropy is `rpo_alpha`."""

    parts: tuple[WeightedLoss, ...] = ()

    def compare(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The sum of the weighted losses; the metrics are the same for all of them."""
        losses, metrics = zip(*(part.method.compare(outputs, batch) for part in self.parts), strict=True)
        total = torch.stack([part.weight * loss for part, loss in zip(self.parts, losses, strict=True)]).sum()
        return total, metrics[0]
